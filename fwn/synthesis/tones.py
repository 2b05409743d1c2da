"""The constant tones of a model: the part of its silence that repeats (docs/tones.md)."""

import numpy as np
import numpy.typing as npt

FRAMES = 256  # mel frames of silence to measure, at least
PERIODS = 64  # of the tones in it, at least
THRESHOLD = 20.5  # a real part alone is above so many variances in 6 of a million cases, a complex one more rarely

Array = npt.NDArray[np.floating]


def stationary(audio: Array, period: int) -> Array:
    """The tones in audio [n · period] with a period of `period` samples, float64 [period], without chance and offset.

    Their spectrum has lines at multiples of rate / period only. The line of a bin is the mean of this bin over the n
    periods. It counts if its power is above THRESHOLD variances of that mean, by the scatter of the periods.
    """
    spectra = np.fft.rfft(audio.astype(np.float64).reshape(-1, period), axis=1)
    lines = spectra.mean(axis=0)
    variance = np.square(np.abs(spectra - lines)).mean(axis=0) / len(spectra)
    lines[0] = 0
    return np.fft.irfft(np.where(np.square(np.abs(lines)) > THRESHOLD * variance, lines, 0), period)
