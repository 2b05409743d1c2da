"""Writes the weights of a trained model as one small file, for others to sample from. A card is yours to write.

    python -m fwn.export --ckpt=runs/lj-mini --output=voices/lj-mini
    python -m fwn.sample --ckpt=voices/lj-mini --wav=recording.flac --output=out

Kernels are stored in float16. With --data, likelihoods of held-out utterances before and after are compared, and an
export that loses more than 0.01 nats/sample is refused.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from absl import flags

from fwn import cli
from fwn import config as configs
from fwn.data.corpus import Corpus
from fwn.errors import UserError
from fwn.evaluation.measure import chosen, dequantised
from fwn.synthesis import exported
from fwn.synthesis.vocoder import Vocoder, load

CKPT = flags.DEFINE_string(
    "ckpt", None, "Workdir of fwn.train, or output folder of fwn.convert. Required.", required=True
)
STEP = flags.DEFINE_integer(
    "step", None, "Which checkpoint of it: by default the best by held-out nats/sample (of a student: loss)."
)
OUTPUT = flags.DEFINE_string(
    "output", None, "Folder for the voice. The weights of a voice in it are replaced. Required.", required=True
)
DATA = flags.DEFINE_string("data", None, "Data set made by data_prep.prepare, to compare both on its held-out part.")
UTTERANCES = flags.DEFINE_integer("utterances", 4, "Number of held-out utterances of --data, evenly spaced; 0: all.", 0)
LOSS = 0.01  # nats/sample that float16 may cost at most


def nats(vocoder: Vocoder, corpus: Corpus) -> float:
    """Mean nats/sample of held-out utterances, with the same dequantisation noise for every model."""
    rng = np.random.default_rng(0)
    indices = chosen(corpus, UTTERANCES.value)
    return float(np.mean([vocoder.log_likelihood(dequantised(corpus.audio(i), rng), corpus.mel(i)) for i in indices]))


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    output = Path(OUTPUT.value)
    if output.exists() and not exported.is_one(output):
        raise UserError(f"--output={output}: exists and is not an exported voice; give another folder")
    run = exported.read_run(CKPT.value, STEP.value)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as unfinished:
        folder = Path(unfinished)
        size = exported.write(folder, run)
        if DATA.value is not None:
            corpus = Corpus(DATA.value)
            corpus.check_contract(run.mel, CKPT.value)
            before, after = (nats(vocoder, corpus) for vocoder in (Vocoder(run), load(folder)))
            cli.say(f"held out: {before:.4f} nats/sample, in float16 {after:.4f}")
            if not before - after <= LOSS:
                raise UserError(
                    f"{CKPT.value}: float16 loses {before - after:.4f} nats/sample, more than {LOSS}; use the workdir"
                )
        output.mkdir(exist_ok=True)
        for name in (exported.WEIGHTS, configs.FILE):
            shutil.copy(folder / name, output / f".{name}")
            (output / f".{name}").replace(output / name)
    cli.say(f"{output}: {run.config.system}, step {run.step}, {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    cli.run(main)
