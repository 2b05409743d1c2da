"""Files of PyTorch 2.13 in its two formats (golden/torch_{zip,legacy}.pth), and damaged and malicious files."""

import contextlib
import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from fwn.errors import UserError
from fwn.files import torch_reader

GOLDEN = Path(__file__).parent / "golden"
FORMATS = ("zip", "legacy")


@pytest.mark.parametrize("form", FORMATS)
def test_tensors(form):
    saved = torch_reader.read(GOLDEN / f"torch_{form}.pth")
    a = np.arange(24, dtype=np.float32).reshape(4, 6)
    expected = {
        "float": a,
        "transposed": a.T,
        "slice": a[1:3, ::2],
        "expanded": np.float32([[0, 1, 2]] * 2),
        "double": np.linspace(0, 1, 3),
        "half": np.float16([1.5, -2]),
        "bfloat16": np.asarray([1.5, -2], ml_dtypes.bfloat16),
        "long": np.int64([[2**40]]),
        "bool": np.array([True, False]),
        "scalar": np.float32(7),
        "empty": np.zeros((0, 3), np.float32),
        "parameter": np.float32([3]),
    }
    tensors = saved.pop("state_dict")
    assert list(tensors) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(tensors[name], value, strict=True)
        assert not tensors[name].flags.writeable
    groups = [{"lr": 1e-3, "betas": (0.9, 0.999), "amsgrad": False, "params": [0, 1]}]
    assert saved == {"optimizer": {"param_groups": groups}, "global_step": 700_000, "shape": (4, 6), "none": None}


@pytest.mark.parametrize("form", FORMATS)
def test_cut_off(form, tmp_path):
    """A file truncated at any length raises UserError."""
    whole = (GOLDEN / f"torch_{form}.pth").read_bytes()
    path = tmp_path / "cut.pth"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut.pth: (not a PyTorch file|damaged or cut off|refers to)"):
            torch_reader.read(path)


@pytest.mark.parametrize("form", FORMATS)
def test_damaged(form, tmp_path):
    """With any byte changed, a file is read or raises UserError, and no tensor exceeds its storage."""
    whole = (GOLDEN / f"torch_{form}.pth").read_bytes()
    path = tmp_path / "damaged.pth"
    rng = np.random.default_rng(0)
    outcomes = set()
    for at, flip in zip(rng.integers(len(whole), size=500), rng.integers(1, 256, size=500), strict=True):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ int(flip)]) + whole[at + 1 :])
        with contextlib.suppress(UserError, AttributeError):  # it may be another container now
            outcomes.add("refused")
            for value in torch_reader.read(path).get("state_dict", {}).values():
                np.array(value)  # touches every element
            outcomes.add("read")
    assert outcomes == {"refused", "read"}


def test_a_flipped_bit_of_a_storage_is_refused(tmp_path):
    """The zip format has checksums; the older one has none."""
    whole = (GOLDEN / "torch_zip.pth").read_bytes()
    at = whole.index(np.arange(24, dtype=np.float32).tobytes())
    for byte in range(at, at + 96, 5):
        (tmp_path / "a.pth").write_bytes(whole[:byte] + bytes([whole[byte] ^ 1]) + whole[byte + 1 :])
        with pytest.raises(UserError, match=r"a.pth: damaged or cut off \(ValueError: .* not have its checksum\)"):
            torch_reader.read(tmp_path / "a.pth")


class Call:
    """An object whose unpickling calls a function."""

    def __init__(self, function, *args):
        self.parts = function, args

    def __reduce__(self):
        return self.parts


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("hostile", "named"),
    [
        (Call(os.system, "touch executed"), "posix.system"),
        (Call(eval, "open('executed', 'w')"), "__builtin__.eval"),
        (Call(getattr, {}, "keys"), "__builtin__.getattr"),
        (np.zeros(3), "numpy"),
        (Path("x"), "pathlib"),
    ],
)
def test_nothing_is_executed(form, hostile, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "hostile.pth"
    write(path, form, {"state_dict": hostile})
    with pytest.raises(
        UserError, match=rf"hostile.pth: refers to {named}.*; only tensors and plain containers are read"
    ):
        torch_reader.read(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["hostile.pth"]


def write(path: Path, form: str, saved: object, machine: dict | None = None) -> None:
    """Writes a checkpoint without tensors in a format of PyTorch."""
    machine = machine or {"little_endian": True}
    if form == "legacy":
        parts = (0x1950A86A20F9469CFC6C, 1001, machine, saved, [])
        path.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in parts))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(saved, protocol=2))
            archive.writestr("archive/byteorder", "little" if machine["little_endian"] else "big")


