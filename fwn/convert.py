"""An official FloWaveNet checkpoint (ksw0306/FloWaveNet, trained with PyTorch) becomes one of ours.

    python -m fwn.convert checkpoint_step000700000.pth --output=runs/official
    python -m fwn.sample --ckpt=runs/official --wav=a.wav --output=out

PyTorch is not needed, and nothing in the file is executed. The architecture is read from the shapes of the weights;
every tensor is used exactly once, or the file is refused. How the mels were made the weights cannot say;
--mel_contract does.
"""

from collections import Counter
from pathlib import Path

import jax
from absl import flags

from experiments import base
from fwn import checkpoints, cli, official, torch_file
from fwn.errors import UserError
from fwn.mel import PRESETS, read_contract

OUTPUT = flags.DEFINE_string("output", None, "Folder for the converted model: a workdir. Required.", required=True)
MEL = flags.DEFINE_string(
    "mel_contract",
    "flowavenet",
    f"By which convention the model's mels were made: {', '.join(PRESETS)}, or a JSON file of a contract.",
)


def main(args: list[str]) -> None:
    if len(args) != 1:
        raise UserError(
            f"give one checkpoint to convert (official.pth), got {len(args)}: {' '.join(args)}".rstrip(": ")
        )
    source, mel = args[0], read_contract(MEL.value, "--mel_contract")
    checkpoint = torch_file.read(source)
    fields, params, n_mels = official.flowavenet(checkpoint, source)
    if n_mels != mel.n_mels:
        raise UserError(
            f"{source}: takes mels of {n_mels} bands, but --mel_contract={MEL.value} has {mel.n_mels}; name its own"
        )
    leaves = jax.tree.leaves(params)
    step = int(checkpoint.get("global_step", 0))  # a state dict alone has none
    cli.say(f"{source}: FloWaveNet, " + ", ".join(f"{name} {value}" for name, value in fields.items()))
    cli.say(
        f"{sum(leaf.size for leaf in leaves):,} parameters with weight-norm gains, "
        f"{' and '.join(Counter(str(leaf.dtype) for leaf in leaves))}; "
        + (f"trained for {step:,} steps" if step else "its number of steps is not recorded")
    )
    config = base.get_config()
    config.model.update(fields)
    config.mel = MEL.value
    checkpoints.write(OUTPUT.value, config, mel, params, step)
    cli.say(f"{Path(OUTPUT.value)}: the converted model, for mels by the contract {mel.title} (the weights cannot say)")


if __name__ == "__main__":
    cli.run(main)
