"""Reads what PyTorch's `torch.save` wrote, without PyTorch and without executing anything from the file.

A .pth is a pickle, and unpickling calls whatever the file names. Here it may name tensors, their storages and plain
containers; anything else is refused. Both formats are read: the zip file (PyTorch 1.6 and later) and the row of pickles
before it, which official checkpoints of 2018-2019 are (PyTorch: torch/serialization.py, _save and _legacy_save).
"""

import io
import mmap
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from fwn.errors import UserError

Storage = Callable[[str, np.dtype], np.ndarray]  # (key, dtype) -> all its elements, flat

LEGACY_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
STORAGES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


def read(path: str | Path) -> dict[str, Any]:
    """The dict that was saved; tensors are read-only NumPy arrays mapped from the file: what is not used is not read.

    Raises UserError where the file is missing, not PyTorch's, cut off, no dict, or names more than tensors and dicts.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise UserError(f"{path}: {what}; give a PyTorch checkpoint (.pth)")
    with open(path, "rb") as file:
        head = file.read(len(LEGACY_MAGIC))
        if head != LEGACY_MAGIC and not head.startswith(b"PK\x03\x04"):
            raise UserError(
                f"{path}: not a PyTorch checkpoint (it begins with {head[:8]!r}); give what torch.save wrote"
            )
        data = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        try:
            saved = (_legacy if head == LEGACY_MAGIC else _zip)(file, data, path)
        except UserError:
            raise
        except Exception as error:  # a damaged pickle or zip can raise anything
            why = f"{type(error).__name__}: {error}"
            raise UserError(f"{path}: damaged or cut off ({why}); copy or download it again") from error
    if not isinstance(saved, dict):
        raise UserError(f"{path}: holds a {type(saved).__name__}, not a dict; save the model's state_dict()")
    return saved


class Unpickler(pickle._Unpickler):  # type: ignore[name-defined]
    """Admits tensors, storages and plain containers. storage(key, dtype) gives a storage's elements as a flat array,
    and tensor(storage, offset, size, stride, ...) the tensor that lies in it.

    In Python, not in C: there, one damaged byte (a memo's index) can make it fill tens of gigabytes.
    """

    def __init__(self, file: BinaryIO, path: Path, storage: Storage, tensor: Callable[..., Any]) -> None:
        super().__init__(file)
        self.path, self.storage, self.tensor = path, storage, tensor

    def find_class(self, module: str, name: str) -> Any:
        if not name:
            raise EOFError("it ends within a name")
        admitted: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch", "Size"): tuple,
            ("torch._utils", "_rebuild_tensor"): self.tensor,
            ("torch._utils", "_rebuild_tensor_v2"): self.tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        }
        if (module, name) in admitted:
            return admitted[module, name]
        if module == "torch" and name in STORAGES:
            return name
        raise UserError(
            f"{self.path}: refers to {module}.{name}, which is neither a tensor nor a plain container, and nothing "
            "else is read from a checkpoint; save the model's state_dict() alone"
        )

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, name, key, _location, _elements, *view = pid
        if kind != "storage" or any(view):
            raise UserError(
                f"{self.path}: holds a {kind} in a form that is not read; save it again with a newer PyTorch"
            )
        return self.storage(key, STORAGES[name])


def _tensor(storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> np.ndarray:
    """The view that PyTorch's (offset, size, stride), in elements, mean; as_strided itself checks no bounds."""
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or (0 not in size and last >= len(storage)):
        raise ValueError(f"a tensor of shape {size} reaches beyond its {len(storage)} stored elements")
    bytes_ = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, bytes_, writeable=False)


def _zip(_: BinaryIO, data: np.ndarray, path: Path) -> Any:
    """folder/data.pkl, and one uncompressed entry folder/data/KEY for each storage."""
    with zipfile.ZipFile(path) as archive:
        entries = {name.partition("/")[2]: name for name in archive.namelist()}
        if "data.pkl" not in entries:
            raise UserError(f"{path}: a zip file without PyTorch's data.pkl; give what torch.save wrote")
        if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
            raise UserError(f"{path}: was saved on a big-endian machine; save it again on another")

        def storage(key: str, dtype: np.dtype) -> np.ndarray:
            info = archive.getinfo(entries[f"data/{key}"])
            if info.compress_type != zipfile.ZIP_STORED:
                return np.frombuffer(archive.read(info), dtype)
            header = data[info.header_offset + 26 :][:4].view(
                "<u2"
            )  # lengths of the name and of the padding that follow
            start = info.header_offset + 30 + int(header.sum(dtype=np.int64))
            return data[start : start + info.file_size].view(dtype)

        return Unpickler(io.BytesIO(archive.read(entries["data.pkl"])), path, storage, _tensor).load()


def _legacy(file: BinaryIO, data: np.ndarray, path: Path) -> Any:
    """Pickles of a magic number, version, machine, the object, its storages' keys; then each storage's length and data.

    Read twice: where the storages lie is known only after the object, whose pickle gives their types.
    """
    dtypes: dict[str, np.dtype] = {}
    storages: dict[str, np.ndarray] = {}

    def load(storage: Storage = lambda key, dtype: storages[key], tensor: Callable[..., Any] = _tensor) -> Any:
        return Unpickler(file, path, storage, tensor).load()

    def note(key: str, dtype: np.dtype) -> np.ndarray:
        dtypes[key] = dtype
        return np.empty(0, dtype)

    file.seek(0)
    _magic, _version, machine = load(), load(), load()
    if not machine["little_endian"]:
        raise UserError(f"{path}: was saved on a big-endian machine; save it again on another")
    start = file.tell()
    load(note, lambda *_: None)
    keys = load()
    at = file.tell()
    for key in keys:
        elements = int(data[at : at + 8].view("<i8")[0])
        at, begin = at + 8 + elements * dtypes[key].itemsize, at + 8
        if elements < 0 or at > len(data):
            raise ValueError(f"storage {key} ends at byte {at} of {len(data)}")
        storages[key] = data[begin:at].view(dtypes[key])
    file.seek(start)
    return load()
