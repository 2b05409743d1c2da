"""What a file may take in memory: not what it states, but a multiple of the bytes that it has."""

import mmap
import zipfile
from typing import BinaryIO

import numpy as np

LARGEST = 16  # times what is stored: compressed entries, and tensors that repeat their elements


def mapped(file: BinaryIO) -> np.ndarray:
    """All bytes of an open file, uint8 [bytes], read-only and memory-mapped. Raises ValueError if it is empty."""
    return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


def zip_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    """The content of an entry of a zip file, stored or deflated.

    Raises ValueError if it is to have more than `most` bytes, compressed or not, or has not as many as it states.
    """
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{info.filename} is compressed by method {info.compress_type}")
    if max(info.file_size, info.compress_size) > most:
        raise ValueError(f"{info.filename} is to have {info.file_size} bytes")
    with archive.open(info) as entry:
        content = entry.read(info.file_size)  # without a size, zlib unpacks all that is there
    if len(content) != info.file_size:
        raise ValueError(f"{info.filename} has {len(content)} of {info.file_size} bytes")
    return content
