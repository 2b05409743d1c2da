"""Mels in .npy files, as acoustic models and other vocoders' tools write them."""

import math
from pathlib import Path

import numpy as np

from fwn.errors import UserError
from fwn.mel.check import check_mel
from fwn.mel.convention import MelContract


def read_mel(file: Path, contract: MelContract) -> np.ndarray:
    """The mel in a .npy file, float32 [F, M]. Raises UserError if the file is damaged, or not a mel of the contract."""
    if not file.is_file():
        raise UserError(f"{file}: {'not a file' if file.exists() else 'no such file'}")
    try:
        array = _array(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error
    except Exception as error:  # a damaged header can raise any exception
        why = " ".join(str(error).split())[:300]
        raise UserError(f"{file}: not a .npy array ({why}); write it with numpy.save") from error
    return check_mel(array, contract, str(file))


def _array(file: Path) -> np.ndarray:
    """The array in a file. Raises ValueError, before memory is allocated, unless the file has as many bytes as stated.

    numpy.load would read other files as pickles or zip archives.
    """
    with file.open("rb") as opened:
        version = np.lib.format.read_magic(opened)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in header:
            raise ValueError(f"format {version[0]}.{version[1]}")
        shape, _, dtype = header[version](opened)
        stated, there = math.prod(shape) * dtype.itemsize, file.stat().st_size - opened.tell()
        if dtype.hasobject or stated != there:
            raise ValueError(f"its header states {dtype} {list(shape)}, {stated} bytes, and {there} bytes follow")
        opened.seek(0)
        return np.lib.format.read_array(opened, allow_pickle=False)
