"""Reads files of `torch.save` without PyTorch, and without executing code from the file.

A .pth is a pickle, and unpickling can call any function that the file names. Here only tensors, their storages and
plain containers are allowed. Both formats are read: the zip file (PyTorch 1.6 and later) and the older sequence of
pickles, which the official checkpoints of 2018-2019 use (PyTorch: torch/serialization.py, _save and _legacy_save).
"""

import io
import math
import pickle
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import ml_dtypes
import numpy as np

from fwn.errors import UserError
from fwn.files.bounds import LARGEST, mapped, zip_entry

Storage = Callable[[str, np.dtype], np.ndarray]  # (key, dtype) -> all elements of a storage, flat

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


def read(path: str | Path) -> Any:
    """What was saved: a tensor, or containers of them. Tensors are read-only NumPy arrays, memory-mapped from the file.

    Raises UserError if the file is missing, not of PyTorch, truncated, or has objects that are not allowed.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise UserError(f"{path}: {what}; give a file of torch.save (.pt, .pth)")
    with open(path, "rb") as file:
        head = file.read(len(LEGACY_MAGIC))
        if head != LEGACY_MAGIC and not head.startswith(b"PK\x03\x04"):
            raise UserError(f"{path}: not a PyTorch file (it begins with {head[:8]!r}); give a file of torch.save")
        data = mapped(file)
        try:
            return (_legacy if head == LEGACY_MAGIC else _zip)(file, data, path)
        except UserError:
            raise
        except Exception as error:  # a damaged pickle or zip can raise any exception
            why = f"{type(error).__name__}: {error}"
            raise UserError(f"{path}: damaged or cut off ({why}); copy or download it again") from error


class Plain(OrderedDict[Any, Any]):
    """A dict with plain keys: the hash of nested tuples that share their parts can take for ever.

    A number of thousands of digits has no text for messages.
    """

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(key, str | int | float | None):
            raise ValueError(f"a {type(key).__name__} as a key")
        if isinstance(key, int) and abs(key) >= 2**64:
            raise ValueError("a key of over 64 bits")
        super().__setitem__(key, value)


class Unpickler(pickle._Unpickler):
    """Allows tensors, storages and plain containers only, of which the file can have as many as it has bytes.

    storage(key, dtype) returns the elements of a storage as a flat array; tensor(storage, offset, size, stride, ...)
    returns a tensor in it. The base class is the Python unpickler: in the C one, a single damaged byte (a memo index)
    can allocate tens of gigabytes.
    """

    # Opcodes that make objects of classes, or allocate what the file only states, are not in files of torch.save.
    dispatch: ClassVar[Any] = {
        code: load
        for code, load in pickle._Unpickler.dispatch.items()
        if bytes([code])
        not in (
            *(pickle.BYTEARRAY8, pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX),
            *(pickle.DICT, pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET),
        )
    }

    def __init__(self, file: BinaryIO, path: Path, storage: Storage, tensor: Callable[..., Any]) -> None:
        super().__init__(file)
        self.path, self.storage, self.tensor = path, storage, tensor
        self.copies = path.stat().st_size  # items that may still be copied from one container to another

    def load_empty_dictionary(self: Any) -> None:
        self.append(Plain())

    def load_build(self: Any) -> None:
        """Attributes (`_metadata` of a state dict) are not needed."""
        self.stack.pop()

    dispatch |= {pickle.EMPTY_DICT[0]: load_empty_dictionary, pickle.BUILD[0]: load_build}

    def copied(self, kind: Callable[..., Any]) -> Callable[..., Any]:
        """`kind`, of containers of which all copies together are not larger than the file."""

        def make(items: Any = ()) -> Any:
            self.copies -= len(items)
            if self.copies < 0:
                raise ValueError("more containers than the file can have")
            return kind(items)

        return make

    def find_class(self, module: str, name: str) -> Any:
        if not name:
            raise EOFError("the file ends within a name")
        allowed: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): self.copied(Plain),
            ("torch", "Size"): self.copied(tuple),
            ("torch._utils", "_rebuild_tensor"): self.tensor,
            ("torch._utils", "_rebuild_tensor_v2"): self.tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        }
        if (module, name) in allowed:
            return allowed[module, name]
        if module == "torch" and name in STORAGES:
            return name
        raise UserError(
            f"{self.path}: refers to {module}.{name}; only tensors and plain containers are read; save those "
            "alone, of a model its state_dict()"
        )

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, name, key, _location, _elements, *view = pid
        if not all(isinstance(word, str) for word in (kind, name, key)):
            raise ValueError("a storage without a name")
        if kind != "storage" or any(view):
            raise UserError(f"{self.path}: has a {kind} in an unsupported form; save it again with a newer PyTorch")
        return self.storage(key, STORAGES[name])


def _tensor(storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> np.ndarray:
    """A view of a storage. Offset and stride are in elements. Checks the bounds, which as_strided does not."""
    if not isinstance(storage, np.ndarray) or storage.ndim != 1 or storage.strides != (storage.itemsize,):
        raise ValueError("a tensor in something that is no storage")
    if not all(type(n) is int for n in (offset, *size, *stride)):
        raise ValueError("a tensor whose shape is not of whole numbers")
    if math.prod(size) > LARGEST * max(1, len(storage)):
        raise ValueError(f"a tensor of shape {size} repeats {len(storage)} stored elements")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or (0 not in size and last >= len(storage)):
        raise ValueError(f"a tensor of shape {size} reaches beyond its {len(storage)} stored elements")
    bytes_ = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, bytes_, writeable=False)


def _zip(_: BinaryIO, data: np.ndarray, path: Path) -> Any:
    """The zip format: folder/data.pkl, and one uncompressed entry folder/data/KEY per storage."""
    with zipfile.ZipFile(path) as archive:
        entries = {name.partition("/")[2]: name for name in archive.namelist()}
        packed = [info for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]
        most = LARGEST * len(data)
        if sum(info.file_size for info in packed) > most:
            raise UserError(f"{path}: its compressed entries are over {LARGEST} times as large as the file")
        if "data.pkl" not in entries:
            raise UserError(f"{path}: a zip file without PyTorch's data.pkl; give a file of torch.save")
        if "byteorder" in entries and zip_entry(archive, archive.getinfo(entries["byteorder"]), most) != b"little":
            raise UserError(f"{path}: was saved on a big-endian machine; save it again on a little-endian one")

        pickled = archive.getinfo(entries["data.pkl"])
        if pickled.compress_type != zipfile.ZIP_STORED:
            raise UserError(f"{path}: its data.pkl is compressed, as torch.save does not do it; save it again")
        contents: dict[str, np.ndarray] = {}

        def content(info: zipfile.ZipInfo) -> np.ndarray:
            """The bytes of an entry, memory-mapped if they are not compressed."""
            if info.compress_type != zipfile.ZIP_STORED:
                return np.frombuffer(zip_entry(archive, info, most), np.uint8)
            header = data[info.header_offset + 26 :][:4].view("<u2")  # lengths of the file name and the extra field
            start = info.header_offset + 30 + int(header.sum(dtype=np.int64))
            stored = data[start : start + info.file_size]
            if zlib.crc32(stored.data) != info.CRC:
                raise ValueError(f"{info.filename} does not have its checksum")
            return stored

        def storage(key: str, dtype: np.dtype) -> np.ndarray:
            if key not in contents:
                contents[key] = content(archive.getinfo(entries[f"data/{key}"]))
            return contents[key].view(dtype)

        return Unpickler(io.BytesIO(zip_entry(archive, pickled, len(data))), path, storage, _tensor).load()


def _legacy(file: BinaryIO, data: np.ndarray, path: Path) -> Any:
    """The legacy format: pickles of magic number, version, machine, object and storage keys; then lengths and data.

    The object is read twice. The first pass collects the storages' types, without which their positions are unknown.
    """
    dtypes: dict[str, np.dtype] = {}
    storages: dict[str, np.ndarray] = {}

    def load(storage: Storage = lambda key, dtype: storages[key], tensor: Callable[..., Any] = _tensor) -> Any:
        return Unpickler(file, path, storage, tensor).load()

    def record_dtype(key: str, dtype: np.dtype) -> np.ndarray:
        dtypes[key] = dtype
        return np.empty(0, dtype)

    file.seek(0)
    _magic, _version, machine = load(), load(), load()
    if not machine["little_endian"]:
        raise UserError(f"{path}: was saved on a big-endian machine; save it again on a little-endian one")
    start = file.tell()
    load(record_dtype, lambda *_: None)
    keys = load()
    if not all(isinstance(key, str) for key in keys):
        raise ValueError("a storage without a name")
    at = file.tell()
    for key in keys:
        elements = int(data[at : at + 8].view("<i8")[0])
        at, begin = at + 8 + elements * dtypes[key].itemsize, at + 8
        if elements < 0 or at > len(data):
            raise ValueError(f"storage {key} ends at byte {at} of {len(data)}")
        storages[key] = data[begin:at].view(dtypes[key])
    file.seek(start)
    return load()
