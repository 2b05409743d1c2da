"""Mels as others give them: arrays of NumPy, JAX or PyTorch, nested lists, batches, lists of mels."""

from typing import Any

import numpy as np

from fwn.errors import UserError
from fwn.mel.check import check_mel
from fwn.mel.convention import MelContract


def as_array(value: Any, source: str) -> np.ndarray:
    """An array of any library, on any device, or a nested list -> the same numbers in NumPy; bfloat16 -> float32.

    Raises UserError, starting with `source`, if the rows of a nested list differ in length.
    """
    if isinstance(value, list | tuple):
        value = [as_array(row, source) if hasattr(row, "detach") else row for row in value]
    if hasattr(value, "detach"):  # a tensor of PyTorch, which is not imported for it
        value = value.detach().cpu()
        value = (value.float() if "bfloat16" in str(value.dtype) else value).numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise UserError(f"{source}: its rows differ in length, so it is no array; give rows of one length") from error
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def several(value: Any, most: int = 3) -> bool:
    """Whether it has three axes or more, the levels of nested lists and the axes of arrays in them together.

    So a list or tuple of arrays with two axes is a list of mels, and a list of arrays with one axis is one mel.
    """
    if isinstance(value, list | tuple):
        return most <= 1 or (bool(value) and several(value[0], most - 1))
    return np.ndim(value) >= most


def rows(value: Any, source: str) -> list[np.ndarray]:
    """The arrays [F, M] of a batch [B, F, M], or of a list whose members are [F, M] or [1, F, M]. None is checked."""
    if not isinstance(value, list | tuple):
        return list(as_array(value, source))
    arrays = [as_array(row, f"{source}: number {i}") for i, row in enumerate(value)]
    return [array[0] if array.ndim == 3 and len(array) == 1 else array for array in arrays]


def with_speaker(mel: np.ndarray, numbers: np.ndarray | None) -> np.ndarray:
    """mel [F, M] and who speaks [S], or None -> [F, M + S], as models that are told the speaker get it."""
    if numbers is None or not len(numbers):
        return mel
    return np.concatenate([mel, np.broadcast_to(numbers.astype(mel.dtype), (len(mel), len(numbers)))], axis=1)


def check_mels(value: Any, contract: MelContract, source: str) -> np.ndarray | list[np.ndarray]:
    """A mel -> float32 [F, M]; a batch [B, F, M] or [B, M, F] -> float32 [B, F, M]; a list of mels -> list of [F, M].

    Frames and bands are told apart by the number of bands. A square mel has the layout of those beside it.
    Raises UserError, starting with `source`, on what cannot be mels of the contract.
    """
    if not several(value):
        return check_mel(as_array(value, source), contract, source)
    listed = isinstance(value, list | tuple)
    if not listed:
        value = as_array(value, source)
        if value.ndim > 3 or value.size == 0:
            check_mel(value, contract, source)  # which raises
        if len(value) > 1 and 1 in value.shape[1:]:
            raise UserError(
                f"{source}: with the shape {list(value.shape)} it is not clear which axis is the batch; drop the axis "
                "of length 1, or give a list of mels"
            )
    arrays, n = rows(value, source), contract.n_mels
    layouts = {a.shape[1] == n for a in arrays if a.ndim == 2 and n in a.shape and a.shape != (n, n)}
    bands_last = layouts.pop() if len(layouts) == 1 else None
    names = [f"{source}: number {i}" for i in range(len(arrays))] if len(arrays) > 1 else [source]
    mels = [check_mel(array, contract, name, bands_last) for array, name in zip(arrays, names, strict=True)]
    return mels if listed else np.stack(mels)
