"""Recordings made from held-out ones, for benchmarks/score_roc.py: splices, copies, filtered speech, no speech."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import soundfile

from fwn.audio import audio_file
from fwn.data.corpus import Corpus
from fwn.mel import MelContract, align
from fwn.mel.compression import log_bands
from fwn.mel.spectrogram import band_weights
from fwn.synthesis.vocoder import Vocoder

Array = np.ndarray
CUTS = ("hard cut", "zero crossing", "crossfade 5 ms")
FADE = 0.005  # seconds


class Item(NamedTuple):
    """Audio made from clip n; cut: sample at which it goes on in another clip."""

    kind: str
    n: int
    audio: Array
    cut: int | None = None


def spliced(a: Array, b: Array, kind: str, rate: int, rng: np.random.Generator) -> tuple[Array, int]:
    """(a until a random moment in its middle half, then b from there on; that moment)"""
    length = len(a)
    cut, on = int(rng.integers(length // 4, 3 * length // 4)), int(rng.integers(length // 4, len(b) - length))
    if kind == "zero crossing":
        cut, on = rising(a, cut), rising(b, on)
    out = np.concatenate([a[:cut], b[on:]])[:length]
    if kind == "crossfade 5 ms":
        n = int(FADE * rate)
        share, before = np.linspace(0, 1, n, dtype=np.float32), cut - n // 2
        out[before : before + n] = (1 - share) * a[before : before + n] + share * b[on - n // 2 : on - n // 2 + n]
    return out, cut


def rising(audio: Array, start: int) -> int:
    """The next sample above zero after one that is not."""
    ups = np.flatnonzero((audio[start - 1 : -1] <= 0) & (audio[start:] > 0))
    return start + int(ups[0]) if len(ups) else start


def griffin_lim(mel: Array, contract: MelContract) -> Array:
    """Audio of a mel without a model: non-negative least squares, then 60 iterations of Griffin-Lim (librosa)."""
    import librosa

    bands = np.exp(np.asarray(log_bands(mel.astype(np.float64), contract)))
    bins = librosa.util.nnls(band_weights(contract).astype(np.float64), bands.T) ** (1 / contract.power)
    sizes = {"hop_length": contract.hop_length, "win_length": contract.win_length, "n_fft": contract.n_fft}
    return librosa.griffinlim(bins, n_iter=60, random_state=0, **sizes)


def through_mp3(audio: Array, rate: int) -> Array:
    file = io.BytesIO()
    soundfile.write(file, audio, rate, format="MP3", subtype="MPEG_LAYER_III")
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0][: len(audio)]


def below(audio: Array, rate: int, hertz: int) -> Array:
    """Resampled to twice `hertz` and back."""
    import librosa

    down = librosa.resample(audio, orig_sr=rate, target_sr=2 * hertz, res_type="soxr_hq")
    return librosa.resample(down, orig_sr=2 * hertz, target_sr=rate, res_type="soxr_hq")[: len(audio)]


def items(corpus: Corpus, indices: list[int], voice: Vocoder, other: Vocoder, seconds: float) -> Iterator[Item]:
    """The recordings, and what is made of them."""
    rate = voice.mel.sample_rate
    length, rng = round(seconds * rate), np.random.default_rng(0)
    for n, i in enumerate(indices):
        clip, following = corpus.audio(i), corpus.audio(indices[(n + 2) % len(indices)])  # of the same half
        start = int(rng.integers(0, len(clip) - length + 1))
        a = clip[start : start + length]
        yield Item("recording", n, a)
        for kind in CUTS:
            yield Item(kind, n, *spliced(a, following, kind, rate, rng))
        mel = align(a, voice.mel)[1]
        key = [jax.random.fold_in(jax.random.key(0), n)]
        for temperature in (0.6, 0.8, 1.0):
            yield Item(f"copy, T = {temperature}", n, next(voice.synthesise([mel], key, temperature)))
        yield Item("copy by the other voice", n, next(other.synthesise([mel], key, other.temperature)))
        yield Item("Griffin-Lim", n, griffin_lim(mel, voice.mel))
        yield Item("backwards", n, a[::-1].copy())
        yield Item("below 4 kHz", n, below(a, rate, 4000))
        yield Item("MP3", n, through_mp3(a, rate))


def others(folder: str, n: int, rate: int, seconds: float) -> Iterator[Item]:
    """Recordings of another speaker."""
    files = [f for f in sorted(Path(folder).iterdir()) if f.suffix.lower() in audio_file.EXTENSIONS]
    long = (read for f in files if len(read := audio_file.read(f, rate)[0]) >= round(seconds * rate))
    for i, audio in zip(range(n), long, strict=False):
        yield Item("another speaker", i, audio[: round(seconds * rate)])


def signals(rate: int, seconds: float) -> Iterator[Item]:
    """No speech."""
    t, rng = np.arange(round(seconds * rate)) / rate, np.random.default_rng(0)
    blip = np.where(np.abs(t - seconds / 2) < 0.01, np.sin(2 * np.pi * 350 * t), 0)
    chord = sum(np.sin(2 * np.pi * f * k * t) / k for f in (262, 330, 392) for k in range(1, 8))
    named = {"white noise": rng.normal(size=len(t)), "tone of 440 Hz": np.sin(2 * np.pi * 440 * t)}
    named |= {"chord": chord, "a blip of 20 ms in silence": blip}
    for name, audio in named.items():
        yield Item(name, 0, audio)
