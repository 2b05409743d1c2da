"""Writes a trained model for others to use: a folder that runs without fwn, or its weights as one small file.

    python -m fwn.export --ckpt=runs/base --output=export/base --licence="CC BY 4.0"
    python -m fwn.export --ckpt=runs/lj-mini --format=voice --output=voices/lj-mini

The folder has the programs as StableHLO for CPUs, GPUs and TPUs, the weights, the mel contract, a loader that needs
only jax, and a model card (docs/export.md). Programs that differ from the model by more than 1e-5 are refused. With
--format=voice there are only the weights, kernels in float16, for fwn: with --data, likelihoods of held-out utterances
before and after are compared, and a loss of more than 0.01 nats/sample is refused. In both, a flow whose inverse errs
by more than 0.01 of full scale is refused, on held-out utterances or, without --data, on a synthetic signal.
"""

from pathlib import Path

import numpy as np
from absl import flags

from fwn import cli
from fwn.config import Speakers
from fwn.data.corpus import Corpus
from fwn.diagnosis import material
from fwn.diagnosis.behaviour import BROKEN_INVERSE
from fwn.diagnosis.material import Material
from fwn.errors import UserError
from fwn.evaluation.measure import chosen, dequantised, inverse_error
from fwn.portable import card, folder
from fwn.synthesis import exported
from fwn.synthesis.vocoder import Vocoder
from fwn.training.checkpoints import Run

CKPT = flags.DEFINE_string(
    "ckpt", None, "Workdir of fwn.train, or output folder of fwn.convert or fwn.export. Required.", required=True
)
STEP = flags.DEFINE_integer(
    "step", None, "Which checkpoint of it: by default the best by held-out nats/sample (of a student: loss)."
)
OUTPUT = flags.DEFINE_string(
    "output", None, "Folder to write. An export of the same format in it is replaced. Required.", required=True
)
FORMAT = flags.DEFINE_enum(
    "format", "folder", ["folder", "voice"], "A folder that runs without fwn, or a voice: one small file for fwn alone."
)
DATA = flags.DEFINE_string("data", None, "Data set made by data_prep.prepare, to measure on its held-out part.")
UTTERANCES = flags.DEFINE_integer("utterances", 4, "Number of held-out utterances of --data, evenly spaced; 0: all.", 0)
RESULTS = flags.DEFINE_string("results", None, "Folder that fwn.evaluate --output made of the model, for the card.")
LICENCE = flags.DEFINE_string("licence", None, "Licence of the weights, for the card.")
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


def check_output(output: Path) -> None:
    """Raises UserError if the output has anything that an export of this format may not replace."""
    there, file = exported.kind(output), exported.VOICE if FORMAT.value == "voice" else exported.WEIGHTS
    if output.exists() and there is None and not exported.is_begun(output):
        raise UserError(f"--output={output}: exists and is not an export; give another folder")
    if there not in (None, file):
        other = "voice" if there == exported.VOICE else "folder"
        raise UserError(
            f"--output={output}: has another format ({there}); replace it with --format={other}, or give another folder"
        )
    if FORMAT.value == "folder" and card.edited(output / card.FILE):
        raise UserError(
            f"--output={output}: {card.FILE} was not written by fwn.export, or was changed; move it, or give another "
            "folder"
        )


def check_inverse(vocoder: Vocoder, on: Material) -> str:
    """The largest error of a flow's inverse, "" for other systems. Raises UserError if it is broken."""
    if vocoder.system.roundtrip is None:
        return ""
    assert on.audio is not None
    error = float(np.max([inverse_error(vocoder, *one) for one in zip(on.audio, on.mel, on.speakers, strict=True)]))
    cli.say(f"largest |x - inverse(forward(x))| on {on.what}: {error:.1e}")
    if not error <= BROKEN_INVERSE:
        raise UserError(
            f"{CKPT.value}: its inverse errs by {error:.2g} of full scale, more than {BROKEN_INVERSE}: samples "
            "would be noise; take another --step, or train with config.model.s_max=2"
        )
    return f"{error:.1e}"


def write_voice(output: Path, run: Run, corpus: Corpus | None, on: Material) -> int:
    """Bytes written."""

    def check(voice: Run) -> None:
        vocoder = Vocoder(voice)
        check_inverse(vocoder, on)
        if corpus is None:
            return
        before, after = (nats(model, corpus) for model in (Vocoder(run), vocoder))
        cli.say(f"held out: {before:.4f} nats/sample, in float16 {after:.4f}")
        if not before - after <= LOSS:
            raise UserError(
                f"{CKPT.value}: float16 loses {before - after:.4f} nats/sample, more than {LOSS}; use the workdir"
            )

    return exported.write_voice(output, run, check)


def write_folder(output: Path, run: Run, corpus: Corpus | None, on: Material) -> int:
    """Bytes written."""
    vocoder = Vocoder(run)
    tables = card.results(Path(RESULTS.value), vocoder) if RESULTS.value else ""
    measured = {}
    if error := check_inverse(vocoder, on):
        measured[f"largest error of the inverse, of full scale, on {on.what}"] = error
    if corpus is not None:
        what = f"nats/sample, with 1-LSB dequantisation, {len(chosen(corpus, UTTERANCES.value))} held-out utterances"
        measured[what] = f"{nats(vocoder, corpus):.4f}"
    size, found = folder.write(output, run, vocoder, on.mel, on.speakers, measured, tables, LICENCE.value)
    cli.say(f"largest difference of the programs on {found.platform}, of full scale: {found.largest:.1e}")
    return size


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    output = Path(OUTPUT.value)
    check_output(output)
    run = exported.read_run(CKPT.value, STEP.value)
    corpus = None if DATA.value is None else Corpus(DATA.value)
    if corpus is not None:
        corpus.check_contract(run.mel, CKPT.value)
    told = Speakers(run.config)
    on = material.synthetic(run.mel, told) if corpus is None else material.held_out(corpus, told)
    size = (write_voice if FORMAT.value == "voice" else write_folder)(output, run, corpus, on)
    cli.say(f"{output}: {run.config.system}, step {run.step}, {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    cli.run(main)
