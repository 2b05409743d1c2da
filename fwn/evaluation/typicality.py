"""Typicality: is a recording among what a model's held-out speech looks like to it?

A likelihood alone does not say. Flows give smooth or quiet signals more of it than the speech that they learned
(Nalisnick et al. 2019, arXiv:1906.02994; Kirichenko et al. 2020, arXiv:2006.08545). So each statistic is compared with
its distribution over held-out speech, and both tails count: too likely is as odd as too unlikely.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fwn.errors import UserError
from fwn.evaluation import splices
from fwn.evaluation.scored import STATISTICS, Array, Scored, by_frame, inner, statistics, usual

LENGTHS = 0.5, 1.0, 2.0, 4.0  # seconds of the stretches to which recordings are compared
LEAST = 20  # stretches, else a length is left out
LEVEL = 0.05  # share of held-out stretches that are called atypical
BAND = 0.05, 0.95, 0.999  # quantiles of the surprise of held-out frames


class Length(NamedTuple):
    """The STATISTICS of n held-out stretches of so many frames: mean, sd. distances: percentiles 0 to 100."""

    frames: int
    n: int
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    distances: tuple[float, ...]

    def deviations(self, values: Array) -> Array:
        """In standard deviations of held-out stretches."""
        return (values - np.array(self.mean)) / np.array(self.sd)

    def share(self, distance: float) -> float:
        """Of held-out stretches that are at least as far; at least 1 / (n + 1), since there are only n."""
        return float(max(1 / (self.n + 1), 1 - np.interp(distance, self.distances, np.linspace(0, 1, 101))))


class Reference(NamedTuple):
    """The held-out distribution. weights: see `usual`. band: the quantiles BAND of the surprise.

    alarm: splice score that held-out speech is above less than once a minute. utterances, seconds: of that speech.
    """

    weights: tuple[float, ...]
    band: tuple[float, ...]
    lengths: tuple[Length, ...]
    alarm: float
    utterances: int
    seconds: float


class Verdict(NamedTuple):
    """statistics, deviations: by name; the latter in standard deviations of held-out stretches of `stretch` seconds.

    p: share of held-out stretches that are at least as far from their mean in their furthest statistic.
    furthest: name of the recording's. All are None for a recording that is too short. Its ends are left out (EDGE).
    """

    statistics: dict[str, float] | None
    deviations: dict[str, float] | None
    p: float | None
    furthest: str | None
    stretch: float | None

    @property
    def typical(self) -> bool | None:
        return None if self.p is None else self.p > LEVEL


def reference(clips: Sequence[Scored], rate: float) -> Reference:
    """Of held-out recordings. rate: mel frames per second.

    Each clip is compared with the others, by the weights, means and deviations of the others: no clip is in what it is
    compared with. Raises UserError for too little speech.
    """
    frames, lengths = sum(len(s.mel) for s in clips), []
    if len(clips) > 1:
        others = [usual([s for j, s in enumerate(clips) if j != i]) for i in range(len(clips))]
        tables = [inner(by_frame(s, weights), rate) for s, weights in zip(clips, others, strict=True)]
        lengths = [found for seconds in LENGTHS if (found := _length(tables, round(seconds * rate)))]
    if not lengths:
        raise UserError(
            f"{len(clips)} held-out utterances, {frames / rate:.1f} s in all, are too few to compare with: at least "
            f"{LEAST} stretches of {LENGTHS[0]:g} s in two or more utterances are needed; hold out more"
        )
    return Reference(
        weights=_rounded(usual(clips)),
        band=_rounded(np.quantile(np.concatenate([table[:, 1] for table in tables]), BAND)),
        lengths=tuple(lengths),
        alarm=splices.alarm([splices.score(s, rate) for s in clips], rate),
        utterances=len(clips),
        seconds=round(frames / rate, 2),
    )


def _length(tables: Sequence[Array], frames: int) -> Length | None:
    """None if there are too few stretches."""
    of = [np.array([statistics(table[i : i + frames]) for i in _starts(len(table), frames)]) for table in tables]
    of = [stretches for stretches in of if len(stretches)]
    if len(of) < 2 or sum(map(len, of)) < LEAST:
        return None
    distances = []
    for i, own in enumerate(of):
        rest = np.concatenate([stretches for j, stretches in enumerate(of) if j != i])
        distances += list(np.abs((own - rest.mean(axis=0)) / rest.std(axis=0, ddof=1)).max(axis=1))
    every = np.concatenate(of)
    percentiles = np.quantile(distances, np.linspace(0, 1, 101))
    return Length(
        frames, len(every), _rounded(every.mean(axis=0)), _rounded(every.std(axis=0, ddof=1)), _rounded(percentiles)
    )


def _starts(total: int, frames: int) -> range:
    """Of stretches that do not overlap."""
    return range(0, total - frames + 1, frames)


def judge(s: Scored, of: Reference, rate: float) -> Verdict:
    """A recording among held-out stretches of the longest length that is not longer than it.

    A longer recording varies less than they do, so its p is too large rather than too small.
    """
    frames = inner(by_frame(s, np.array(of.weights)), rate)
    fitting = [length for length in of.lengths if length.frames <= len(frames)]
    if not fitting:
        return Verdict(None, None, None, None, None)
    values = statistics(frames)
    deviations = fitting[-1].deviations(values)
    far = int(np.abs(deviations).argmax())
    return Verdict(
        dict(zip(STATISTICS, map(float, values), strict=True)),
        dict(zip(STATISTICS, map(float, deviations), strict=True)),
        fitting[-1].share(float(abs(deviations[far]))),
        list(STATISTICS)[far],
        fitting[-1].frames / rate,
    )


def _rounded(values: Any) -> tuple[float, ...]:
    """Six digits, of which a file is a few kilobytes."""
    return tuple(float(f"{value:.6g}") for value in values)
