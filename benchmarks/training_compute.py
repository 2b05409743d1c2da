"""Held-out likelihood of training runs against the floating-point operations of training: a table and a plot.

    python benchmarks/training_compute.py --runs=base=runs/base --runs=lite=runs/lite --output=runs/compute

Operations are counted, not timed: 3 passes (a backward pass counts as two) over all samples of all steps, with the
operations per sample of fwn.evaluation.flops. So runs on different or busy machines can be compared. The runs must have
the same crops, held-out batches, learning rate and data set.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags

from fwn import cli
from fwn import config as configs
from fwn.errors import UserError
from fwn.evaluation import flops, measure, plots
from fwn.systems import build
from fwn.training import journal

RUNS = flags.DEFINE_multi_string("runs", [], "NAME=WORKDIR of a run of fwn.train without a teacher; may be repeated.")
OUTPUT = flags.DEFINE_string("output", None, "Folder for held_out.png and table.md. By default none are written.")
PASSES = 3  # a backward pass takes two matrix products for each one of the forward pass
SAME = ("frames", "batch_size", "seed", "dequantise", "eval_batches", "optimizer", "ema_decay", "data", "mel")


class Run(NamedTuple):
    """per_sample: operations of one pass per audio sample. per_step: of a training step. held_out: nats by step."""

    parameters: int
    per_sample: float
    per_step: float
    held_out: dict[int, float]


def read(name: str, workdir: Path) -> tuple[Run, Any]:
    """(the run, the config fields that must be equal in all runs)."""
    config, mel = configs.read(workdir)
    if config.teacher is not None:
        raise UserError(f"--runs={name}={workdir}: has a teacher ({config.teacher}), so its loss is not a likelihood")
    held_out = {r["step"]: r["nats_per_sample"] for r in journal.read(workdir) if r["what"] == "held_out"}
    if not held_out:
        raise UserError(f"--runs={name}={workdir}: its metrics.jsonl has no held-out likelihood yet")
    shapes = jax.eval_shape(build(config).init, jax.random.key(0), measure.synthetic(1, config.frames, mel, 0), {})
    per_sample = flops.per_sample(shapes, config.model)
    samples = config.batch_size * config.frames * mel.hop_length
    parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    run = Run(parameters, per_sample, PASSES * per_sample * samples, held_out)
    return run, {field: configs.plain(config)[field] for field in SAME}


def table(runs: dict[str, Run]) -> str:
    """One row per run: likelihood at the last common step, and at the largest compute that all runs reach."""
    steps = sorted(set.intersection(*(set(run.held_out) for run in runs.values())))
    if not steps:
        raise UserError(f"--runs: {', '.join(runs)} have no held-out step in common; use one eval_every for all")
    most = min(run.per_step * max(run.held_out) for run in runs.values())
    heads = f"nats/sample at step {steps[-1]} | at {most / 1e12:,.1f} TFLOP of training"
    rows = [f"| | parameters | MFLOP a sample | {heads} |", "|---|---|---|---|---|"]
    for name, run in runs.items():
        reached = [step for step in run.held_out if run.per_step * step <= most * (1 + 1e-9)]
        last = f"{run.held_out[max(reached)]:.3f} (step {max(reached)})" if reached else "none yet"
        count, size = f"{run.parameters:,}", f"{run.per_sample / 1e6:.2f}"
        rows.append(f"| {name} | {count} | {size} | {run.held_out[steps[-1]]:.3f} | {last} |")
    return "\n".join(rows) + "\n"


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    runs: dict[str, Run] = {}
    first: Any = None
    for pair in RUNS.value:
        name, equals, workdir = pair.partition("=")
        if not (name and equals and workdir) or name in runs:
            raise UserError(f"--runs={pair!r}: give NAME=WORKDIR, each name once")
        runs[name], same = read(name, Path(workdir))
        first = first or same
        if field := next((field for field in SAME if same[field] != first[field]), None):
            raise UserError(
                f"--runs={pair}: config.{field} is {same[field]!r}, but {first[field]!r} in the first run; "
                "runs must have the same settings to be compared"
            )
    if not runs:
        raise UserError("no runs; give --runs=NAME=WORKDIR")
    found = table(runs)
    cli.say(found.rstrip(), newlines=True)
    if OUTPUT.value:
        folder = Path(OUTPUT.value)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "table.md").write_text(found, encoding="utf-8")
        series = {
            name: ([run.per_step * step / 1e12 for step in run.held_out], list(run.held_out.values()))
            for name, run in runs.items()
        }
        plots.curve(folder / "held_out.png", series, "TFLOP of training", "held-out nats/sample", logarithmic=True)


if __name__ == "__main__":
    cli.run(main)
