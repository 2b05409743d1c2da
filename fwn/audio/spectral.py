"""Short-time spectra and mel bands: what the objective metrics measure with, and the losses of the students.

Audio is [..., T]; a spectrogram is [..., frames, bins]. Frames are centred on the multiples of hop (librosa's and
torch's center=True), so frames = 1 + T // hop. xp: numpy, or jax.numpy where a gradient is wanted.
"""

from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fwn.errors import UserError

Array = npt.NDArray[np.float64]


def hann(n: int) -> Array:
    """Periodic Hann window [n] (the symmetric one, np.hanning, does not overlap-add to a constant)."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)


Pad = Literal["reflect", "constant"]


def stft(audio: Any, n_fft: int, hop: int, pad_mode: Pad = "reflect", xp: Any = np) -> Any:
    """Complex STFT of audio [..., T] with a Hann window of n_fft samples -> [..., 1 + T // hop, n_fft // 2 + 1].

    Beyond both ends lies the audio's mirror image (torch.stft's default) or, "constant", zeros (librosa's).
    """
    edges = [(0, 0)] * (audio.ndim - 1) + [(n_fft // 2, n_fft // 2)]
    starts = np.arange(0, audio.shape[-1] + 1, hop)
    frames = xp.pad(audio, edges, mode=pad_mode)[..., starts[:, None] + np.arange(n_fft)]
    return xp.fft.rfft(frames * hann(n_fft).astype(audio.dtype), axis=-1)


def stft_magnitude(audio: npt.NDArray[np.floating], n_fft: int, hop: int, pad_mode: Pad = "reflect") -> Array:
    """|STFT| of audio [T], in float64."""
    return np.abs(stft(audio.astype(np.float64), n_fft, hop, pad_mode))


LINE_FFT = 4096


def line_excess(audio: Any, xp: Any = np) -> Any:
    """FloWaveNet's tones: how far the long-term spectrum stands out at j/16 of the sample rate, j = 1…7, dB [..., 7].

    Power |STFT|² (n_fft 4096, hop 1024, zeros beyond the ends) averaged over time; at each line the largest of the bin
    and its two neighbours against the median of the 64 bins that lie 9-40 away.
    """
    power = xp.square(xp.abs(stft(audio, LINE_FFT, LINE_FFT // 4, "constant", xp))).mean(axis=-2)
    power = xp.maximum(power, 1e-12)  # far below 16-bit noise, 1e-7
    lines = np.arange(1, 8)[:, None] * (LINE_FFT // 16)
    beside = np.r_[-40:-8, 9:41]
    return 10 * xp.log10(
        power[..., lines + np.arange(-1, 2)].max(axis=-1) / xp.median(power[..., lines + beside], axis=-1)
    )


# Slaney's mel scale (Auditory Toolbox, 1998): linear below 1 kHz, 27 steps per factor 6.4 above.
_HZ_PER_MEL, _BREAK_HZ, _LOG_STEP = 200 / 3, 1000.0, np.log(6.4) / 27


def hz_to_mel(hz: npt.ArrayLike) -> Array:
    """Hertz -> Slaney mels, elementwise."""
    hz = np.asarray(hz, np.float64)
    above = np.log(np.maximum(hz, _BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    return np.minimum(hz, _BREAK_HZ) / _HZ_PER_MEL + above


def mel_to_hz(mel: npt.ArrayLike) -> Array:
    """Slaney mels -> hertz, elementwise."""
    mel = np.asarray(mel, np.float64)
    break_mel = _BREAK_HZ / _HZ_PER_MEL
    return np.minimum(mel, break_mel) * _HZ_PER_MEL * np.exp(np.maximum(mel - break_mel, 0) * _LOG_STEP)


@cache
def mel_filterbank(sample_rate: int, n_fft: int, bands: int, f_min: float, f_max: float) -> Array:
    """Triangular Slaney bands of equal area -> [n_fft // 2 + 1, bands], to be multiplied from the right.

    Equal to librosa.filters.mel(htk=False, norm="slaney").T. UserError where the sample rate does not reach f_max,
    or where bands are so narrow that no bin of the spectrum falls into one.
    """
    if f_max > sample_rate / 2:
        raise UserError(
            f"mel bands up to {f_max:g} Hz need a sample rate of at least {2 * f_max:g} Hz, got {sample_rate} Hz; "
            "use recordings of a higher rate"
        )
    edges = mel_to_hz(np.linspace(hz_to_mel(f_min), hz_to_mel(f_max), bands + 2))
    bins = np.fft.rfftfreq(n_fft, 1 / sample_rate)[:, None]
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.minimum((bins - lower) / (centre - lower), (upper - bins) / (upper - centre))
    bank = np.maximum(triangles, 0) * 2 / (upper - lower)
    if not bank.any(axis=0).all():
        raise UserError(
            f"{bands} mel bands are too narrow for n_fft {n_fft} at {sample_rate} Hz: no bin of the spectrum lies in "
            f"band {bank.any(axis=0).argmin()}; use a larger n_fft, fewer bands or a lower sample rate"
        )
    bank.setflags(write=False)
    return bank
