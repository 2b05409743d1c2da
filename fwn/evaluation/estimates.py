"""Means of metrics over utterances with confidence intervals, and their tables."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from fwn.errors import UserError
from fwn.evaluation.metrics import METRICS
from fwn.terminal import aligned


class Estimate(NamedTuple):
    """mean ± ci95, the 95% confidence interval of Student's t, over the `n` of `total` utterances that have a value.

    mean is None if n = 0, ci95 if n < 2.
    """

    mean: float | None
    ci95: float | None
    n: int
    total: int


def summary(utterances: Sequence[Mapping[str, float | None]]) -> dict[str, Estimate]:
    """One dict of metrics per utterance -> the estimate of each metric. Raises UserError without utterances."""
    if not utterances:
        raise UserError("no utterances to average metrics over; give at least one")
    return {name: estimate([u[name] for u in utterances]) for name in utterances[0]}


def estimate(values: Sequence[float | None]) -> Estimate:
    """Mean and t_{0.975, n-1} · s / √n of the values that are not None."""
    known = [v for v in values if v is not None]
    n = len(known)
    mean = float(np.mean(known)) if n else None
    ci95 = float(stdtrit(n - 1, 0.975) * np.std(known, ddof=1) / math.sqrt(n)) if n > 1 else None
    return Estimate(mean, ci95, n, len(values))


def table(systems: Mapping[str, Mapping[str, Estimate]], markdown: bool = False) -> str:
    """Summaries by title (a system, a temperature) -> one row per metric, one column per title, text or Markdown."""
    return aligned(lines(systems), "<<" + ">" * len(systems), markdown)


def lines(systems: Mapping[str, Mapping[str, Estimate]]) -> list[list[str]]:
    """The cells of `table`, header first."""
    cells = [["metric", "better", *systems]]
    for name, metric in METRICS.items():
        if any(name in s for s in systems.values()):
            label = f"{metric.label} ({metric.unit})" if metric.unit else metric.label
            cells.append([label, metric.better, *(cell(s.get(name), metric.digits) for s in systems.values())])
    return cells


def cell(estimate: Estimate | None, digits: int) -> str:
    """mean ± ci95, and "(n of total)" if some utterances have no value; "-" if none has one."""
    if estimate is None or estimate.mean is None:
        return "-"
    form = f".{digits}f" if abs(estimate.mean) < 1e5 else ".3g"
    interval = "" if estimate.ci95 is None else f" ± {estimate.ci95:{form}}"
    some = "" if estimate.n == estimate.total else f" ({estimate.n} of {estimate.total})"
    return f"{estimate.mean:{form}}{interval}{some}"
