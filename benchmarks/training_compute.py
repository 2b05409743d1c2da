"""Held-out likelihood of runs of fwn.train against the arithmetic of their training: a table and a picture.

    python benchmarks/training_compute.py --runs=base=runs/base --runs=lite=runs/lite --output=runs/compute

What a run took is counted, not timed: 3 passes (forward, and backward twice that) over every sample of every step's
crops, at the operations of its products (fwn.evaluation.flops). That makes runs comparable that ran on other machines,
or beside other work. Runs that are to be compared must have the same crops, held-out batches, rate of learning and
data set.
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
OUTPUT = flags.DEFINE_string("output", None, "Folder for held_out.png and table.md. By default the table is printed.")
PASSES = 3  # a backward pass takes two products for each of the forward pass
SAME = ("frames", "batch_size", "seed", "dequantise", "eval_batches", "optimizer", "ema_decay", "data", "mel")


class Run(NamedTuple):
    """parameters: their number; operations: of a pass over an audio sample; each: of a step; held_out: nats/sample."""

    parameters: int
    operations: float
    each: float
    held_out: dict[int, float]


def read(name: str, workdir: Path) -> tuple[Run, Any]:
    """The run, and what must be the same in all."""
    config, mel = configs.read(workdir)
    if config.teacher is not None:
        raise UserError(f"--runs={name}={workdir}: it has a teacher ({config.teacher}); its loss is not a likelihood")
    held_out = {r["step"]: r["nats_per_sample"] for r in journal.read(workdir) if r["what"] == "held_out"}
    if not held_out:
        raise UserError(f"--runs={name}={workdir}: no held-out likelihood in its metrics.jsonl yet")
    shapes = jax.eval_shape(build(config).init, jax.random.key(0), measure.synthetic(1, config.frames, mel, 0), {})
    operations = flops.per_sample(shapes, config.model)
    samples = config.batch_size * config.frames * mel.hop_length
    parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    run = Run(parameters, operations, PASSES * operations * samples, held_out)
    return run, {field: configs.plain(config)[field] for field in SAME}


def table(runs: dict[str, Run]) -> str:
    """A row a run: at the last step that all have, and at the greatest compute that all reach."""
    steps = sorted(set.intersection(*(set(run.held_out) for run in runs.values())))
    if not steps:
        raise UserError(f"--runs: {', '.join(runs)} have no held-out step in common; train them with one eval_every")
    most = min(run.each * max(run.held_out) for run in runs.values())
    heads = f"nats/sample at step {steps[-1]} | at {most / 1e12:,.1f} TFLOP of training"
    rows = [f"| | parameters | MFLOP a sample | {heads} |", "|---|---|---|---|---|"]
    for name, run in runs.items():
        reached = [step for step in run.held_out if run.each * step <= most * (1 + 1e-9)]
        last = f"{run.held_out[max(reached)]:.3f} (step {max(reached)})" if reached else "none yet"
        count, size = f"{run.parameters:,}", f"{run.operations / 1e6:.2f}"
        rows.append(f"| {name} | {count} | {size} | {run.held_out[steps[-1]]:.3f} | {last} |")
    return "\n".join(rows) + "\n"


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    runs: dict[str, Run] = {}
    first: Any = None
    for pair in RUNS.value:
        name, equals, workdir = pair.partition("=")
        if not (name and equals and workdir) or name in runs:
            raise UserError(f"--runs={pair!r}: it is NAME=WORKDIR, each name once")
        runs[name], same = read(name, Path(workdir))
        first = first or same
        other = [field for field in SAME if same[field] != first[field]]
        if other:
            raise UserError(
                f"--runs={pair}: config.{other[0]} is {same[other[0]]!r}, but {first[other[0]]!r} in the first run; "
                "runs that are compared are trained alike"
            )
    if not runs:
        raise UserError("no runs: name some with --runs=NAME=WORKDIR")
    found = table(runs)
    cli.say(found.rstrip())
    if OUTPUT.value:
        folder = Path(OUTPUT.value)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "table.md").write_text(found, encoding="utf-8")
        steps = {name: [run.each * step / 1e12 for step in run.held_out] for name, run in runs.items()}
        values = {name: list(run.held_out.values()) for name, run in runs.items()}
        plots.curve(
            folder / "held_out.png", steps, values, "TFLOP of training", "held-out nats/sample", logarithmic=True
        )


if __name__ == "__main__":
    cli.run(main)
