"""Files of arrays as NumPy, PyTorch (in both formats) and safetensors write them, without the latter two."""

import io
import json
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import ml_dtypes
import numpy as np

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
STORAGES = {"<f4": "FloatStorage", "<f8": "DoubleStorage", "<f2": "HalfStorage", "<i8": "LongStorage"}
SAFETENSORS = {"<f4": "F32", "<f8": "F64", "<f2": "F16", "<i8": "I64", "|i1": "I8", "|b1": "BOOL"}


class Storage:
    def __init__(self, array: np.ndarray):
        self.array = array


class TorchPickler(pickle.Pickler):
    """Arrays become tensors, each with a storage of its own; `storages` collects their elements."""

    def __init__(self, file: Any, torch: Any):
        super().__init__(file, protocol=2)
        self.torch, self.storages = torch, list[np.ndarray]()

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return NotImplemented
        bands_first = value.flags.f_contiguous and not value.flags.c_contiguous  # a transposed view of its storage
        base = value.T if bands_first else np.asarray(value, order="C")
        strides = tuple(step // value.itemsize for step in (value if bands_first else base).strides)
        return self.torch["torch._utils"]._rebuild_tensor_v2, (
            Storage(base.reshape(-1)),
            0,
            value.shape,
            strides,
            False,
            OrderedDict(),
        )

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, Storage):
            return None
        name = "BFloat16Storage" if value.array.dtype == BFLOAT16 else STORAGES[value.array.dtype.str]
        self.storages.append(value.array)
        return "storage", getattr(self.torch["torch"], name), str(len(self.storages) - 1), "cpu", value.array.size


def torch_bytes(value: Any, legacy: bool = False, compression: int = zipfile.ZIP_STORED) -> bytes:
    """What torch.save writes for arrays in plain containers."""
    torch, inner = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in [*STORAGES.values(), "BFloat16Storage"]:
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    exec("def _rebuild_tensor_v2(): pass", vars(inner))
    modules = {"torch": torch, "torch._utils": inner}
    pickled = io.BytesIO()
    with mock.patch.dict(sys.modules, modules):
        pickler = TorchPickler(pickled, modules)
        pickler.dump(value)
    content = io.BytesIO()
    if legacy:
        for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(part, content, protocol=2)
        content.write(pickled.getvalue())
        pickle.dump([str(i) for i in range(len(pickler.storages))], content, protocol=2)
        for array in pickler.storages:
            content.write(array.size.to_bytes(8, "little") + array.tobytes())
    else:
        with zipfile.ZipFile(content, "w") as file:
            file.writestr("archive/data.pkl", pickled.getvalue())
            file.writestr("archive/byteorder", "little")
            for i, array in enumerate(pickler.storages):
                file.writestr(f"archive/data/{i}", array.tobytes(), compression)
    return content.getvalue()


def safetensors_bytes(arrays: dict[str, np.ndarray], **changes: Any) -> bytes:
    """What safetensors.numpy.save writes. changes: other entries of the first tensor's header."""
    header: dict[str, Any] = {"__metadata__": {"format": "np"}}
    data = b""
    for name, array in arrays.items():
        content = np.ascontiguousarray(array).tobytes()
        dtype = "BF16" if array.dtype == BFLOAT16 else SAFETENSORS[array.dtype.str]
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(content)],
        }
        data += content
    header[next(iter(arrays))] |= changes
    return framed(json.dumps(header).encode()) + data


def framed(header: bytes) -> bytes:
    """A safetensors header with its length."""
    return len(header).to_bytes(8, "little") + header


def _npy(file: Path, array: np.ndarray) -> None:
    np.save(file, array)


WRITERS: dict[str, Callable[[Path, np.ndarray], Any]] = {  # by extension; the name before it tells them apart
    "plain.npy": _npy,
    "plain.npz": lambda file, array: np.savez(file, mel=array),
    "packed.npz": lambda file, array: np.savez_compressed(file, mel=array),
    "tensor.pt": lambda file, array: file.write_bytes(torch_bytes(array)),
    "legacy.pth": lambda file, array: file.write_bytes(torch_bytes(array, legacy=True)),
    "packed.pt": lambda file, array: file.write_bytes(torch_bytes(array, compression=zipfile.ZIP_DEFLATED)),
    "dict.PT": lambda file, array: file.write_bytes(torch_bytes({"mel": array, "text": "a"})),
    "nested.pt": lambda file, array: file.write_bytes(torch_bytes({"out": [{"mel": array}, 22050]})),
    "list.pt": lambda file, array: file.write_bytes(torch_bytes([array])),
    "plain.safetensors": lambda file, array: file.write_bytes(safetensors_bytes({"mel": array})),
}
