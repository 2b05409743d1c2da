"""Reads the arrays of an HDF5 file, by the package h5py, which the extra `hdf5` installs."""

from pathlib import Path
from typing import Any

import numpy as np

from fwn.errors import UserError
from fwn.files.bounds import LARGEST

DEEPEST = 8  # groups in each other


def read(file: Path) -> dict[str, Any]:
    """The numeric arrays by name; those of a group as a dict.

    Raises UserError without h5py, and ValueError if all arrays together have over LARGEST times the bytes of the file.
    """
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{file}: reading HDF5 needs h5py; pip install h5py, or give a .npy or .npz file") from error
    most = LARGEST * file.stat().st_size

    def arrays(group: Any, depth: int) -> dict[str, Any]:
        nonlocal most
        found: dict[str, Any] = {}
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):  # which may lead to another file
                continue
            item = group[name]
            if isinstance(item, h5py.Group) and depth < DEEPEST:
                found[name] = arrays(item, depth + 1)
            elif isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu":
                most -= item.nbytes
                if most < 0:
                    raise ValueError(f"it unpacks to over {LARGEST} times its {file.stat().st_size} bytes")
                found[name] = np.asarray(item)
        return found

    with h5py.File(file, "r") as opened:
        return arrays(opened, 0)
