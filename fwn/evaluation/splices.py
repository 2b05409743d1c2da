"""Moments at which a recording may have been cut or mended: where a flow's noise is much larger than around it.

At a cut the waveform does not go on as the model predicts, so a few samples of its noise, which is standard normal in
speech that the model knows, are large. The likelihood of the whole frame hardly changes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fwn.evaluation.scored import Array, Scored, inner

WINDOW = 128  # samples over which the squared noise is averaged
APART = 0.1  # seconds: moments that are nearer are one


class Moment(NamedTuple):
    """seconds from the start; score: the largest mean square of WINDOW noise samples there."""

    seconds: float
    score: float


def score(s: Scored, rate: float) -> Array:
    """The largest mean square of WINDOW noise samples around the samples of each frame, [F]; about 1 to 3 in speech.

    0 within EDGE of an end. rate: mel frames per second.
    """
    mean = np.convolve(np.square(s.noise).ravel(), np.full(WINDOW, 1 / WINDOW), mode="same")
    return judged(mean.reshape(s.noise.shape).max(axis=1), rate)


def judged(values: Array, rate: float) -> Array:
    """Values of frames [F], 0 within EDGE of an end (scored.inner)."""
    kept = inner(values, rate)
    near = (len(values) - len(kept)) // 2
    return np.pad(kept, (near, len(values) - len(kept) - near))


def moments(scores: Array, rate: float, above: float) -> list[Moment]:
    """Where the score of frames [F] is above a level, the highest first, at least APART from each other.

    rate: mel frames per second.
    """
    found: list[Moment] = []
    for frame in np.argsort(scores)[::-1]:
        if not scores[frame] > above:
            break
        seconds = (frame + 0.5) / rate
        if all(abs(seconds - other.seconds) >= APART for other in found):
            found.append(Moment(float(seconds), float(scores[frame])))
    return found


def alarm(clips: Sequence[Array], rate: float) -> float:
    """The level that held-out speech is above less than once a minute. clips: `score` of each; [F]."""
    peaks = sorted((m.score for clip in clips for m in moments(clip, rate, 0.0)), reverse=True) or [0.0]
    minutes = sum(map(len, clips)) / rate / 60
    return float(f"{peaks[max(1, int(minutes)) - 1]:.6g}")
