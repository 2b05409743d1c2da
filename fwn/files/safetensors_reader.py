"""Reads .safetensors files: eight bytes with the header's length, a JSON header, and the elements of all tensors.

Format: github.com/huggingface/safetensors, README.md. The header states for each tensor dtype, shape and the range of
its bytes. Here the ranges must cover all bytes after the header once, each as long as dtype and shape say.
"""

import json
import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from fwn.files.bounds import mapped

DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    **{f"{kind}{8 * size}": np.dtype(f"<{kind.lower()}{size}") for kind in "IU" for size in (1, 2, 4, 8)},
    "BOOL": np.dtype("?"),
}
MOST_AXES, LONGEST_HEADER = 32, 10**8  # the latter as the format says


def read(file: Path) -> dict[str, np.ndarray]:
    """The tensors by name, read-only and memory-mapped. Raises ValueError if the header is not of the file's bytes."""
    with file.open("rb") as opened:
        data = mapped(opened)
    length = int.from_bytes(data[:8].tobytes(), "little")
    if not 2 <= length <= min(len(data) - 8, LONGEST_HEADER):
        raise ValueError(f"its header is to have {length} bytes, and {max(0, len(data) - 8)} bytes follow")
    header = json.loads(data[8 : 8 + length].tobytes().decode(), object_pairs_hook=_once)
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    header.pop("__metadata__", None)
    data, end = data[8 + length :], 0
    tensors: dict[str, np.ndarray] = {}
    for name, stated in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape, (start, stop) = DTYPES[stated["dtype"]], stated["shape"], stated["data_offsets"]
        if len(shape) > MOST_AXES or not all(type(n) is int and 0 <= n <= 2**63 for n in (*shape, start, stop)):
            raise ValueError(f"{name!r} has shape {shape} and bytes {start} to {stop}")
        size = math.prod(shape) * dtype.itemsize
        if start != end or stop - start != size or stop > len(data):
            raise ValueError(
                f"{name!r}, {stated['dtype']} {shape}, has {size} bytes from {end} on, but states {start} to {stop} of "
                f"{len(data)}"
            )
        tensors[name], end = data[start:stop].view(dtype).reshape(shape), stop
    if end != len(data):
        raise ValueError(f"its tensors have {end} bytes, and {len(data)} bytes follow the header")
    return {name: tensors[name] for name in header}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, of which no name comes twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice in its header")
    return found
