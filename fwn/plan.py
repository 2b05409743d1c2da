"""Compiles training or sampling for a GPU or TPU that is not there, and prints what it needs. Nothing is measured.

    python -m fwn.plan --config=experiments/lite.py --config.model.dtype=bfloat16 --target=h100
    python -m fwn.plan --config=experiments/base.py --target=v5p:4x4x4 --batch_size=64 --price=4.2
    python -m fwn.plan --config=experiments/base.py --target=h200 --what=sample --seconds=5
    python -m fwn.plan --config=experiments/base.py --target=h100 --largest_batch

It prints: the bytes on a device, and whether they fit; kernels, launches by the host, the bytes moved, collectives with
their types, copies and transposes; and the least time by the makers' figures for matrix products, memory, launches,
kernels and links. docs/plan.md explains the lines. XLA's compilers for GPUs and TPUs are
packages, which go into an environment of their own: pip install 'fwn[plan-gpu]' or 'fwn[plan-tpu]'. Compiling takes
minutes.
"""

import json
import math
from collections.abc import Callable

from absl import flags
from ml_collections import config_flags

from fwn import cli
from fwn import config as configs
from fwn.disk import write_text
from fwn.errors import UserError
from fwn.planning import programs, report, targets
from fwn.systems import build

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Experiment: a Python file with get_config(), or the name of one that comes with fwn. Required."
)
TARGET = flags.DEFINE_string("target", None, f"Devices to compile for: {targets.EXAMPLES}. Required.")
WHAT = flags.DEFINE_enum("what", "train", ["train", "sample"], "A training step, or an inverse pass on one device.")
SECONDS = flags.DEFINE_float("seconds", 5.0, "Seconds of audio to sample, with --what=sample.", 0.01, 600.0)
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size",
    None,
    "Crops of a step, on all devices together; by default config.batch_size. With --what=sample, utterances at a time; "
    "by default 1.",
    1,
)
LARGEST = flags.DEFINE_bool(
    "largest_batch",
    False,
    "Plan for the largest batch that fits, by bisection to a sixteenth: compiles a dozen programs.",
)
PRICE = flags.DEFINE_float("price", None, "Dollars of a device for an hour, to price config.num_steps.", 0.0)
OUTPUT = flags.DEFINE_string("output", None, "JSON file for all figures. By default they are only printed.")
HLO = flags.DEFINE_string("hlo", None, "File for the text of the compiled program.")


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    target, training = targets.target(str(TARGET.value)), WHAT.value == "train"
    if PRICE.value is not None and not training:
        raise UserError("--price is for training; leave it out with --what=sample")
    for flag, value in (("seconds", SECONDS.value), ("price", PRICE.value)):
        if value is not None and not math.isfinite(value):
            raise UserError(f"--{flag}={value}: not a finite number; give one")
    config = configs.copied(CONFIG.value)
    mel = configs.mel_of(config)
    configs.check(config, mel, "--config")
    devices = targets.devices(target)
    frames = config.frames if training else math.ceil(SECONDS.value * mel.sample_rate / mel.hop_length)
    system = build(config)

    def made(batch_size: int) -> programs.Compiled:
        if not training:
            return programs.sampling(system, config, mel, frames, batch_size, devices[0])
        config.batch_size = batch_size
        return programs.training(system, config, mel, devices)

    if LARGEST.value:
        batch_size, compiled = largest(made, target, target.size if training else 1)
    else:
        batch_size = BATCH_SIZE.value or (config.batch_size if training else 1)
        try:
            compiled = made(batch_size)
        except programs.TooLarge as error:
            raise UserError(
                f"--target={target.text}: a batch of {batch_size} does not fit, the compiler ran out of memory "
                f"({error}); give a smaller --batch_size, or --largest_batch"
            ) from error
    found = report.plan(WHAT.value, config, target, batch_size, batch_size * frames * mel.hop_length, compiled)
    for line in report.lines(found):
        cli.say(line)
    if training:
        cli.say(report.whole_run(found, config.num_steps, mel.sample_rate, PRICE.value))
    if HLO.value:
        write_text(HLO.value, compiled.text)
    if OUTPUT.value:
        write_text(OUTPUT.value, json.dumps(report.record(found) | {"config": configs.plain(config)}, indent=2) + "\n")


def largest(
    made: Callable[[int], programs.Compiled], target: targets.Target, unit: int
) -> tuple[int, programs.Compiled]:
    """The largest multiple of `unit` that fits as a batch, to a sixteenth, and its program. Raises UserError."""
    best: programs.Compiled | None = None

    def possible(batch_size: int) -> bool:
        nonlocal best
        try:
            found = made(batch_size)
        except programs.TooLarge:
            cli.say(f"a batch of {batch_size:,}: does not fit, the compiler ran out of memory")
            return False
        fits = report.fits(found, target)
        cli.say(f"a batch of {batch_size:,}: {found.needs / report.GIB:.2f} GiB, {'fits' if fits else 'does not fit'}")
        best = found if fits else best
        return fits

    low, high = 0, 1
    while possible(high * unit):
        low, high = high, 2 * high
    while high - low > max(1, low // 16):
        middle = (low + high) // 2
        low, high = (middle, high) if possible(middle * unit) else (low, middle)
    if best is None:
        raise UserError(f"--target={target.text}: no batch fits, not even {unit}; give larger or more devices")
    return low * unit, best


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "target"])
    cli.run(main)
