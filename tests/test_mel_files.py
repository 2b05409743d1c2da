"""Mels in files of others: each kind and layout gives the mel of the .npy; damaged and hostile files are refused."""

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
import small
import soundfile
from array_files import BFLOAT16, WRITERS, framed, safetensors_bytes, torch_bytes

import fwn
from fwn.errors import UserError
from fwn.files import arrays
from fwn.mel import PRESETS, check_mels, read_mels

CONTRACT = PRESETS["flowavenet"]
MEL = np.random.default_rng(0).uniform(0, 1, (9, 80)).astype(np.float32)
OTHER = MEL[:5, ::-1]


def refusal(file, name=None):
    """The message with which a file is refused, which is one line that begins with its path."""
    with pytest.raises(UserError) as error:
        read_mels(file, CONTRACT, name)
    message = str(error.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    return message.removeprefix(f"{file}: ")


LAYOUTS = {
    "frames first": lambda mel: mel,
    "bands first": lambda mel: np.ascontiguousarray(mel.T),
    "transposed view": lambda mel: mel.T,
    "batch of one": lambda mel: mel[None],
    "batch of one, bands first": lambda mel: mel.T[None],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_and_layout_is_the_mel_of_the_npy(kind, layout, tmp_path):
    for dtype in ("float16", "float32", "float64", BFLOAT16):
        if dtype is BFLOAT16 and kind.endswith((".npy", ".npz")):  # NumPy's files do not have it
            continue
        given = LAYOUTS[layout](MEL.astype(dtype))
        WRITERS[kind](tmp_path / kind, given)
        (read,) = read_mels(tmp_path / kind, CONTRACT)
        np.testing.assert_array_equal(read, MEL.astype(dtype).astype(np.float32), strict=True)


@pytest.mark.parametrize("kind", sorted(WRITERS.keys() - {"list.pt"}))
def test_batches_are_several_mels(kind, tmp_path):
    for batch in (np.stack([MEL, MEL[::-1]]), np.stack([MEL.T, MEL[::-1].T])):
        WRITERS[kind](tmp_path / kind, batch)
        first, second = read_mels(tmp_path / kind, CONTRACT)
        np.testing.assert_array_equal(first, MEL)
        np.testing.assert_array_equal(second, MEL[::-1])


SQUARE = np.random.default_rng(1).uniform(0, 1, (80, 80)).astype(np.float32)
LISTS = {  # what is saved, and the mels that it is
    "lengths": ([MEL, OTHER], [MEL, OTHER]),
    "tuple": ((MEL, OTHER), [MEL, OTHER]),
    "layouts": ([MEL, OTHER.T], [MEL, OTHER]),
    "batches of one": ([MEL[None], OTHER.T[None]], [MEL, OTHER]),
    "frames": (list(MEL), [MEL]),
    "by name": ({"mels": [MEL, OTHER], "lengths": np.array([9, 5])}, [MEL, OTHER]),
    "square beside bands last": ([SQUARE, MEL], [SQUARE, MEL]),
    "square beside bands first": ([MEL.T, SQUARE.T], [MEL, SQUARE]),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", LISTS)
def test_lists_of_tensors(name, legacy, tmp_path):
    saved, expected = LISTS[name]
    (tmp_path / "a.pt").write_bytes(torch_bytes(saved, legacy))
    for found, mel in zip(read_mels(tmp_path / "a.pt", CONTRACT), expected, strict=True):
        np.testing.assert_array_equal(found, mel)


DICT = {"mel": MEL, "other": OTHER, "pitch": MEL[:, 0], "linear": np.zeros((9, 513), np.float32)}


def save_dict(file, values):
    match file.suffix:
        case ".npz":
            np.savez(file, **values)
        case ".safetensors":
            file.write_bytes(safetensors_bytes(values))
        case _:
            file.write_bytes(torch_bytes(values))


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors"])
def test_arrays_by_name(suffix, tmp_path):
    """A name is needed only if several arrays can be mels; the message lists them with their shapes."""
    file = tmp_path / f"a{suffix}"
    save_dict(file, DICT)
    for name in ("mel", "other"):
        np.testing.assert_array_equal(read_mels(file, CONTRACT, name)[0], DICT[name])
    shown = "'mel' [9, 80], 'other' [5, 80], 'pitch' [9], 'linear' [9, 513]"
    assert refusal(file) == f"2 of its arrays can be mels of {CONTRACT.title}; name one by --mel_key, of {shown}"
    assert refusal(file, "mell") == f"0 of its arrays are called 'mell'; name one by --mel_key, of {shown}"
    assert refusal(file, "pitch").startswith("a mel has the shape")
    save_dict(file, {name: DICT[name] for name in ("mel", "pitch", "linear")} | {"n": np.arange(80)[None]})
    np.testing.assert_array_equal(read_mels(file, CONTRACT)[0], MEL)
    save_dict(file, {"linear": DICT["linear"]})
    assert refusal(file).startswith("the mel has the shape [9, 513]")


def test_names_in_nested_dicts(tmp_path):
    file = tmp_path / "a.pt"
    file.write_bytes(torch_bytes({"a": {"b": MEL, "c": OTHER}, "utterances": [{"mel": MEL}, {"mel": OTHER}]}))
    for name, mel in {"a.b": MEL, "a.c": OTHER, "utterances.1.mel": OTHER}.items():
        np.testing.assert_array_equal(read_mels(file, CONTRACT, name)[0], mel)
    file.write_bytes(torch_bytes({"a": {"b": MEL}, "a.b": OTHER}))
    assert refusal(file, "a.b").startswith("2 of its arrays are called 'a.b'")


def test_a_name_does_not_matter_where_arrays_have_none(tmp_path):
    for kind in ("plain.npy", "tensor.pt", "list.pt"):
        WRITERS[kind](tmp_path / kind, MEL)
        np.testing.assert_array_equal(read_mels(tmp_path / kind, CONTRACT, "mel")[0], MEL)


@pytest.mark.parametrize(
    "shape", [(), (80,), (2, 1, 9, 80), (2, 9, 40), (0, 9, 80), (2, 80, 80), (3, 1, 80), (3, 80, 1)]
)
@pytest.mark.parametrize("kind", ["plain.npy", "plain.npz", "tensor.pt", "plain.safetensors"])
def test_what_is_no_mel_is_refused(kind, shape, tmp_path):
    """3 × 1 × 80 is three mels of a frame, or three frames of a batch of one, which nothing tells apart."""
    WRITERS[kind](tmp_path / kind, np.zeros(shape, np.float32))
    assert refusal(tmp_path / kind)
    WRITERS[kind](tmp_path / kind, np.zeros((9, 80), np.int64))
    assert refusal(tmp_path / kind).endswith("this is int64")


# -- the program


@pytest.fixture(scope="module")
def sampled(run, tmp_path_factory):
    """The folder into which fwn.sample writes files that `write(folder)` makes."""

    def sample(write, *flags):
        folder = tmp_path_factory.mktemp("mels")
        write(folder / "in")
        result = small.program("fwn.sample", f"--ckpt={run}", f"--mel={folder / 'in'}", f"--output={folder}", *flags)
        assert (result.code, result.err) == (0, ""), result
        return folder

    return sample


def written(writers):
    def write(folder):
        folder.mkdir()
        for name, array in writers.items():
            WRITERS[name](folder / name, array)

    return write


def test_the_audio_is_that_of_the_npy(sampled):
    """Bit by bit, for each kind that is alone in a folder."""
    expected = (sampled(written({"plain.npy": MEL})) / "plain.wav").read_bytes()
    for kind in ("packed.npz", "tensor.pt", "legacy.pth", "plain.safetensors"):
        folder = sampled(written({kind: MEL.T[None]}))
        assert (folder / f"{Path(kind).stem}.wav").read_bytes() == expected, kind


def test_several_mels_are_numbered_and_have_noise_of_their_own(sampled, run):
    """As a list has in Python. The seed of a file is its place; names of arrays are given by --mel_key."""

    def write(folder):
        folder.mkdir()
        np.save(folder / "a.npy", MEL)
        (folder / "b.pt").write_bytes(torch_bytes({"x": [MEL, OTHER, MEL[::-1]], "y": MEL}))
        np.savez(folder / "c.npz", x=np.stack([MEL, MEL]), y=OTHER)

    folder = sampled(write, "--mel_key=x", "--seed=3", "--temperature=0.5")
    names = ["a", "b-000", "b-001", "b-002", "c-000", "c-001"]
    assert sorted(path.name for path in folder.glob("*.wav")) == [f"{name}.wav" for name in names]
    vocoder = fwn.load(run)
    expected = [vocoder(MEL, 0.5, jax.random.fold_in(jax.random.key(3), 0))]
    expected += vocoder([MEL, OTHER, MEL[::-1]], 0.5, jax.random.fold_in(jax.random.key(3), 1))
    expected += vocoder([MEL, MEL], 0.5, jax.random.fold_in(jax.random.key(3), 2))
    for name, audio in zip(names, expected, strict=True):
        steps = soundfile.read(folder / f"{name}.wav", dtype="int16")[0]
        np.testing.assert_array_equal(steps, np.clip(np.rint(audio * 32768), -32768, 32767))


# -- damaged and hostile files


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_cut_off_anywhere_is_refused(kind, tmp_path):
    file = tmp_path / kind
    WRITERS[kind](file, MEL[:2])
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        assert refusal(file)


def test_more_bytes_than_stated_are_refused(tmp_path):
    for kind in ("plain.npy", "plain.safetensors"):
        WRITERS[kind](tmp_path / kind, MEL)
        (tmp_path / kind).write_bytes((tmp_path / kind).read_bytes() + b"\0")
        assert "bytes follow" in refusal(tmp_path / kind)


class Call:
    """An object whose unpickling calls a function."""

    def __reduce__(self):
        return os.system, ("touch executed",)


def test_nothing_is_executed(tmp_path, monkeypatch):
    """Objects in a .npz beside a mel are not looked at."""
    monkeypatch.chdir(tmp_path)
    objects = np.array([Call()], object)
    np.save(tmp_path / "a.npy", objects)
    np.savez(tmp_path / "b.npz", objects=objects)
    (tmp_path / "c.pt").write_bytes(torch_bytes({"mel": MEL, "hook": Call()}))
    (tmp_path / "d.pth").write_bytes(torch_bytes([MEL, Call()], legacy=True))
    reasons = {"a.npy": "object", "b.npz": "no array is in it", "c.pt": "posix.system", "d.pth": "posix.system"}
    for name, reason in reasons.items():
        assert reason in refusal(tmp_path / name)
    np.savez(tmp_path / "e.npz", objects=objects, mel=MEL)
    np.testing.assert_array_equal(read_mels(tmp_path / "e.npz", CONTRACT)[0], MEL)
    assert not (tmp_path / "executed").exists()


TWO = {"mel": MEL, "n": np.arange(3)}
LIES = {  # of safetensors headers: what is written, and what the message says
    "a huge header": ((2**62).to_bytes(8, "little") + b"{}", "its header is to have 4611686018427387904 bytes"),
    "no object": (framed(b"[1]"), "its header is no JSON object"),
    "no JSON": (framed(b"{]"), "Expecting property name"),
    "no UTF-8": (framed(b'"\xff"'), "can't decode byte 0xff"),
    "nested": (framed(b"[" * 100_000), "recursion"),
    "huge number": (framed(b'{"a":' + b"9" * 5000 + b"}"), "digits"),
    "twice": (framed(b'{"a":{"dtype":"F32","dtype":"F64"}}'), "a name comes twice"),
    "no offsets": (framed(b'{"a":{"dtype":"F32","shape":[1]}}') + b"\0" * 4, "data_offsets"),
    "other dtype": (safetensors_bytes(TWO, dtype="F4"), "F4"),
    "short dtype": (safetensors_bytes(TWO, dtype="F16"), "has 1440 bytes from 0 on, but states 0 to 2880"),
    "larger shape": (safetensors_bytes(TWO, shape=[10**9, 80]), "has 320000000000 bytes from 0 on"),
    "overflow": (safetensors_bytes(TWO, shape=[2**62, 2**62, 0, 80]), "has 0 bytes"),
    "many axes": (safetensors_bytes(TWO, shape=[1] * 70), "has shape"),
    "negative shape": (safetensors_bytes(TWO, shape=[-9, -80]), "has shape [-9, -80]"),
    "fraction": (safetensors_bytes(TWO, shape=[9.0, 80]), "has shape [9.0, 80]"),
    "truth": (safetensors_bytes(TWO, shape=[True, 720]), "has shape [True, 720]"),
    "overlap": (safetensors_bytes(TWO, data_offsets=[8, 2888]), "from 0 on, but states 8 to 2888"),
    "gap": (safetensors_bytes(TWO, shape=[8, 80], data_offsets=[0, 2560]), "from 2560 on, but states 2880"),
    "beyond the end": (
        safetensors_bytes({"mel": MEL}, shape=[10, 80], data_offsets=[0, 3200]),
        "states 0 to 3200 of 2880",
    ),
    "backwards": (safetensors_bytes(TWO, data_offsets=[2880, 0]), "states"),
    "many offsets": (safetensors_bytes(TWO, data_offsets=[0, 2880, 2880]), "too many values"),
    "text": (safetensors_bytes(TWO, shape="80"), "has shape 80"),
}


@pytest.mark.parametrize("lie", LIES)
def test_lying_safetensors_are_refused(lie, tmp_path):
    content, reason = LIES[lie]
    (tmp_path / "a.safetensors").write_bytes(content)
    message = refusal(tmp_path / "a.safetensors")
    assert message.startswith("not a safetensors file (")
    assert reason in message


def packed(content: bytes, stated: int) -> bytes:
    """A .npz of one array, which states that it unpacks to so many bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mel.npy", content)
    return file.getvalue().replace(len(content).to_bytes(4, "little"), stated.to_bytes(4, "little"))


def packed_tensor(elements: int, stated: int) -> bytes:
    """A tensor of PyTorch in a storage that states that it unpacks to so many bytes."""
    whole = torch_bytes(np.zeros(elements, np.float32), compression=zipfile.ZIP_DEFLATED)
    return whole.replace((4 * elements).to_bytes(4, "little"), stated.to_bytes(4, "little"))


def shared(levels: int) -> list:
    """A list of one list a thousand times, which is a list of one list a thousand times, and so on."""
    value = [MEL, 1]
    for _ in range(levels):
        value = [value] * 1000
    return value


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


SIZE = 2**28
BOMBS = {  # small files that would take much, or would never end
    "honest.npz": lambda: packed(bytes(SIZE), SIZE),
    "lying.npz": lambda: packed(bytes(SIZE), 1000),
    "large.npz": lambda: packed(npy(MEL), 2**31),
    "lying.pt": lambda: packed_tensor(SIZE // 4, 12),
    "large.pt": lambda: packed_tensor(720, 2**31),
    "shared.pt": lambda: torch_bytes(shared(60)),
    "shared, not deep.pt": lambda: torch_bytes(shared(6)),
    "same.pt": lambda: torch_bytes([np.full((80, 500), 0.5, np.float32)] * 100_000),
    "same by name.pt": lambda: torch_bytes({"a": [MEL] * 50_000, "b": [[MEL] * 50_000 + [1]] * 50_000}),
}
READ = """
import re, sys
from pathlib import Path
from fwn.errors import UserError
from fwn.mel import PRESETS, read_mels
def peak():  # not ru_maxrss, which begins with that of the parent process
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
before = peak()
for path in sys.argv[1:]:
    try:
        mels = read_mels(Path(path), PRESETS["flowavenet"])
    except UserError as error:
        assert str(error).startswith(path) and "\\n" not in str(error), error
        print(Path(path).name, "refused")
    else:
        print(Path(path).name, len(mels))
print((peak() - before) // 1024)
"""


def test_small_files_take_neither_memory_nor_time(tmp_path):
    """All of them in one process, which ends in 60 s and grows by less than 200 MiB."""
    for name, make in BOMBS.items():
        (tmp_path / name).write_bytes(make())
        assert (tmp_path / name).stat().st_size < 2**20, name
    command = [sys.executable, "-c", READ, *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    *ends, growth = done.stdout.splitlines()
    assert {end for end in ends if not end.endswith("refused")} == {"shared, not deep.pt 1"}
    assert int(growth) < 200


def test_what_compresses_well_is_read(tmp_path):
    """A .npz may have 16 MiB, whatever it is packed to: padding, and mels of silence."""
    np.savez_compressed(tmp_path / "a.npz", np.zeros((50_000, 80), np.float32))
    assert read_mels(tmp_path / "a.npz", CONTRACT)[0].shape == (50_000, 80)


def test_unknown_archives_are_refused(tmp_path):
    file = tmp_path / "a.npz"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("mel.npy", npy(MEL))
    assert "mel.npy is compressed by method 12" in refusal(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("mel.npy", npy(MEL))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("mel.npy", npy(OTHER))
    assert "two arrays are called 'mel'" in refusal(file)
    file.write_bytes(torch_bytes(MEL))
    assert refusal(file).startswith("no array is in it")
    WRITERS["plain.npz"](file, MEL)
    file.rename(tmp_path / "a.pt")
    assert "without PyTorch's data.pkl" in refusal(tmp_path / "a.pt")


def test_the_header_of_safetensors_is_what_is_read(tmp_path):
    """All types, in any order of names and offsets, with tensors of no elements."""
    values = {"b": np.int8([[1, -1]]), "a": np.array([True]), "e": np.zeros((0, 3), np.float16), "c": np.float64(2)}
    whole = safetensors_bytes(values)
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    file = tmp_path / "a.safetensors"
    reordered = json.dumps(dict(sorted(header.items()))).encode() + b"   "
    file.write_bytes(framed(reordered) + whole[8 + length :])
    found = arrays.read(file)
    assert list(found) == ["a", "b", "c", "e"]
    for name, value in values.items():
        np.testing.assert_array_equal(found[name], value, strict=True)


def test_a_square_mel_alone_is_not_clear():
    with pytest.raises(UserError, match="not clear which axis is which"):
        check_mels([SQUARE], CONTRACT, "m")
    with pytest.raises(UserError, match="not clear which axis is which"):
        check_mels([SQUARE, MEL, OTHER.T], CONTRACT, "m")
