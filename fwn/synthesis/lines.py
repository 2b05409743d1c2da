"""The tones that a model makes of silence (docs/tones.md), to be removed: what repeats in every mel frame, no more."""

import numpy as np
import numpy.typing as npt

FRAMES = 256  # mel frames of silence to measure
SURE = 12.0  # noise alone has a line above so many times its variance in one of 160,000 cases: exp(-12)

Array = npt.NDArray[np.floating]


def stationary(audio: Array, period: int) -> Array:
    """What of audio [n · period] repeats after `period` samples and is not there by chance, float64 [period].

    Its spectrum has lines at multiples of rate / period only. The line of a bin is the mean of this bin over periods;
    it counts if its power is above SURE times the variance of that mean.
    """
    spectra = np.fft.rfft(audio.astype(np.float64).reshape(-1, period), axis=1)
    lines = spectra.mean(axis=0)
    variance = np.square(np.abs(spectra - lines)).mean(axis=0) / len(spectra)
    return np.fft.irfft(np.where(np.square(np.abs(lines)) > SURE * variance, lines, 0), period)
