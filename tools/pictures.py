"""Draws what a flow does: noise becoming speech, block by block, and a recording beside its noise.

    python -m tools.pictures --wav=recording.wav --output=out

Writes OUTPUT/becoming.webp, an animation, and OUTPUT/latent.png. The animation shows the noise, and what is left of the
inverse after each block: the excitation, then the same with the predicted low bands, and speech, the excitation through
the filters of the mel. A model without linear prediction ends with its blocks.
"""

from pathlib import Path

import jax
from absl import flags

from fwn import cli, shipped
from fwn.audio import audio_file
from fwn.errors import UserError
from fwn.evaluation import flow_plots
from fwn.mel import align
from fwn.synthesis.exported import read_run
from fwn.synthesis.stages import cuts, stages
from fwn.synthesis.vocoder import Vocoder

CKPT = cli.ckpt()
STEP = cli.step()
WAV = flags.DEFINE_string("wav", None, "Recording whose mel and noise are drawn. Required.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "Folder for the pictures. Required.", required=True)
SECONDS = flags.DEFINE_float("seconds", 2.5, "So much of the recording is used, from its beginning.", lower_bound=0.1)
SPEAKER = cli.speaker("the only one that it knows.")


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    run = read_run(CKPT.value or shipped.voice(), STEP.value)
    if run.config.system != "flowavenet":
        raise UserError(f"--ckpt={CKPT.value}: {run.config.system} has no blocks; give a FloWaveNet")
    vocoder = Vocoder(run)
    rate = vocoder.mel.sample_rate
    samples, _ = audio_file.read(WAV.value, rate, vocoder.mel.n_fft)
    audio, mel = align(samples, vocoder.mel)
    frames = min(len(mel), round(SECONDS.value * rate / vocoder.mel.hop_length))
    audio, mel = audio[: frames * vocoder.mel.hop_length], mel[:frames]
    speaker = vocoder.speakers.given(SPEAKER.value, "speaker")
    noise = vocoder.noise(frames, jax.random.key(0))
    made = vocoder.decode(noise, mel, speaker=speaker)
    output = Path(OUTPUT.value)
    output.mkdir(parents=True, exist_ok=True)
    way = cli.progress(stages(run, made, mel, speaker), "blocks", len(cuts(run)) + 1)
    flow_plots.becoming(output / "becoming.webp", list(way), rate)
    latent = {"a recording": audio, "its noise": vocoder.encode(audio, mel, speaker)}
    flow_plots.beside(output / "latent.png", latent, rate)
    for name in ("becoming.webp", "latent.png"):
        cli.say(f"written: {output / name}")


if __name__ == "__main__":
    cli.run(main)
