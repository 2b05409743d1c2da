"""Reference curves: held-out nats/sample by step of real runs, and whether a run is like that of its config.

reference.json has the curves. A curve belongs to a config if the system, all of config.model that changes what is
computed, and dequantise are equal. Crops, rates and data may differ: BAND allows for them.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fwn import config as configs
from fwn.diagnosis.finding import NOTE, WARNING, Examination, Finding
from fwn.shipped import experiment

FILE = Path(__file__).with_name("reference.json")
BAND = 0.5  # nats/sample: other recordings, crops and seeds. Clips of one speaker differ by 0.25 (standard deviation)


class Curve(NamedTuple):
    """held_out: (step, nats/sample), by step. differs: fields in which its config is another one."""

    title: str
    begun_with: str
    data: str
    source: str
    held_out: tuple[tuple[int, float], ...]
    differs: tuple[str, ...]

    def around(self, step: int) -> tuple[float, float] | None:
        """(value at or before a step, value at or after it, infinite beyond the last); None before the first."""
        before = [value for at, value in self.held_out if at <= step]
        after = [value for at, value in self.held_out if at >= step]
        return (before[-1], after[0] if after else math.inf) if before else None


def curves(config: Any) -> list[Curve]:
    """All curves, those of the nearest configs first. config: of a run."""
    own, found = _fields(configs.plain(config)), []
    for entry in json.loads(FILE.read_text(encoding="utf-8"))["curves"]:
        theirs = _fields(_changed(configs.plain(configs.copied(experiment(entry["experiment"]))), entry["changes"]))
        differs = tuple(sorted(name for name in own.keys() | theirs.keys() if own.get(name) != theirs.get(name)))
        points = tuple((int(step), float(value)) for step, value in entry["held_out"])
        found.append(Curve(entry["title"], entry["begun_with"], entry["data"], entry["source"], points, differs))
    return sorted(found, key=lambda curve: ("system" in curve.differs, len(curve.differs)))


def examine(config: Any, step: int, nats: float) -> Examination:
    """Is this held-out figure at this step normal for the config?"""
    every = curves(config)
    same = [curve for curve in every if not curve.differs]
    if not same:
        yield _nearest(every[0], step)
        return
    yield from _compared(same, step, nats)


def _nearest(curve: Curve, step: int) -> str:
    if "system" in curve.differs:
        return "reference: there is no curve of this system"
    names = ", ".join(curve.differs[:4]) + (f" and {len(curve.differs) - 4} more" if len(curve.differs) > 4 else "")
    first, ends, around = curve.held_out[0], curve.held_out[-1], curve.around(step)
    value = f"{around[0]:.3f} by step {step}" if around else f"{first[1]:.3f} at step {first[0]}"
    return (
        f"reference: no curve of this config, so the loss is not judged; the nearest is {curve.title}, {value} (its "
        f"last is {ends[1]:.3f} at step {ends[0]}), which differs in {names}"
    )


def _compared(same: Sequence[Curve], step: int, nats: float) -> Examination:
    reached = {curve: around for curve in same if (around := curve.around(step))}
    if not reached:
        first = min(curve.held_out[0][0] for curve in same)
        yield f"reference: the curve of this config begins at step {first}: too early to judge"
        return
    low, high = min(a[0] for a in reached.values()), max(a[1] for a in reached.values())
    for curve, (before, _) in reached.items():
        last = curve.held_out[-1]
        yield (
            f"reference {curve.title} ({curve.data}; begun with {curve.begun_with}): {before:.3f} by step {step}, "
            f"its last is {last[1]:.3f} at step {last[0]} ({curve.source})"
        )
    if low - BAND <= nats <= high + BAND:
        span = f"{low:.3f}" if low == high else f"{low:.3f} or more" if high == math.inf else f"{low:.3f} to {high:.3f}"
        yield f"is this loss normal: yes, {nats:.3f}; the reference is {span}, and {BAND} nats/sample are allowed for"
    elif nats < low:
        yield Finding(
            WARNING,
            f"the held-out likelihood is not normal: {nats:.3f} nats/sample at step {step}, {low - nats:.2f} below the "
            f"reference, {low:.3f}",
            "compare the mel contract and the data (fwn.doctor --data); lower the rate if gradients are clipped or "
            "steps skipped; noisy recordings can cost as much",
        )
    else:
        yield Finding(
            NOTE,
            f"held-out likelihood is unusually high: {nats:.3f} nats/sample at step {step}, {nats - high:.2f} above "
            f"the reference, {high:.3f}",
            "look for held-out clips in the training split, silence, or data of few bits (fwn.doctor --data)",
        )


def _changed(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A config with the values of `changes`, at any depth, in place of its own."""
    return config | {
        name: _changed(config[name], value) if isinstance(value, dict) else value for name, value in changes.items()
    }


def _fields(config: dict[str, Any]) -> dict[str, Any]:
    """What determines the likelihood of a trained model, by name; not the sizes of parts that are switched off."""
    model = configs.comparable(config)["model"]
    fields = {"system": config["system"], "dequantise": config["dequantise"]}
    for name, value in model.items():
        parts = {f"{name}.{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {name: value}
        fields |= parts if name != "dtype" else {}  # which changes rounding alone
    return fields
