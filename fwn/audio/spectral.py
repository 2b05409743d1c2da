"""Short-time spectra for the objective metrics and the losses of student models.

Audio is [..., T]; a spectrogram is [..., frames, bins]. Frames are centred on the multiples of hop (librosa's and
torch's center=True), so frames = 1 + T // hop. xp: numpy, or jax.numpy for gradients.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def hann(n: int) -> Array:
    """Periodic Hann window [n] (the symmetric one, np.hanning, does not overlap-add to a constant)."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)


Pad = Literal["reflect", "constant"]


def stft(audio: Any, n_fft: int, hop: int, pad_mode: Pad = "reflect", xp: Any = np) -> Any:
    """Complex STFT of audio [..., T] with a Hann window of n_fft samples -> [..., 1 + T // hop, n_fft // 2 + 1].

    pad_mode: "reflect" (default of torch.stft) or "constant", which pads with zeros (default of librosa).
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
    """Level of FloWaveNet's tones: peaks of the long-term spectrum at j/16 of the sample rate, j = 1…7, in dB [..., 7].

    The spectrum is the mean over time of |STFT|² (n_fft 4096, hop 1024, zero padding). A peak is the largest of the
    three bins around the tone, relative to the median of the 64 bins at a distance of 9 to 40 bins.
    """
    power = xp.square(xp.abs(stft(audio, LINE_FFT, LINE_FFT // 4, "constant", xp))).mean(axis=-2)
    power = xp.maximum(power, 1e-12)  # far below 16-bit noise (1e-7)
    lines = np.arange(1, 8)[:, None] * (LINE_FFT // 16)
    beside = np.r_[-40:-8, 9:41]
    return 10 * xp.log10(
        power[..., lines + np.arange(-1, 2)].max(axis=-1) / xp.median(power[..., lines + beside], axis=-1)
    )
