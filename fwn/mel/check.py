"""Checks an external mel against a contract."""

from typing import Any

import numpy as np

from fwn.errors import UserError
from fwn.mel.compression import log_bands, plain_mel
from fwn.mel.convention import ADDED_LATER, LOGARITHMS, MelContract
from fwn.mel.presets import PRESETS


def difference(a: MelContract, b: MelContract) -> str:
    """A table of two contracts for error messages, with differing rows marked."""
    left, right = a.to_dict(), b.to_dict()
    later = {name: value for name, value in ADDED_LATER.items() if name in left or name in right}
    left, right = later | left, later | right
    rows = [("", a.title, b.title, "")]
    for name in [*(name for name in left if name not in later and name != "name"), *later]:
        same = left[name] == right[name]
        rows.append((name, _cell(left[name]), _cell(right[name]), "" if same else "<- differs"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(f"  {line}".rstrip() for line in lines)


def _cell(value: Any) -> str:
    return f"{value[0]:.4g} … {value[-1]:.4g}" if isinstance(value, list) else str(value)


def check_mel(array: np.ndarray, contract: MelContract, source: str, bands_last: bool | None = None) -> np.ndarray:
    """An external mel -> float32 [frames, n_mels]. Raises UserError, starting with `source`, if it cannot be one.

    array: [frames, n_mels] or [n_mels, frames], told apart by n_mels or, if given, by `bands_last`. Values may exceed
    the contract's range by 5% of it, as those of acoustic models do. They are not clipped.
    """
    array, n = np.asarray(array), contract.n_mels
    if array.dtype not in (np.float16, np.float32, np.float64):
        raise UserError(f"{source}: a mel is an array of float16, float32 or float64, this is {array.dtype}")
    if array.size == 0:
        raise UserError(f"{source}: the mel is empty, its shape is {list(array.shape)}")
    if array.ndim != 2:
        raise UserError(f"{source}: a mel has the shape [frames, {n}] or [{n}, frames], this has {list(array.shape)}")
    if n not in array.shape:
        raise UserError(f"{source}: the mel has the shape {list(array.shape)}, but {contract.title} has {n} bands")
    if array.shape == (n, n) and bands_last is None:
        raise UserError(
            f"{source}: with {n} frames and {n} bands it is not clear which axis is which; add or drop a frame"
        )
    if bands_last is None:
        bands_last = array.shape[1] == n
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite then, and refused
        mel = np.ascontiguousarray(array if bands_last else array.T, dtype=np.float32)
    if mel.shape[1] != n:
        raise UserError(f"{source}: the mel has {mel.shape[1]} bands, but {contract.title} has {n}")
    wrong = ~np.isfinite(mel)
    if wrong.any():
        frame, band = np.argwhere(wrong)[0]
        raise UserError(
            f"{source}: {wrong.sum()} of {mel.size} values are NaN or infinite, the first in frame {frame}, band {band}"
        )
    reason = implausible(mel, contract)
    if reason:
        others = [other for other in PRESETS.values() if other.n_mels == n and not implausible(mel, other)]
        looks = " or ".join(other.name for other in others) or "none of the presets"
        tables = "".join(f"\n{difference(contract, other)}" for other in others[:1])
        raise UserError(
            f"{source}: values {mel.min():.4g} … {mel.max():.4g} are not a mel of {contract.title}, {reason}; it looks"
            f" like {looks}. Compute the mel with the convention of the model, {contract.name}{tables}"
        )
    return mel


def implausible(mel: np.ndarray, contract: MelContract) -> str:
    """The reason why no audio can have this mel under the contract; "" if there is none."""
    plain = plain_mel(mel, contract)
    low, high = contract.plain.value_range
    slack = 0.05 * (high - low)
    if plain.min() < low - slack or plain.max() > high + slack:
        ends = contract.value_range
        return f"whose values are within {ends[0]:.4g} … {ends[1]:.4g}"
    # By Parseval the mean |STFT|² of audio in ±1 is at most Σ window², which bands of unit area scale to about 1. So no
    # audio has ln S >= 0 in all bands of all frames. Such a mel must be normalised, for example to 0 … 1 (flowavenet).
    unit_area = contract.filter_norm == "slaney"
    if contract.compression in LOGARITHMS and unit_area and log_bands(mel, contract).min() >= 0:
        kind = "natural" if contract.compression == "ln" else "decimal"
        return f"whose values are {kind} logarithms, mostly negative"
    return ""
