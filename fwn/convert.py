"""Converts a PyTorch checkpoint of ksw0306/FloWaveNet or ksw0306/ClariNet to a workdir.

    python -m fwn.convert checkpoint_step000700000.pth --output=runs/official
    python -m fwn.convert clarinet/wavenet_gaussian_01.pth --stacks=2 --output=runs/teacher
    python -m fwn.convert clarinet/clarinet_01.pth --teacher=runs/teacher --output=runs/student
    python -m fwn.sample --ckpt=runs/official --wav=a.wav --output=out

PyTorch is not needed, and nothing in the file is executed. The architecture is inferred from the shapes of the weights.
Every tensor is used exactly once, or the file is refused. The weights do not say how the mels were made: name it by
--mel_contract.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import jax
from absl import flags

from fwn import cli
from fwn import config as configs
from fwn.errors import UserError
from fwn.files import torch_reader
from fwn.mel import PRESETS, read_contract
from fwn.nn.weight_norm import fold_weight_norm
from fwn.official import importer
from fwn.shipped import experiment
from fwn.synthesis import exported
from fwn.training import checkpoints

OUTPUT = flags.DEFINE_string("output", None, "Folder for the converted model: a workdir. Required.", required=True)
MEL = flags.DEFINE_string(
    "mel_contract",
    "flowavenet",
    f"Mel contract of the model: {', '.join(PRESETS)}, or a JSON file of a contract.",
)
STACKS = flags.DEFINE_integer(
    "stacks",
    2,
    "Number of stacks of dilations 1, 2, 4, … in a ClariNet teacher (its --num_blocks), which cannot be inferred. "
    "FloWaveNet and ClariNet's student do not need it.",
    lower_bound=1,
)
TEACHER = flags.DEFINE_string(
    "teacher", None, "For a ClariNet student: the workdir of its converted teacher, whose upsampling it uses."
)
EXPERIMENTS = {"flowavenet": "base", "wavenet": "wavenet_gaussian", "clarinet": "clarinet"}


def upsampling() -> Any:
    """The plain upsampling weights of --teacher; None without one."""
    if TEACHER.value is None:
        return None
    config, mel, params, _ = exported.read_run(TEACHER.value)
    if config.system != "wavenet":
        raise UserError(f"--teacher={TEACHER.value} is a {config.system}; a ClariNet student's teacher is a wavenet")
    if mel.hash() != (stated := read_contract(MEL.value, "--mel_contract")).hash():
        raise UserError(
            f"--teacher={TEACHER.value} has the mel contract {mel.title}, --mel_contract={MEL.value} is {stated.title}"
        )
    return fold_weight_norm(params["upsample"])


def main(args: list[str]) -> None:
    if len(args) != 1:
        raise UserError(
            f"give one checkpoint to convert (official.pth), got {len(args)}: {' '.join(args)}".rstrip(": ")
        )
    source, mel = args[0], read_contract(MEL.value, "--mel_contract")
    checkpoint = torch_reader.read(source)
    system, fields, params, n_mels = importer.convert(checkpoint, source, STACKS.value, upsampling())
    if system != "clarinet" and TEACHER.value is not None:
        raise UserError(f"--teacher={TEACHER.value}: {source} is a {system}, which does not use one; leave it out")
    if n_mels != mel.n_mels:
        raise UserError(
            f"{source}: takes mels with {n_mels} bands, but --mel_contract={MEL.value} has {mel.n_mels}; name another"
        )
    leaves = jax.tree.leaves(params)
    step = checkpoint.get("global_step", 0)  # a state dict alone has none
    if type(step) is not int or not 0 <= step < 2**31:
        raise UserError(f"{source}: its global_step is {step!r}; it must be a whole number in 0 … 2^31 - 1")
    cli.say(f"{source}: {system}, " + ", ".join(f"{name} {value}" for name, value in fields.items()))
    cli.say(
        f"{sum(leaf.size for leaf in leaves):,} parameters with weight-norm gains, "
        f"{' and '.join(Counter(str(leaf.dtype) for leaf in leaves))}; "
        + (f"trained for {step:,} steps" if step else "its number of steps is not recorded")
    )
    config = configs.copied(experiment(EXPERIMENTS[system]))
    config.model.update(fields)
    config.mel = MEL.value
    if system == "clarinet":
        config.teacher = TEACHER.value
    checkpoints.write(OUTPUT.value, config, mel, params, step)
    cli.say(f"{Path(OUTPUT.value)}: converted, with the mel contract {mel.title}, which the weights cannot confirm")


if __name__ == "__main__":
    cli.run(main)
