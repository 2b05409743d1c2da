"""What a flow says of a recording, mel frame by mel frame, and the statistics by which recordings are compared."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fwn.evaluation.measure import dequantised
from fwn.synthesis.vocoder import Vocoder

Array = npt.NDArray[Any]
LAGS = 16  # samples: the whiteness of the noise is judged by its correlation up to here
EDGE = 0.1  # seconds at both ends that are not judged: every excerpt is cut there
RIDGE = 1e-3  # of a band's variance, added to it
STATISTICS = {  # by name: what it is in a sentence
    "nats": "nats/sample",
    "surprise": "nats/sample below what is usual for this mel",
    "spread": "spread of the surprise over frames",
    "noise_power": "mean square of the noise",
    "noise_peak": "largest noise sample of a frame",
    "noise_correlation": "correlation of neighbouring noise samples",
}


class Scored(NamedTuple):
    """Of one recording: audio float32 [F · hop] as the model got it, without dequantisation noise; mel [F, M].

    nats: per sample, [F]. noise: [F, hop], standard normal under the model.
    """

    audio: Array
    mel: Array
    nats: Array
    noise: Array


def scored(vocoder: Vocoder, audio: Array, mel: Array, rng: np.random.Generator, speaker: Any = None) -> Scored:
    """audio [F · hop] of 16-bit steps and its mel [F, M], scored with uniform noise of one step, as in fwn.evaluate.

    Raises UserError for a model that is not a flow.
    """
    noisy = dequantised(audio, rng)
    noise = vocoder.encode(noisy, mel, speaker)  # first, since it refuses what is no flow
    nats = vocoder.log_likelihood(noisy, mel, speaker, per_frame=True)
    return Scored(audio, mel, np.asarray(nats, np.float64), noise.reshape(len(mel), -1).astype(np.float64))


def usual(clips: Sequence[Scored]) -> Array:
    """Weights [M + 1] with which a mel predicts the nats of its frames, by ridge regression over all frames.

    Likelihood depends on loudness and voicing more than on anything else. Both are in the mel, so the rest is
    comparable between frames.
    """
    mel, nats = np.concatenate([s.mel for s in clips]).astype(np.float64), np.concatenate([s.nats for s in clips])
    centred = mel - mel.mean(axis=0)
    covariance = centred.T @ centred / len(mel)
    ridge = RIDGE * np.diag(np.maximum(np.diag(covariance), 1e-12))
    weights = np.linalg.solve(covariance + ridge, centred.T @ (nats - nats.mean()) / len(mel))
    return np.append(weights, nats.mean() - mel.mean(axis=0) @ weights)


def surprise(s: Scored, weights: Array) -> Array:
    """Nats per sample that each frame is below what is `usual` for its mel, [F]."""
    expected: Array = s.mel @ weights[:-1] + weights[-1]
    return expected - s.nats


def inner(rows: Array, rate: float) -> Array:
    """What is of frames that are judged: rows [F, …] without EDGE at both ends; none of a recording that is too short.

    rate: mel frames per second.
    """
    near = math.ceil(EDGE * rate)
    return rows[near : max(near, len(rows) - near)]


def by_frame(s: Scored, weights: Array) -> Array:
    """What `statistics` needs of each frame, [F, 5 + LAGS]."""
    flat, below = s.noise.ravel(), surprise(s, weights)
    products = np.zeros((LAGS, len(flat)))
    for lag in range(1, LAGS + 1):
        products[lag - 1, lag:] = flat[lag:] * flat[:-lag]
    lagged = products.reshape(LAGS, *s.noise.shape).mean(axis=2)
    power, peak = np.square(s.noise).mean(axis=1), np.abs(s.noise).max(axis=1)
    return np.stack([s.nats, below, below**2, power, peak, *lagged], axis=1)


def statistics(frames: Array) -> Array:
    """The STATISTICS of a stretch of `by_frame` [F, 5 + LAGS], as an array.

    noise_correlation: root mean square over lags of the autocorrelation; 0 under the model, but for chance.
    """
    nats, below, squared, power, peak, *lagged = frames.mean(axis=0)
    spread = np.sqrt(max(squared - below**2, 0.0))
    correlation = np.sqrt(np.mean(np.square(lagged))) / max(power, 1e-12)
    return np.array([nats, below, spread, power, peak, correlation])
