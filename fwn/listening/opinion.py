"""Statistics of a listening test: mean opinion scores, significance and preferences, as data and as text.

Intervals are Student's t at 95% (fwn.evaluation.estimates.estimate). Tests are exact sign-flip tests: see sign_flip.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from fwn.errors import UserError
from fwn.evaluation.estimates import Estimate, cell, estimate
from fwn.listening.answers import Preference, Rating
from fwn.listening.stimuli import ANCHOR, REFERENCE
from fwn.terminal import aligned, marked

ALPHA = 0.05


class Score(NamedTuple):
    """One system's mean over all ratings (as papers report it), over listeners' means, and of z-scores."""

    mos: Estimate
    over_listeners: Estimate
    z: Estimate


class Comparison(NamedTuple):
    """Score of a minus score of b on utterances that a listener rated for both.

    difference: over listeners' means. p: by sign_flip. p_holm: corrected by Holm.
    """

    a: str
    b: str
    difference: Estimate
    p: float
    p_holm: float


class Shares(NamedTuple):
    """How often a, neither (same) and b was preferred. p: by sign_flip over listeners. p_holm: corrected by Holm."""

    a: str
    b: str
    prefer_a: int
    same: int
    prefer_b: int
    p: float
    p_holm: float


class Analysis(NamedTuple):
    """left_out: reason by listener. first: number of choices for clip A of the page, out of `decided` choices."""

    listeners: list[str]
    left_out: dict[str, str]
    scores: dict[str, Score]
    comparisons: list[Comparison]
    preferences: list[Shares]
    first: int
    decided: int


def sign_flip(differences: Iterable[float]) -> float:
    """Two-sided p-value: the probability that under random signs |sum| is at least that of the given values.

    Fisher's randomisation test; for values ±1 it is the binomial test. It is exact: values are multiples of 1/2, so the
    distribution of their sum is a convolution. Give one value per listener, the sum of that listener's differences or
    votes: answers of one listener are not independent, so their signs flip together. The null hypothesis is that no
    listener hears a difference.
    """
    steps = np.rint(2 * np.fromiter(differences, float)).astype(int)
    chances = np.ones(1)  # chances[i]: probability that the steps with a positive sign sum to i
    for step in np.abs(steps[steps != 0]):
        both = np.zeros(len(chances) + step)
        both[: len(chances)] += chances / 2
        both[step:] += chances / 2
        chances = both
    sums = 2 * np.arange(len(chances)) - np.abs(steps).sum()
    return float(min(1.0, chances[np.abs(sums) >= abs(steps.sum())].sum()))


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for multiple comparisons by Holm 1979, in the order given."""
    order = np.argsort(p, kind="stable")
    scaled = np.asarray(p, float)[order] * (len(p) - np.arange(len(p)))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted.tolist()


def inattentive(ratings: Sequence[Rating]) -> tuple[dict[str, str], list[str]]:
    """Finds listeners who do not rate the hidden anchor below the hidden reference.

    Returns ({listener: reason}, messages about listeners who cannot be checked yet).
    """
    wrong, unknown = {}, []
    for listener in dict.fromkeys(r.listener for r in ratings):
        own = {s: [r.score for r in ratings if r[:2] == (listener, s)] for s in (REFERENCE, ANCHOR)}
        if not all(own.values()):
            unknown.append(f"{listener}: attention cannot be checked, no rating of the hidden reference or anchor yet")
            continue
        reference, anchor = (float(np.mean(own[s])) for s in (REFERENCE, ANCHOR))
        if anchor >= reference:
            than = "above" if anchor > reference else "level with"
            wrong[listener] = f"rates the hidden anchor ({anchor:.2f}) {than} the hidden reference ({reference:.2f})"
    return wrong, unknown


