"""Reads .npy and .npz files. numpy.load is not used: it reads other files as pickles, and believes stated sizes."""

import io
import math
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fwn.files.bounds import LARGEST, zip_entry

SMALL = 2**24  # bytes that any .npz may have when it is unpacked: ten minutes of mels in float32


def read_npy(file: Path) -> np.ndarray:
    """The array. Raises ValueError, before memory is allocated, unless the file has as many bytes as it states."""
    with file.open("rb") as opened:
        return _array(opened, file.stat().st_size)


def read_npz(file: Path) -> dict[str, np.ndarray]:
    """The arrays by name, without those of Python objects.

    Raises ValueError if an array is damaged, or if all together have over 16 times the bytes of the file, and over
    SMALL.
    """
    most = max(SMALL, LARGEST * file.stat().st_size)
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(file) as archive:
        entries = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        if (stated := sum(info.file_size for info in entries)) > most:
            raise ValueError(f"its {file.stat().st_size} bytes unpack to {stated}, over {LARGEST} times as many")
        for info in entries:
            name, content = info.filename.removesuffix(".npy"), zip_entry(archive, info, most)
            if name in arrays:
                raise ValueError(f"two arrays are called {name!r}")
            try:
                if not _header(io.BytesIO(content))[1].hasobject:
                    arrays[name] = _array(io.BytesIO(content), len(content))
            except Exception as error:  # a damaged header can raise any exception
                raise ValueError(f"{name}: {error}") from error
    return arrays


def _header(opened: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    """(shape, dtype) of a .npy, which is then at its first element."""
    version = np.lib.format.read_magic(opened)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"format {version[0]}.{version[1]}")
    shape, _, dtype = readers[version](opened)
    return shape, dtype


def _array(opened: BinaryIO, size: int) -> np.ndarray:
    """The array of a .npy of `size` bytes."""
    shape, dtype = _header(opened)
    stated, there = math.prod(shape) * dtype.itemsize, size - opened.tell()
    if dtype.hasobject or stated != there:
        raise ValueError(f"its header states {dtype} {list(shape)}, {stated} bytes, and {there} bytes follow")
    opened.seek(0)
    return np.lib.format.read_array(opened, allow_pickle=False)
