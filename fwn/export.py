"""Writes the weights of a trained model as one small file, for others to sample from. A card is yours to write.

    python -m fwn.export --ckpt=runs/lj-mini --output=voices/lj-mini
    python -m fwn.sample --ckpt=voices/lj-mini --wav=recording.flac --output=out

Kernels are stored in float16. With --data, likelihoods of held-out utterances before and after are compared, and an
export that loses more than 0.01 nats/sample is refused. So is a flow whose inverse errs by more than 0.01 of full
scale, on held-out utterances or, without --data, on a synthetic signal.
"""

from pathlib import Path

import numpy as np
from absl import flags

from fwn import cli
from fwn.data.corpus import Corpus
from fwn.diagnosis import material
from fwn.diagnosis.behaviour import BROKEN_INVERSE
from fwn.errors import UserError
from fwn.evaluation.measure import chosen, dequantised, inverse_error
from fwn.synthesis import exported
from fwn.synthesis.vocoder import Vocoder
from fwn.training.checkpoints import Run

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
    told = [vocoder.speakers.of(corpus, i) for i in indices]
    pairs = zip(indices, told, strict=True)
    return float(
        np.mean([vocoder.log_likelihood(dequantised(corpus.audio(i), rng), corpus.mel(i), s) for i, s in pairs])
    )


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    output = Path(OUTPUT.value)
    if output.exists() and not exported.is_one(output) and not exported.is_begun(output):
        raise UserError(f"--output={output}: exists and is not an exported voice; give another folder")
    run = exported.read_run(CKPT.value, STEP.value)

    def check(voice: Run) -> None:
        corpus = None if DATA.value is None else Corpus(DATA.value)
        if corpus is not None:
            corpus.check_contract(run.mel, CKPT.value)
        vocoder = Vocoder(voice)
        if vocoder.system.roundtrip is not None:
            told = vocoder.speakers
            on = material.synthetic(run.mel, told) if corpus is None else material.held_out(corpus, told)
            assert on.audio is not None
            each = zip(on.audio, on.mel, on.speakers, strict=True)
            error = float(np.max([inverse_error(vocoder, *one) for one in each]))
            cli.say(f"largest |x - inverse(forward(x))| on {on.what}: {error:.1e}")
            if not error <= BROKEN_INVERSE:
                raise UserError(
                    f"{CKPT.value}: its inverse errs by {error:.2g} of full scale, more than {BROKEN_INVERSE}: samples "
                    "would be noise; take another --step, or train with config.model.s_max=2"
                )
        if corpus is None:
            return
        before, after = (nats(model, corpus) for model in (Vocoder(run), vocoder))
        cli.say(f"held out: {before:.4f} nats/sample, in float16 {after:.4f}")
        if not before - after <= LOSS:
            raise UserError(
                f"{CKPT.value}: float16 loses {before - after:.4f} nats/sample, more than {LOSS}; use the workdir"
            )

    size = exported.write(output, run, check)
    cli.say(f"{output}: {run.config.system}, step {run.step}, {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    cli.run(main)
