"""Errors of fwn.convert: files of PyTorch, and models that cannot be converted."""

import contextlib
import fcntl
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from fwn.mel import PRESETS

from . import CONVERT, Place, Row, write

PTH = "{here}/a.pth --output={here}/out"


def archive(
    saved: object, order: str = "little", compression: int = zipfile.ZIP_STORED, name: str = "data.pkl"
) -> bytes:
    """A file in PyTorch's zip format, without tensors."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as file:
        file.writestr(f"archive/{name}", saved if isinstance(saved, bytes) else pickle.dumps(saved, protocol=2))
        file.writestr("archive/byteorder", order)
    return content.getvalue()


def legacy(saved: object, little: bool = True) -> bytes:
    """The same in the older format."""
    parts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": little}, saved, [])
    return b"".join(pickle.dumps(part, protocol=2) for part in parts)


def locked(place: Place) -> Any:
    """As another process would, which converts to the same folder."""
    folder = place.here / "out" / ".unfinished"
    folder.mkdir(parents=True)
    return held(folder)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    lock = os.open(folder, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield
    os.close(lock)


def changed(name: str, old: bytes, new: bytes) -> Callable[[Place], None]:
    """An official checkpoint with other bytes of as many in its pickle."""

    def make(place: Place) -> None:
        content = io.BytesIO()
        with zipfile.ZipFile(place.shelf["golden"] / f"{name}.pth") as golden, zipfile.ZipFile(content, "w") as file:
            for info in golden.infolist():
                part = golden.read(info)
                if info.filename.endswith("data.pkl"):
                    assert old in part
                    part = part.replace(old, new)
                file.writestr(info.filename, part)
        (place.here / "a.pth").write_bytes(content.getvalue())

    return make


class Hostile:
    def __reduce__(self) -> Any:
        return eval, ("print()",)


def pth(content: bytes) -> Callable[[Place], None]:
    return write("a.pth", content)


def word(text: str) -> bytes:
    return b"X" + len(text).to_bytes(4, "little") + text.encode()


def narrow(place: Place) -> None:
    write("mel.json", json.dumps(PRESETS["flowavenet"].to_dict() | {"n_mels": 40}))(place)


STORAGE = b"\x80\x02(" + word("file") + b"ctorch\nFloatStorage\n" + word("0") + word("cpu") + b"K\x03tQ."
MODEL = "{golden}/flowavenet_tiny.pth --output={here}/out "
STUDENT = "{golden}/clarinet_tiny_student.pth --output={here}/out "
FOLDER = ("out", "out/checkpoints")
ROWS = [
    Row(
        CONVERT,
        "{golden}/flowavenet_tiny.pth",
        "--output is missing; give it (--help lists the flags)",
        code=2,
    ),
    Row(CONVERT, "--output={here}/out", "give one checkpoint to convert (official.pth), got 0"),
    Row(
        CONVERT, "a.pth b.pth --output={here}/out", "give one checkpoint to convert (official.pth), got 2: a.pth b.pth"
    ),
    Row(CONVERT, MODEL + "--stacks=0", "flag --stacks=0: 0 is not a positive integer (--help lists the flags)", code=2),
    Row(
        CONVERT,
        MODEL + "--mel_contract=hifigam",
        f"--mel_contract: no preset is called 'hifigam'; did you mean 'hifigan'? (presets: {', '.join(PRESETS)})",
    ),
    Row(CONVERT, PTH, "{here}/a.pth: no such file; give a file of torch.save (.pt, .pth)"),
    Row(CONVERT, "{golden} --output={here}/out", "{golden}: is a folder; give a file of torch.save (.pt, .pth)"),
    Row(
        CONVERT,
        PTH,
        "{here}/a.pth: not a PyTorch file (it begins with b'<html>40'); give a file of torch.save",
        pth(b"<html>404</html>"),
    ),
    Row(CONVERT, PTH, "{here}/a.pth: not a PyTorch file (it begins with b''); give a file of torch.save", pth(b"")),
    Row(
        CONVERT,
        PTH,
        ("{here}/a.pth: damaged or cut off (BadZipFile: File is not a zip file); copy or download it again"),
        pth(archive({})[:-10]),
    ),
    Row(
        CONVERT, PTH, "{here}/a.pth: damaged or cut off (EOFError: ); copy or download it again", pth(legacy({})[:-10])
    ),
    Row(CONVERT, PTH, "{here}/a.pth: holds a list, not a dict; save the model's state_dict()", pth(archive([1]))),
    Row(
        CONVERT,
        PTH,
        "{here}/a.pth: refers to __builtin__.eval; only tensors and plain containers are read; save "
        "those alone, of a model its state_dict()",
        pth(archive(Hostile())),
    ),
    Row(
        CONVERT,
        PTH,
        "{here}/a.pth: was saved on a big-endian machine; save it again on a little-endian one",
        pth(archive({}, "big")),
    ),
    Row(
        CONVERT,
        PTH,
        "{here}/a.pth: was saved on a big-endian machine; save it again on a little-endian one",
        pth(legacy({}, little=False)),
    ),
    Row(
        CONVERT,
        PTH,
        "{here}/a.pth: has a file in an unsupported form; save it again with a newer PyTorch",
        pth(archive(STORAGE)),
    ),
    Row(
        CONVERT,
        PTH,
        "{here}/a.pth: its compressed entries are over 16 times as large as the file",
        pth(archive("a" * 2**24, compression=zipfile.ZIP_DEFLATED)),
    ),
    Row(
        CONVERT,
        PTH,
        "{here}/a.pth: its data.pkl is compressed, as torch.save does not do it; save it again",
        pth(archive({}, compression=zipfile.ZIP_DEFLATED)),
    ),
    Row(
        CONVERT,
        PTH,
        "{here}/a.pth: a zip file without PyTorch's data.pkl; give a file of torch.save",
        pth(archive({}, name="readme.txt")),
    ),
    Row(
        CONVERT,
        PTH,
        ("{here}/a.pth: has no state dict (tensors by name, alone or in `state_dict`); give a training checkpoint"),
        pth(archive({"step": 3})),
    ),
    Row(
        CONVERT,
        "{golden}/torch_zip.pth --output={here}/out",
        "{golden}/torch_zip.pth: not an official model that can be converted: it lacks "
        "blocks.0.flows.0.coupling.net.front_conv.0.conv.weight_v",
    ),
    Row(
        CONVERT,
        PTH,
        "{here}/a.pth: not an official model that can be converted: it lacks "
        "blocks.0.flows.0.coupling.net.front_conv.0.conv.bias, "
        "blocks.0.flows.1.coupling.net.front_conv.0.conv.bias, "
        "blocks.1.flows.0.coupling.net.front_conv.0.conv.bias, "
        "blocks.1.flows.1.coupling.net.front_conv.0.conv.bias and 3 more",
        changed("flowavenet_tiny", b"front_conv.0.conv.bias", b"front_conv.0.conv.bios"),
    ),
    Row(
        CONVERT,
        PTH,
        "{here}/a.pth: its global_step is -1; it must be a whole number in 0 … 2^31 - 1",
        changed("flowavenet_tiny", (700_000).to_bytes(4, "little"), b"\xff" * 4),
    ),
    Row(
        CONVERT,
        MODEL + "--mel_contract={here}/mel.json",
        "{golden}/flowavenet_tiny.pth: takes mels with 80 bands, but --mel_contract={here}/mel.json has "
        "40; name another",
        narrow,
    ),
    Row(
        CONVERT,
        "{golden}/clarinet_tiny_teacher.pth --output={here}/out --stacks=3",
        ("{golden}/clarinet_tiny_teacher.pth: has 4 layers, which cannot be 3 equal stacks; give the right --stacks"),
    ),
    Row(
        CONVERT,
        STUDENT,
        "{golden}/clarinet_tiny_student.pth: is a ClariNet student, which needs the mel upsampling of "
        "its teacher; convert the teacher first, then give its folder: --teacher=DIR",
    ),
    Row(
        CONVERT,
        STUDENT + "--teacher={here}/none",
        "{here}/none: no such folder; give a workdir of fwn.train or an output folder of fwn.convert",
    ),
    Row(
        CONVERT,
        STUDENT + "--teacher={run}",
        "--teacher={run} is a flowavenet; a ClariNet student's teacher is a wavenet",
    ),
    Row(
        CONVERT,
        STUDENT + "--teacher={wavenet} --mel_contract=hifigan",
        "--teacher={wavenet} has the mel contract flowavenet (a13bd5d9b250), --mel_contract=hifigan is "
        "hifigan (3c96768fd3c8)",
    ),
    Row(
        CONVERT,
        MODEL + "--teacher={wavenet}",
        ("--teacher={wavenet}: {golden}/flowavenet_tiny.pth is a flowavenet, which does not use one; leave it out"),
    ),
    Row(
        CONVERT,
        MODEL,
        "{here}/out: another process is writing there; wait for it, or name another folder",
        locked,
    ),
    Row(CONVERT, "{golden}/flowavenet_tiny.pth --output={run}", "{run}: holds a run already; give another --output"),
    Row(
        CONVERT,
        "{golden}/flowavenet_tiny.pth --output={here}/file",
        "{here}/file: exists already; give another --output",
        write("file", "x"),
    ),
    Row(
        CONVERT,
        MODEL,
        "{here}/out/.unfinished/checkpoints: no room for the checkpoint of step 700000: it may take 1.8 MiB, and "
        "0.0 MiB are free; the earlier ones are in place: free some space and run the same command again",
        lambda _: mock.patch("shutil.disk_usage", return_value=mock.Mock(free=0)),
        creates=FOLDER,
    ),
    Row(
        CONVERT,
        MODEL,
        "{here}/out/.unfinished/checkpoints: a checkpoint could not be saved ([Errno 28] No space left on device); "
        "the earlier ones are in place: check that the disk has room and is writable, and run the same "
        "command again",
        lambda _: mock.patch(
            "orbax.checkpoint.v1.training.Checkpointer.save_checkpointables_async",
            side_effect=OSError(28, "No space left on device"),
        ),
        creates=FOLDER,
    ),
]