def archive(pickled: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A checkpoint in the zip format, with one storage of three floats."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/data/0", np.float32([0, 1, 2]).tobytes())
    return content.getvalue()


def word(text: str) -> bytes:
    return b"X" + len(text).to_bytes(4, "little") + text.encode()


def tensor(size: bytes, stride: bytes) -> bytes:
    """{"w": a tensor in the storage}, in opcodes."""
    storage = b"(" + word("storage") + b"ctorch\nFloatStorage\n" + word("0") + word("cpu") + b"K\x03tQ"
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + size + stride + b"tR"
    return b"\x80\x02}" + word("w") + rebuilt + b"s."


NESTED = b")" + b"2\x86" * 60  # a tuple of two equal tuples, sixty deep
HUGE = b"\x8a\x06" + (2**40).to_bytes(6, "little")
HOSTILE = {  # what each made the reader do before it had limits
    "compressed": archive(b"\x80\x02" + word("a" * 2**27) + b".", zipfile.ZIP_DEFLATED),  # 128 MiB, and any more
    "bytearray": archive(b"\x80\x05\x96" + (6 << 30).to_bytes(8, "little") + b"."),  # 6 GiB
    "key": archive(b"\x80\x02}" + NESTED + b"K\x01s."),  # never ends, like the next four
    "key of many": archive(b"\x80\x02}(" + NESTED + b"K\x01u."),
    "key of pairs": archive(b"\x80\x02ccollections\nOrderedDict\n](" + NESTED + b"K\x01\x86e\x85R."),
    "storage": archive(b"\x80\x02(" + NESTED + NESTED + NESTED + b"K\x00K\x00tQ."),
    "key in a dict": archive(b"\x80\x02(" + NESTED + b"K\x01d."),
    "copies": archive(  # 20,000 copies of 100,000 items
        b"\x80\x02]("
        + b"K\x01" * 100_000
        + b"e0]("
        + b"ctorch\nSize\n]("
        + b"K\x01" * 100_000
        + b"eq\x01\x85R"
        + b"ctorch\nSize\nh\x01\x85R" * 20_000
        + b"e."
    ),
    "stride": archive(tensor(HUGE + b"\x85", b"K\x00\x85\x85")),  # 2^40 items
    "repeated": archive(tensor(HUGE + b"\x85", b"K\x00\x85")),
    "tensor in a tensor": archive(
        b"\x80\x02}"
        + word("w")
        + b"ctorch._utils\n_rebuild_tensor_v2\n("
        + tensor(b"K\x30\x85", b"K\x00\x85")[len(b"\x80\x02}" + word("w")) : -2]  # 48 times the first of 3 elements
        + b"K\x00"
        + b"K\x30\x85"
        + b"K\x01\x85"
        + b"tRs."
    ),
    "set": archive(b"\x80\x04\x8f(" + NESTED + b"\x90."),
    "frozen set": archive(b"\x80\x04(" + NESTED + b"\x91."),
    "instance": archive(b"\x80\x02(ctorch\nSize\no."),
}
READ = """
import re, sys
from fwn.errors import UserError
from fwn.files import torch_reader
def peak():  # not ru_maxrss, which begins with that of the parent process
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
before = peak()
for path in sys.argv[1:]:
    try:
        torch_reader.read(path)
    except UserError as error:
        assert str(error).startswith(path) and "\\n" not in str(error), error
    else:
        raise AssertionError(path)
print((peak() - before) // 1024)
"""


def test_small_files_take_neither_memory_nor_time(tmp_path):
    """All of them in one process, which ends in 30 s and grows by less than 300 MiB."""
    for name, content in HOSTILE.items():
        (tmp_path / f"{name}.pth").write_bytes(content)
        assert len(content) < 2**20, name
    command = [sys.executable, "-c", READ, *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300
