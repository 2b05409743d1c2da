"""Which convention a mel has: by its shape and values, and with its recording by comparison with every preset."""

from collections.abc import Callable

import numpy as np

from fwn.errors import UserError
from fwn.mel.agreement import CORRELATION, Agreement, agreement
from fwn.mel.check import implausible
from fwn.mel.compression import nats
from fwn.mel.convention import LOGARITHMS, MelContract

FRAMES = 3  # by which the number of frames may differ from that of the recording
AT_FLOOR = 1e-3  # share of equal lowest values that shows a floor
NEAR = 0.15  # logarithm of a ratio of slopes; a blurred mel has a slope of about 0.9
# What a slope between two mels says.
SLOPES = {
    LOGARITHMS["log10"]: "natural logarithms instead of decimal ones",
    1 / LOGARITHMS["log10"]: "decimal logarithms instead of natural ones",
    2.0: "power instead of magnitude",
    0.5: "magnitude instead of power",
    20.0: "decibels instead of decimal logarithms",
    20 / LOGARITHMS["log10"]: "decibels instead of natural logarithms",
}


def oriented(array: np.ndarray, bands: list[int], source: str) -> list[tuple[np.ndarray, str]]:
    """A mel [F, M] or [M, F] of one of these numbers of bands -> (float32 [F, M], which axis had the bands).

    There are two if both axes could be the bands.

    The first is then the likelier: from frame to frame a mel changes less than from band to band. That is right for 19
    of 20 excerpts of speech. Raises UserError if it cannot be a mel.
    """
    if array.ndim != 2 or array.dtype.kind != "f" or array.size == 0:
        raise UserError(
            f"{source}: {array.dtype} {list(array.shape)} is not a mel; give floats [frames, bands] or [bands, frames]"
        )
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    if wrong := int((~np.isfinite(single)).sum()):
        raise UserError(f"{source}: {wrong} of {array.size} values are NaN, infinite or too large for float32")
    ways = (single, "the last"), (single.T, "the first")
    found = [(mel, axis) for mel, axis in ways if mel.shape[1] in bands]
    if not found:
        raise UserError(
            f"{source}: neither axis of {list(array.shape)} has the bands of a known contract "
            f"({', '.join(map(str, bands))}); give its contract by --mel_contract"
        )
    return sorted(found, key=lambda way: _roughness(way[0]))


def _roughness(mel: np.ndarray) -> float:
    """Mean change from one frame to the next, after each band's mean is taken away."""
    return float(np.abs(np.diff(mel - mel.mean(axis=0), axis=0)).mean()) if len(mel) > 1 else 0.0


def values(mel: np.ndarray, contracts: list[MelContract]) -> list[str]:
    """What the values [F, M] alone show, a line each. contracts: those with M bands."""
    lowest = float(mel.min())
    share = float((mel <= lowest + 1e-4).mean())
    lines = [
        f"values {lowest:.4g} … {mel.max():.4g}, mean {mel.mean():.4g}, standard deviation {mel.std():.4g}",
    ]
    if share >= AT_FLOOR:
        same = [c.name for c in contracts if c.mean is None and abs(c.value_range[0] - lowest) < 1e-3]
        whose = f", the floor of {', '.join(same)}" if same else ", the floor of no preset"
        lines.append(f"{share:.1%} of the values are the lowest one, {lowest:.5g}{whose}")
    if _normalised(mel):
        lines.append(
            "each band has a mean near 0 and a deviation near 1: it is normalised by mean and variance, and needs the "
            "statistics of its origin (python -m fwn.mel contract NAME --stats=FILE)"
        )
    for contract in contracts:
        reason = implausible(mel, contract)
        lines.append(f"{contract.name}: {'cannot be, ' + reason if reason else 'can be'}")
    return lines


def _normalised(mel: np.ndarray) -> bool:
    """Whether the bands look standardised. A whole data set's bands are; those of one utterance are nearly."""
    return bool(
        len(mel) > 50
        and np.abs(mel.mean(axis=0)).mean() < 0.5
        and 0.5 < np.median(mel.std(axis=0)) < 1.6
        and mel.min() < -0.5
    )


def compared(
    mel: np.ndarray, contracts: list[MelContract], recording: Callable[[int], np.ndarray]
) -> list[tuple[MelContract, Agreement]]:
    """The contracts whose mel of the recording has as many frames as this one [F, M], the most similar first.

    recording: sample rate -> audio [T].
    """
    found = []
    for contract in contracts:
        audio = recording(contract.sample_rate)
        one = agreement(mel, audio, contract) if len(audio) >= contract.n_fft else None
        if one is not None and abs(one.frames - len(mel)) <= FRAMES:
            found.append((contract, one))
    return sorted(found, key=lambda pair: _distance(*pair))


def _distance(contract: MelContract, found: Agreement) -> tuple[bool, float, float, float]:
    return not found.same, abs(found.shift), round(1 - found.correlation, 3), nats(contract) * found.error


def said(contract: MelContract, found: Agreement, frames: int) -> str:
    """One comparison as a line."""
    line = (
        f"{contract.name}: {'agrees' if found.same else 'differs'}; correlation {found.correlation:.3f}, values "
        f"{found.slope:.3g} × its values {'-' if found.offset < 0 else '+'} {abs(found.offset):.3g}, error "
        f"{found.error:.3g}, {frames} frames for {found.frames}"
    )
    return "; ".join([line, *remarks(contract, found)])


def remarks(contract: MelContract, found: Agreement) -> list[str]:
    """What differs, in words: shift, kind of logarithm, gain."""
    if found.correlation <= CORRELATION:
        return ["it does not follow the recording"]
    lines = []
    if found.shift:
        what = {0.5: "half a frame", 1: "1 frame"}.get(abs(found.shift), f"{abs(found.shift):g} frames")
        lines.append(f"it is {what} {'early' if found.shift > 0 else 'late'}")
    off = {meaning: abs(np.log(max(found.slope, 1e-9) / slope)) for slope, meaning in SLOPES.items()}
    likely = min(off, key=lambda meaning: off[meaning])
    if found.correlation > 0.9 and off[likely] < NEAR:
        return [*lines, f"it has {'' if off[likely] < 0.01 else 'probably '}{likely}"]
    if 0.95 < found.slope < 1.05 and found.correlation > 0.9 and abs(found.bias) > 0.02:
        lines.append(f"it is {10 ** (found.bias / LOGARITHMS['log10']):.3g} times as large: another gain or window")
    return lines