def analyse(
    systems: Sequence[str], ratings: Sequence[Rating], preferences: Sequence[Preference], left_out: dict[str, str]
) -> Analysis:
    """All statistics, without the listeners left out. systems: in the order of the tables."""
    ratings = [r for r in ratings if r.listener not in left_out]
    preferences = [p for p in preferences if p.listener not in left_out]
    listeners = list(dict.fromkeys([r.listener for r in ratings] + [x.listener for x in preferences]))
    if not listeners:
        raise UserError("no listener is left: " + "; ".join(f"{name} {why}" for name, why in left_out.items()))
    score_of = {(r.listener, r.utterance, r.system): r.score for r in ratings}
    z = _z(ratings)
    scores = {}
    for system in systems:
        own = [r for r in ratings if r.system == system]
        rated_by = dict.fromkeys(r.listener for r in own)
        means = [float(np.mean([r.score for r in own if r.listener == name])) for name in rated_by]
        z_own = [z[i] for i, r in enumerate(ratings) if r.system == system and i in z]
        scores[system] = Score(estimate([r.score for r in own]), estimate(means), estimate(z_own))
    compared = []
    for a, b in combinations([s for s in systems if s != ANCHOR], 2):
        by_listener: dict[str, list[float]] = {}
        for n, u, s in score_of:
            if s == a and (n, u, b) in score_of:
                by_listener.setdefault(n, []).append(score_of[n, u, a] - score_of[n, u, b])
        differences = by_listener.values()
        compared.append((a, b, estimate([float(np.mean(d)) for d in differences]), sign_flip(map(sum, differences))))
    adjusted = holm([p for *_, p in compared])
    comparisons = [Comparison(*row, p_holm) for row, p_holm in zip(compared, adjusted, strict=True)]
    decided = [x for x in preferences if x.preferred is not None]
    return Analysis(
        listeners,
        left_out,
        scores,
        comparisons,
        _shares(systems, preferences),
        sum(x.preferred == x.a for x in decided),
        len(decided),
    )


def _z(ratings: Sequence[Rating]) -> dict[int, float]:
    """z-scores by index of the rating: (score - mean) / std of the same listener; none if std is 0."""
    z: dict[int, float] = {}
    for listener in {r.listener for r in ratings}:
        own = {i: r.score for i, r in enumerate(ratings) if r.listener == listener}
        values = np.array(list(own.values()))
        if len(values) > 1 and values.std(ddof=1) > 0:
            z |= dict(zip(own, ((values - values.mean()) / values.std(ddof=1)).tolist(), strict=True))
    return z


def _shares(systems: Sequence[str], preferences: Sequence[Preference]) -> list[Shares]:
    rows = []
    for a, b in combinations(systems, 2):
        about = [x for x in preferences if {x.a, x.b} == {a, b}]
        said = [x.preferred for x in about]
        votes = dict.fromkeys((x.listener for x in about), 0)
        for x in about:
            votes[x.listener] += (x.preferred == a) - (x.preferred == b)
        if said:
            rows.append((a, b, said.count(a), said.count(None), said.count(b), sign_flip(votes.values())))
    return [Shares(*row, adjusted) for row, adjusted in zip(rows, holm([row[-1] for row in rows]), strict=True)]


def report(title: str, analysis: Analysis, markdown: bool = False) -> str:
    """The tables, as text or Markdown."""
    n = sum(score.mos.n for score in analysis.scores.values())
    votes = sum(x.prefer_a + x.same + x.prefer_b for x in analysis.preferences)
    people = len(analysis.listeners)
    title = marked(title) if markdown else title
    parts = [f"{title}: {people} listener{'s' * (people != 1)}, {n} ratings, {votes} preferences"]
    if n:
        lines = [["system", "MOS, over ratings", "MOS, over listeners", "z-score", "ratings"]]
        for system, score in sorted(analysis.scores.items(), key=lambda item: -(item[1].over_listeners.mean or 0)):
            lines.append([system, *(cell(e, 2) for e in score), str(score.mos.n)])
        parts += [
            "Mean opinion score (1 bad to 5 excellent) ± 95% confidence interval",
            aligned(lines, "<>>>>", markdown),
        ]
        lines = [["system", "and", "difference", "p", "p (Holm)", f"at {ALPHA:.0%}"]]
        for x in analysis.comparisons:
            better = x.a if (x.difference.mean or 0) > 0 else x.b
            verdict = f"{better} is better" if x.p_holm < ALPHA else "not significant"
            lines.append([x.a, x.b, cell(x.difference, 2), _p(x.p), _p(x.p_holm), verdict])
        parts += [
            "Differences, means over listeners, of utterances rated in both (exact sign-flip test over listeners)",
            aligned(lines, "<<>>><", markdown),
        ]
    if votes:
        lines = [["A", "B", "A better", "no difference", "B better", "p", "p (Holm)"]]
        for y in analysis.preferences:
            total = y.prefer_a + y.same + y.prefer_b
            shares = [f"{k / total:.0%} ({k})" for k in (y.prefer_a, y.same, y.prefer_b)]
            lines.append([y.a, y.b, *shares, _p(y.p), _p(y.p_holm)])
        words = "Preferences (exact sign-flip test over listeners)"
        parts += [words, aligned(lines, "<<>>>>>", markdown)]
        parts.append(f"Clip A of the page was preferred in {analysis.first} of {analysis.decided} choices.")
    return "\n\n".join(parts) + "\n"


def _p(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"
