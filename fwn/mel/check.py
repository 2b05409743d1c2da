"""Mels from outside: what is no mel of a contract is refused, with both contracts shown."""

import numpy as np

from fwn.errors import UserError
from fwn.mel.convention import PRESETS, MelContract


def difference(a: MelContract, b: MelContract) -> str:
    """Both contracts as columns of a table, the differing rows marked, for error messages."""
    left, right = a.to_dict(), b.to_dict()
    rows = [("", a.title, b.title, "")]
    for key in left:
        if key != "name":
            rows.append((key, str(left[key]), str(right[key]), "" if left[key] == right[key] else "<- differs"))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = (
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]).rstrip() for row in rows
    )
    return "\n".join(f"  {line}" for line in lines)


def check_mel(array: np.ndarray, contract: MelContract, source: str, bands_last: bool | None = None) -> np.ndarray:
    """A mel from outside -> float32 [frames, n_mels], or UserError beginning with `source`.

    Takes [frames, n_mels] or [n_mels, frames], told apart by the band count (or by `bands_last`). Values may leave the
    contract's range by 5% of it, as the output of an acoustic model does, and are returned as they are.
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
            f"{source}: {n} frames of {n} bands read both ways; add or drop a frame, to tell the bands from the frames"
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
            f"{source}: values {mel.min():.4g} … {mel.max():.4g} are no mel of {contract.title}, {reason}; it looks"
            f" like {looks}. Make the mel with the convention of the model, {contract.name}{tables}"
        )
    return mel


def _implausible(mel: np.ndarray, contract: MelContract) -> str:
    """Why no audio has this mel under the contract, or ''."""
    low, high = contract.value_range
    slack = 0.05 * (high - low)
    if mel.min() < low - slack or mel.max() > high + slack:
        return f"whose values are within {low:.4g} … {high:.4g}"
    # By Parseval the mean |STFT|² of audio within ±1 is at most Σ window², which bands of unit area turn into about 1:
    # no sound reaches ln S = 0 in all bands of all frames. A mel that does is normalised, as flowavenet's to 0 … 1.
    if contract.compression == "ln" and mel.min() >= 0:
        return "whose values are natural logarithms, mostly negative"
    return ""
