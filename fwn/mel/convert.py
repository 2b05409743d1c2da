"""From one mel contract to another, where the values of one determine those of the other."""

import math

import numpy as np

from fwn.errors import UserError
from fwn.mel.check import difference
from fwn.mel.compression import compress, log_bands
from fwn.mel.convention import LOGARITHMS, MelContract
from fwn.mel.spectrogram import band_weights

# Why a mel cannot be converted if a field differs. The others only change what is done to the energy of a band.
FIXED = {
    "sample_rate": "the bands are of another spectrum",
    "hop_length": "the frames are at other times",
    "n_fft": "the bands are of another spectrum",
    "win_length": "the frames hear another span of audio",
    "padding": "the frames are centred half a hop apart",
    "power": "sums of magnitudes do not determine sums of powers",
    "n_mels": "the bands are others",
    "fmin": "the bands are others",
    "fmax": "the bands are others",
    "filter_scale": "the bands are others",
    "filter_norm": "the bands are others",
}
BLURRED = 0.01  # nats


def converted(
    mel: np.ndarray, origin: MelContract, target: MelContract, gain: float | None = None
) -> tuple[np.ndarray, list[str]]:
    """(mel of the target float32 [F, M], what is not exact) from a mel of the origin [F, M].

    gain: amplitude of the target's audio relative to the origin's; it must be given if only one contract scales each
    utterance to a peak, or to another. Raises UserError if the values do not determine those of the target.
    """
    reasons = [
        f"{name} is {getattr(origin, name)} there and {getattr(target, name)} here: {reason}"
        for name, reason in FIXED.items()
        if getattr(origin, name) != getattr(target, name)
    ]
    if reasons:
        raise UserError(
            f"a mel of {origin.title} does not determine that of {target.title}: {'; '.join(reasons)}; compute it from "
            f"the recording\n{difference(origin, target)}"
        )
    if gain is None and origin.peak != target.peak:
        raise UserError(
            f"{origin.title} has peak {origin.peak} and {target.title} has peak {target.peak}, and a mel does not say "
            "how loud its recording was; give --gain, the factor from the origin's amplitude to the target's"
        )
    gain = 1.0 if gain is None else gain
    if not 0 < gain < math.inf:
        raise UserError(f"--gain={gain}: must be a positive number")
    log = log_bands(mel.astype(np.float64), origin)
    with np.errstate(over="ignore"):  # an unusual mel becomes infinite, which is refused where it is used
        bands = np.exp(log + origin.power * math.log(gain))
        found = compress(bands, target).astype(np.float32)
    return found, _inexact(log, gain, origin, target)


def lowest(contract: MelContract) -> float:
    """The least energy of a band that values of the contract can say."""
    if contract.reference_db is None or contract.min_db is None:
        return contract.floor
    return max(contract.floor, 10 ** ((contract.reference_db + contract.min_db) / 20))


def _inexact(log: np.ndarray, gain: float, origin: MelContract, target: MelContract) -> list[str]:
    """What the target's mel of the recording could have, and the converted one has not. log: nats, of the origin."""
    notes, n, least = [], log.size, lowest(origin)
    at_floor = int((log <= math.log(least) + 1e-4).sum())
    if at_floor and lowest(target) < least * gain**origin.power * (1 - 1e-6):
        notes.append(
            f"{at_floor} of {n} values are at the floor of {origin.name}, {least:g}; they stay there, where "
            f"{target.name} goes down to {lowest(target):g}"
        )
    if origin.compression not in LOGARITHMS and origin.reference_db is not None:
        at_top = int((log >= origin.reference_db * LOGARITHMS["log10"] / 20 - 1e-4).sum())
        if at_top:
            notes.append(f"{at_top} of {n} values are at the upper end of {origin.name} and may have been larger")
    added = sum(
        getattr(contract, name) ** (contract.power / 2)
        for name in ("power_epsilon", "power_floor")
        for contract in (origin, target)
        if getattr(origin, name) != getattr(target, name)
    )
    if added:
        largest = added * band_weights(origin).sum(axis=1, dtype=np.float64)  # by which a band may differ
        blurred = int((np.log1p(largest / np.exp(log)) > BLURRED).sum())
        if blurred:
            notes.append(
                f"{blurred} of {n} values are so small that power_epsilon or power_floor, which differ, may have "
                f"changed them by over {BLURRED:g} nats"
            )
    return notes
