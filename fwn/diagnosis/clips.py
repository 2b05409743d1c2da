"""Measures one clip of a data set: level, offset, quiet and clipped parts. Pure functions of NumPy arrays."""

from typing import NamedTuple

import numpy as np

from fwn.mel import MelContract, mel_spectrogram

QUIET = 1e-3  # RMS of a frame, -60 dB of full scale
RUN = 3  # samples in a row at the highest level: a waveform of speech does not stay there
STEP = 1 / 32768  # of 16-bit audio
NEAR = 128  # samples on each side of the highest, which are compared first
ALIKE = 0.999  # correlation of two copies, of which one may be quieter and rounded


class Clip(NamedTuple):
    """level: RMS in dB of full scale. offset: |mean| relative to the RMS. clipped: share of samples in flat tops.

    quiet: share of frames below QUIET. finite: whether all samples and mel values are. top: index of the highest
    sample. span: from the lowest to it, which another level or other silence around a clip do not change.
    """

    level: float
    offset: float
    clipped: float
    quiet: float
    finite: bool
    top: int = 0
    span: int = 0


def measured(audio: np.ndarray, mel: np.ndarray, hop: int) -> Clip:
    """audio: float32 [frames · hop]. mel: [frames, n_mels]."""
    finite = bool(np.isfinite(audio).all() and np.isfinite(mel).all())
    if not finite:
        return Clip(0.0, 0.0, 0.0, 0.0, False)
    power = np.square(audio.reshape(-1, hop), dtype=np.float64).mean(axis=1)
    rms = float(np.sqrt(power.mean()))
    return Clip(
        level=20 * np.log10(max(rms, 1e-10)),
        offset=abs(float(audio.mean(dtype=np.float64))) / max(rms, 1e-10),
        clipped=flat_tops(audio),
        quiet=float((power < QUIET**2).mean()),
        finite=True,
        top=int(np.argmax(audio)),
        span=int(np.argmax(audio)) - int(np.argmin(audio)),
    )


def flat_tops(audio: np.ndarray) -> float:
    """Share of samples that are in runs of at least RUN samples at the largest magnitude, to one 16-bit step."""
    magnitude = np.abs(audio)
    peak = magnitude.max(initial=0.0)
    if peak < QUIET:
        return 0.0
    ends = np.flatnonzero(np.diff(np.concatenate([[False], magnitude >= peak - STEP, [False]]).astype(np.int8)))
    lengths = ends[1::2] - ends[::2]
    return float(lengths[lengths >= RUN].sum()) / len(audio)


def is_copy(a: np.ndarray, top_a: int, b: np.ndarray, top_b: int) -> bool:
    """Whether two stored clips [T] are the same recording, up to level and silence around it. top: their Clip.top."""
    shift = top_a - top_b
    a, b, top = a[max(shift, 0) :], b[max(-shift, 0) :], min(top_a, top_b)
    near, n = slice(max(top - NEAR, 0), top + NEAR), min(len(a), len(b))
    return _alike(a[:n][near], b[:n][near]) and _alike(a[:n], b[:n])


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    a, b = a.astype(np.float64), b.astype(np.float64)
    sizes = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    return min(sizes) > 0 and float(a @ b) > ALIKE * sizes[0] * sizes[1]


def as_recorded(audio: np.ndarray, samples: int, contract: MelContract) -> np.ndarray:
    """Stored audio without what fwn.mel.align padded it with. samples: of the recording."""
    missing = max(len(audio) - samples, 0)
    before = missing // 2 if contract.alignment == "half" else 0
    return audio[before : before + samples]


def mel_difference(audio: np.ndarray, mel: np.ndarray, samples: int, contract: MelContract) -> float:
    """Mean |stored mel - mel of the stored audio|, relative to the contract's range of values.

    samples: of the recording. Frames at both ends are not compared.
    """
    again = mel_spectrogram(as_recorded(audio, samples, contract), contract)
    edge = -(-contract.n_fft // contract.hop_length)
    inside = slice(edge, min(len(again), len(mel)) - edge)
    low, high = contract.value_range
    return float(np.abs(again[inside] - mel[inside]).mean()) / (high - low) if len(mel[inside]) else 0.0
