"""Measures the tones of models, with and without --denoise, and the level of a silent mel (docs/tones.md).

    python benchmarks/tones.py --ckpt=ordinary=runs/plain --ckpt=odd=runs/odd --data=data/lj-mini --temperature=0.8

Prints a Markdown table. Line noise is the mean over clips (fwn.evaluation.metrics.line_noise). Silence is the level of
what a model makes of 400 mel frames of silence, without the frames that the ends reach.
"""

import jax
import numpy as np
from absl import flags

from fwn import cli
from fwn.data.corpus import Corpus
from fwn.errors import UserError
from fwn.evaluation import flow_plots
from fwn.evaluation.measure import chosen
from fwn.evaluation.metrics import line_noise
from fwn.synthesis.vocoder import Vocoder, load

CKPT = flags.DEFINE_multi_string("ckpt", None, "Model, as NAME=FOLDER; may be repeated. Required.", required=True)
DATA = flags.DEFINE_string("data", None, "Data set whose held-out clips are copied. Required.", required=True)
TEMPERATURE = flags.DEFINE_multi_float(
    "temperature", [0.5, 0.8, 1.0], "Standard deviation of the noise; may be repeated."
)
CLIPS = flags.DEFINE_integer("clips", 6, "Held-out clips, evenly spaced.", lower_bound=1)
FRAMES = flags.DEFINE_integer("frames", 384, "Mel frames of each clip that are used.", lower_bound=64)
FIGURE = flags.DEFINE_string("figure", None, "PNG file of long-term spectra at the first temperature.")
SILENT = 400  # mel frames


def silence(vocoder: Vocoder, temperature: float) -> np.ndarray:
    """What the model makes of a silent mel, away from its ends."""
    before, after = vocoder.system.receptive_field
    audio = vocoder(vocoder.silence(before + SILENT + after), temperature, jax.random.key(1))
    return np.asarray(audio)[before * vocoder.mel.hop_length :][: SILENT * vocoder.mel.hop_length]


def measured(
    vocoder: Vocoder, mels: list[np.ndarray], temperature: float, denoise: float
) -> tuple[np.ndarray, np.ndarray, str]:
    """(copies, one after the other; silence; line noise of the copies, level and line noise of silence, in cells)."""
    vocoder.denoise, rate = denoise, vocoder.mel.sample_rate
    copies = [vocoder(mel, temperature, jax.random.key(i)) for i, mel in enumerate(mels)]
    quiet = silence(vocoder, temperature)
    level = 10 * np.log10(np.square(quiet, dtype=float).mean() + 1e-20)
    tones = np.mean([line_noise(copy, rate) for copy in copies])
    return np.concatenate(copies), quiet, f"{tones:.2f} | {level:.1f} | {line_noise(quiet, rate):.2f}"


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    cli.temperatures(*TEMPERATURE.value)
    corpus = Corpus(DATA.value)
    rate, hop = corpus.contract.sample_rate, corpus.contract.hop_length
    clips = chosen(corpus, CLIPS.value)
    mels = [corpus.mel(i)[: FRAMES.value] for i in clips]
    recordings = [corpus.audio(i)[: FRAMES.value * hop] for i in clips]
    noise = np.mean([line_noise(audio, rate) for audio in recordings])
    cli.say(f"line noise of the recordings: {noise:.2f} dB")
    cli.say("| model | T | denoise | line noise, dB | silence, dBFS | its line noise, dB |")
    cli.say("|---|---|---|---|---|---|")
    panels = {}
    for given in CKPT.value:
        name, named, folder = given.partition("=")
        if not named:
            raise UserError(f"--ckpt={given}: give NAME=FOLDER, as in odd=runs/odd")
        vocoder = load(folder)
        corpus.check_contract(vocoder.mel, folder)
        for temperature in TEMPERATURE.value:
            signals = {"recordings": np.concatenate(recordings)}
            for denoise, label in ((0.0, "silence"), (1.0, "silence, --denoise=1")):
                signals["copies"], signals[label], cells = measured(vocoder, mels, temperature, denoise)
                cli.say(f"| {name} | {temperature:g} | {denoise:g} | {cells} |")
            if temperature == TEMPERATURE.value[0]:
                panels[f"{name}, T = {temperature:g}"] = signals
    if FIGURE.value:
        flow_plots.spectra(FIGURE.value, panels, rate)


if __name__ == "__main__":
    cli.run(main)
