"""How well a mel agrees with the mel of its recording: by the contract, how its values map, how far it is shifted."""

from typing import NamedTuple

import numpy as np

from fwn.mel.compression import nats, plain_mel
from fwn.mel.convention import MelContract
from fwn.mel.spectrogram import align, mel_spectrogram, to_peak

SHIFTS = np.arange(-4, 5) / 2  # frames
LEAST = 8  # common frames
# What the blurred mels of acoustic models keep: correlation, slope (or its inverse), mean value in nats.
CORRELATION, SLOPE, BIAS = 0.5, 1.4, 0.35


class Agreement(NamedTuple):
    """mel[i] ≈ slope · reference[i + shift] + offset, where the reference is the mel of the recording.

    frames: of the reference. shift: frames, in halves; positive: the mel is early. correlation: of the values without
    each band's mean, at that shift. error: root mean square of mel - reference. bias: mean of mel - reference, in nats
    of a band's value. All but frames of mels without normalisation by mean and scale.
    """

    frames: int
    shift: float
    correlation: float
    slope: float
    offset: float
    error: float
    bias: float

    @property
    def same(self) -> bool:
        """Whether the mel may have the convention of the reference: it is not shifted, scaled or moved.

        The mel of an acoustic model is blurred, so only large differences count.
        """
        return (
            self.shift == 0
            and self.correlation > CORRELATION
            and 1 / SLOPE < self.slope < SLOPE
            and abs(self.bias) < BIAS
        )


def agreement(mel: np.ndarray, audio: np.ndarray, contract: MelContract) -> Agreement | None:
    """Of a mel [F, M] and the recording [T] at the contract's rate. None without enough common frames, or values."""
    plain, unit = contract.plain, nats(contract)
    mel, contract = plain_mel(mel, contract), plain
    references = {0.0: align(audio, contract)[1], 0.5: _half_a_frame_later(audio, contract)}
    best = None
    for shift in SHIFTS:
        whole, half = int(np.floor(shift)), float(shift % 1)
        reference = references[half]
        first, last = max(0, -whole), min(len(mel), len(reference) - whole)
        if last - first < LEAST:
            continue
        a, b = mel[first:last].astype(np.float64), reference[first + whole : last + whole].astype(np.float64)
        a_move, b_move = a - a.mean(axis=0), b - b.mean(axis=0)
        power = np.sqrt((a_move**2).sum() * (b_move**2).sum())
        correlation = float((a_move * b_move).sum() / power) if power > 0 else 0.0
        if best is None or correlation > best.correlation:
            slope, offset = np.polyfit(b.ravel(), a.ravel(), 1) if b.std() > 0 else (0.0, 0.0)
            error = float(np.sqrt(np.mean((a - b) ** 2)))
            bias = unit * float(a.mean() - b.mean())
            best = Agreement(len(references[0.0]), float(shift), correlation, float(slope), float(offset), error, bias)
    return best


def _half_a_frame_later(audio: np.ndarray, contract: MelContract) -> np.ndarray:
    """The mel whose frame i is centred half a hop later than that of the contract."""
    later = to_peak(audio, contract)[contract.hop_length // 2 :]
    return mel_spectrogram(np.pad(later, (0, contract.hop_length)), contract)
