"""Checks an external mel against a contract."""

import numpy as np

from fwn.errors import UserError
from fwn.mel.convention import PRESETS, MelContract


def difference(a: MelContract, b: MelContract) -> str:
    """A table of two contracts for error messages, with differing rows marked."""
    left, right = a.to_dict(), b.to_dict()
    rows = [("", a.title, b.title, "")]
    rows += [(k, str(left[k]), str(right[k]), "" if left[k] == right[k] else "<- differs") for k in left if k != "name"]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(f"  {line}".rstrip() for line in lines)


def check_mel(array: np.ndarray, contract: MelContract, source: str, bands_last: bool | None = None) -> np.ndarray:
    """An external mel -> float32 [frames, n_mels]. Raises UserError, starting with `source`, if it cannot be one.

    array: [frames, n_mels] or [n_mels, frames], told apart by n_mels or, if given, by `bands_last`. Values may exceed
    the contract's range by 5% of it, as those of acoustic models do. They are not clipped.
    """
    array, n = np.asarray(array), contract.n_mels
    if array.dtype not in (np.float16, np.float32, np.float64):
        raise UserError(f"{source}: a mel is an array of float16, float32 or float64, this is {array.dtype}")
    if array.ndim != 2:
        raise UserError(f"{source}: a mel has the shape [frames, {n}] or [{n}, frames], this has {list(array.shape)}")
    if array.size == 0:
        raise UserError(f"{source}: the mel is empty, its shape is {list(array.shape)}")
    if n not in array.shape:
        raise UserError(f"{source}: the mel has the shape {list(array.shape)}, but {contract.title} has {n} bands")
    if array.shape == (n, n) and bands_last is None:
        raise UserError(
            f"{source}: with {n} frames and {n} bands it is not clear which axis is which; add or drop a frame"
        )
    if bands_last is None:
        bands_last = array.shape[1] == n
    mel = np.ascontiguousarray(array if bands_last else array.T, dtype=np.float32)
    if mel.shape[1] != n:
        raise UserError(f"{source}: the mel has {mel.shape[1]} bands, but {contract.title} has {n}")
    wrong = ~np.isfinite(mel)
    if wrong.any():
        frame, band = np.argwhere(wrong)[0]
        raise UserError(
            f"{source}: {wrong.sum()} of {mel.size} values are NaN or infinite, the first in frame {frame}, band {band}"
        )
    reason = _implausible(mel, contract)
    if reason:
        others = [other for other in PRESETS.values() if other.n_mels == n and not _implausible(mel, other)]
        looks = " or ".join(other.name for other in others) or "none of the presets"
        tables = "".join(f"\n{difference(contract, other)}" for other in others[:1])
        raise UserError(
            f"{source}: values {mel.min():.4g} … {mel.max():.4g} are not a mel of {contract.title}, {reason}; it looks"
            f" like {looks}. Compute the mel with the convention of the model, {contract.name}{tables}"
        )
    return mel


def _implausible(mel: np.ndarray, contract: MelContract) -> str:
    """The reason why no audio can have this mel under the contract; "" if there is none."""
    low, high = contract.value_range
    slack = 0.05 * (high - low)
    if mel.min() < low - slack or mel.max() > high + slack:
        return f"whose values are within {low:.4g} … {high:.4g}"
    # By Parseval the mean |STFT|² of audio in ±1 is at most Σ window², which bands of unit area scale to about 1. So no
    # audio has ln S >= 0 in all bands of all frames. Such a mel must be normalised, for example to 0 … 1 (flowavenet).
    if contract.compression == "ln" and mel.min() >= 0:
        return "whose values are natural logarithms, mostly negative"
    return ""
