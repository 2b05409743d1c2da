"""Reads a file of arrays by the extension of its name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from fwn.errors import UserError
from fwn.files import hdf5_reader, numpy_reader, safetensors_reader, torch_reader


class Kind(NamedTuple):
    """How files of an extension are read, what they are, and what writes them."""

    read: Callable[[Path], Any]
    what: str
    writer: str


_TORCH = Kind(torch_reader.read, "a PyTorch file", "torch.save")
KINDS = {
    ".npy": Kind(numpy_reader.read_npy, "a .npy array", "numpy.save"),
    ".npz": Kind(numpy_reader.read_npz, "a .npz archive", "numpy.savez"),
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".h5": Kind(hdf5_reader.read, "an HDF5 file", "h5py"),
    ".safetensors": Kind(safetensors_reader.read, "a safetensors file", "safetensors.numpy.save_file"),
}


def read(file: Path) -> Any:
    """An array (.npy), arrays by name (.npz, .safetensors, .h5), or what torch.save was given (.pt, .pth).

    Arrays may be read-only and memory-mapped. Raises UserError if the file is missing, damaged or of another kind.
    """
    if not file.is_file():
        raise UserError(f"{file}: {'not a file' if file.exists() else 'no such file'}")
    if (kind := KINDS.get(file.suffix.lower())) is None:
        raise UserError(f"{file}: not a file of arrays by its name; its extension is one of {', '.join(sorted(KINDS))}")
    try:
        return kind.read(file)
    except UserError:
        raise
    except Exception as error:  # a damaged header can raise any exception; h5py's OSError has no errno
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"{file}: cannot be read ({error.strerror})") from error
        why = " ".join(str(error).split())[:300]
        raise UserError(f"{file}: not {kind.what} ({why}); write it with {kind.writer}") from error
