"""A vector in a file of arrays, as speaker encoders write them."""

from pathlib import Path

import numpy as np

from fwn.errors import UserError
from fwn.files import arrays


def read_vector(file: Path) -> np.ndarray:
    """The only array in a file, [n] with any axes of length 1 -> float32 [n].

    Raises UserError if the file is damaged, has other arrays too, or numbers that are not finite.
    """
    value = arrays.read(file)
    if isinstance(value, dict | list | tuple):
        items = list(value.values() if isinstance(value, dict) else value)
        if len(items) != 1:
            raise UserError(f"{file}: has {len(items)} arrays; save the speaker's vector alone")
        (value,) = items
    numbers = isinstance(value, np.ndarray) and (value.dtype.kind in "fiub" or value.dtype.name == "bfloat16")
    if not numbers or value.size != max((0, *value.shape)):
        what = f"an array {list(value.shape)} of {value.dtype}" if isinstance(value, np.ndarray) else f"{type(value)}"
        raise UserError(f"{file}: is {what}; the vector of a speaker is an array of numbers [n]")
    vector = value.astype(np.float32).reshape(-1)
    if not vector.size or not np.isfinite(vector).all():
        raise UserError(f"{file}: its vector of {vector.size} numbers is empty, or not finite")
    return vector
