"""The curves of a run's training records: spikes and divergence of the loss, size and growth of the gradients."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fwn.diagnosis.finding import ERROR, NOTE, WARNING, Examination, Finding, named
from fwn.training import journal

Records = Sequence[dict[str, Any]]
ENOUGH = 20  # records of training below which curves are not judged
NEIGHBOURS = 9  # records around one, whose median it is compared with
SPIKE = 8.0  # median absolute deviations of the loss from that median, at least SPIKE_NATS
SPIKE_NATS = 1.0
GRADIENT_SPIKE = 10.0  # times that median
DIVERGED = 1.0  # nats/sample below the best median of as many records
GROWTH = 10.0  # of the median gradient norm, from the second fifth of a run to the last
CLIPPED = 0.9  # share of the last half of the records


def examine(config: Any, trained: Records) -> Examination:
    """trained: the records of training, in order. Fewer than ENOUGH are not judged."""
    if len(trained) < ENOUGH:
        yield f"curves: {len(trained)} records of training, too few to judge ({ENOUGH} are enough)"
        return
    yield from _loss(config, trained)
    yield from _gradients(config, trained)


def _loss(config: Any, trained: Records) -> Examination:
    """Spikes and divergence of the training loss."""
    known = [(r["step"], journal.score(r)) for r in trained if r.get(journal.headline(r)) is not None]
    if len(known) < ENOUGH:
        return
    steps, values = [step for step, _ in known], np.array([value for _, value in known])
    count = max(5, len(values) // 10)
    medians = np.median(np.lib.stride_tricks.sliding_window_view(values, count), axis=-1)
    name = "minus the loss" if config.loss else "nats/sample"
    yield f"training: {medians[-1]:.3f} {name}, median of the last {count} records; best median {medians.max():.3f}"
    if medians[-1] < medians.max() - DIVERGED:
        yield Finding(
            ERROR,
            f"training diverged: the last {count} records are {medians.max() - medians[-1]:.2f} below the best",
            "go on from the best checkpoint with a lower config.optimizer.learning_rate or max_grad_norm, or a longer "
            "warmup",
        )
    drop = _medians(values) - values
    spikes = drop > max(SPIKE * float(np.median(np.abs(drop))), SPIKE_NATS)
    if spikes.any():
        worst = int(np.argmax(drop))
        yield Finding(
            WARNING if spikes.sum() > max(2, len(values) / 50) else NOTE,
            f"{spikes.sum()} spikes of the loss, the largest at step {steps[worst]}, {drop[worst]:.1f} below its "
            "neighbours",
            "a few are bad clips (fwn.doctor --data); at the beginning, raise config.optimizer.warmup; many are a rate "
            "that is too high",
        )


def _medians(values: np.ndarray) -> np.ndarray:
    """The median of NEIGHBOURS values around each."""
    padded = np.pad(values, NEIGHBOURS // 2, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, NEIGHBOURS), axis=-1)


def _gradients(config: Any, trained: Records) -> Examination:
    known = [(r["step"], r["gradient_norm"]) for r in trained if r.get("gradient_norm") is not None]
    if len(known) < ENOUGH:
        return
    steps, norms = [step for step, _ in known], np.array([norm for _, norm in known])
    limit, half, fifth = config.optimizer.max_grad_norm, len(norms) // 2, len(norms) // 5
    late = float((norms[half:] > limit).mean())
    early, now = float(np.median(norms[fifth : 2 * fifth])), float(np.median(norms[-fifth:]))
    yield (
        f"gradient norm: median {now:.3g} lately, {early:.3g} early; above max_grad_norm = {limit:g} in "
        f"{100 * late:.0f}% of the last half"
    )
    if late > CLIPPED:
        yield Finding(
            WARNING,
            f"nearly all gradients are scaled down ({100 * late:.0f}% of the last half are above {limit:g}): the rate "
            "that counts is lower than config.optimizer.learning_rate",
            "raise config.optimizer.max_grad_norm above the median, or lower the rate if the loss is unsteady",
        )
    if now > GROWTH * early:
        yield Finding(
            WARNING,
            f"gradients grow: the median norm rose from {early:.3g} to {now:.3g}; NaN is often next",
            "lower config.optimizer.learning_rate; look at log_s and ActNorm of the checkpoint",
        )
    ratio = norms / np.maximum(_medians(norms), 1e-12)
    if (spikes := ratio > GRADIENT_SPIKE).any():
        where = named([str(step) for step, spike in zip(steps, spikes, strict=True) if spike])
        yield Finding(
            NOTE,
            f"{spikes.sum()} gradients are over {GRADIENT_SPIKE:.0f} times their neighbours, at steps {where}",
            "none if the loss goes on rising: max_grad_norm scales them down; else look for bad clips",
        )
