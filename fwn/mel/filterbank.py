"""Triangular mel filters on Slaney's scale (Auditory Toolbox, 1998) or HTK's."""

from functools import cache

import numpy as np
import numpy.typing as npt

from fwn.errors import UserError


def hz_to_mel(hz: npt.ArrayLike, scale: str = "slaney") -> np.ndarray:
    """Hertz -> mel. Slaney's scale has 3 mel per 200 Hz below 1 kHz, and 27 mel per factor of 6.4 above."""
    hz = np.asarray(hz, np.float64)
    if scale == "htk":
        return 2595 * np.log10(1 + hz / 700)
    return np.where(hz < 1000, hz * 3 / 200, 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4))


def mel_to_hz(mel: npt.ArrayLike, scale: str = "slaney") -> np.ndarray:
    """The inverse of `hz_to_mel`."""
    mel = np.asarray(mel, np.float64)
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


@cache
def filterbank(
    sample_rate: int,
    n_fft: int,
    bands: int,
    fmin: float,
    fmax: float,
    scale: str = "slaney",
    norm: str | None = "slaney",
) -> np.ndarray:
    """Weights [bands, 1 + n_fft // 2] float64, equal to librosa.filters.mel. norm "slaney": filters of equal area."""
    lowest, highest = hz_to_mel([fmin, fmax], scale)
    edges = mel_to_hz(np.linspace(lowest, highest, bands + 2), scale)[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    hz = np.linspace(0, sample_rate / 2, 1 + n_fft // 2)
    bank = np.maximum(0, np.minimum((hz - low) / (centre - low), (high - hz) / (high - centre)))
    if norm == "slaney":
        bank *= 2 / (high - low)
    bank.setflags(write=False)
    return bank


def checked_filterbank(sample_rate: int, n_fft: int, bands: int, fmin: float, fmax: float) -> np.ndarray:
    """`filterbank`. Raises UserError if fmax exceeds half the sample rate, or if a band has no bin of the spectrum."""
    if fmax > sample_rate / 2:
        raise UserError(
            f"mel bands up to {fmax:g} Hz need a sample rate of at least {2 * fmax:g} Hz, got {sample_rate} Hz; "
            "use recordings with a higher sample rate"
        )
    bank = filterbank(sample_rate, n_fft, bands, fmin, fmax)
    if not bank.any(axis=1).all():
        raise UserError(
            f"{bands} mel bands are too narrow for n_fft {n_fft} at {sample_rate} Hz: no bin of the spectrum is in "
            f"band {bank.any(axis=1).argmin()}; use a larger n_fft, fewer bands or a lower sample rate"
        )
    return bank
