"""Bits per sample of 16-bit speech: the ideal code length under a model, FLAC, and the entropy of single samples.

A density p gives the 16-bit value x the probability P(x), the integral of p over one step of width LSB. By Jensen's
inequality log P(x) >= log LSB + E log p(x + LSB·u), with u uniform in ±1/2: the dequantised likelihood is a lower bound
(Theis et al. 2016, section 3.1), so `by_model` is an upper bound on -log2 P(x), what an ideal coder would need. For
models of integers it is -log2 P(x) itself. No coder is written, and the decoder would need the mel too (`of_mel`).
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from fwn.audio.audio_file import flac, pcm16
from fwn.flows.densities import LSB
from fwn.mel import MelContract

SHOWN = {  # of a recording's figures: how they are printed
    "bits_by_model": "by the model (theoretical: no coder, the mel not counted)",
    "bits_by_flac": "by FLAC",
    "bits_by_histogram": "entropy of the 16-bit values of each recording",
}


def by_model(nats: float) -> float:
    """Bits per sample of an ideal coder, from dequantised nats/sample of audio in ±1: -(nats + ln LSB) / ln 2."""
    return -(nats + math.log(LSB)) / math.log(2)


def by_flac(audio: np.ndarray, sample_rate: int) -> float:
    """Bits per sample of audio [T] as a file of FLAC (audio_file.flac), with its header."""
    return 8 * len(flac(audio, sample_rate)) / len(audio)


def histogram(audios: Iterable[np.ndarray]) -> float:
    """Entropy in bits of how often each 16-bit value is in all audios [T], as if samples were independent.

    Below log2 of the number of samples, so it is too low for few of them.
    """
    counts = np.zeros(2**16, np.int64)
    for audio in audios:
        counts += np.bincount(pcm16(audio)[0].astype(np.int64) + 2**15, minlength=2**16)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0  # not -0.0


def of_mel(mel: MelContract) -> float:
    """Bits per audio sample of an uncompressed float16 mel."""
    return 16 * mel.n_mels / mel.hop_length


def figures(audio: np.ndarray, sample_rate: int, nats: float) -> dict[str, float]:
    """The figures SHOWN of one recording. nats: its dequantised likelihood per sample."""
    lengths = by_model(nats), by_flac(audio, sample_rate), histogram([audio])
    return dict(zip(SHOWN, lengths, strict=True))


def report(means: Mapping[str, str], pooled: float, mel: MelContract) -> list[str]:
    """Lines for a table. means: of the figures SHOWN over recordings, printed. pooled: `histogram` of all of them."""
    lines = [f"bits/sample, {label}: {means[name]}" for name, label in SHOWN.items()]
    lines[0] += f"; a float16 mel would add {of_mel(mel):.3g}"
    return [*lines, f"bits/sample, entropy of the 16-bit values of all recordings together: {pooled:.2f}"]
