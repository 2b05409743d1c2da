"""Memory and time of sampling for one length of audio, with untrained weights and random mels.

    python benchmarks/long_audio.py --config=experiments/tiny.py --seconds=600 --chunk=128

Prints one line. Peak memory is that of the whole process, so run the program once for each length.
"""

import resource
import sys

import numpy as np
from absl import flags
from ml_collections import config_flags

from fwn import cli
from fwn import config as configs
from fwn.evaluation import measure
from fwn.systems import build

CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment: a Python file with get_config(). Required.")
SECONDS = flags.DEFINE_float("seconds", 60.0, "Length of the audio.", 0.1)
CHUNK = flags.DEFINE_integer("chunk", None, "Mel frames per chunk, as in fwn.sample.", 0)
STREAM = flags.DEFINE_bool("stream", False, "Feed the mel frame by frame to Vocoder.stream instead.")
flags.mark_flag_as_required("config")


def peak() -> float:
    """Peak resident memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main(args: list[str]) -> None:
    del args
    mel = configs.mel_of(CONFIG.value)
    vocoder = measure.untrained(CONFIG.value, measure.synthetic(1, 8, mel, 0, build(CONFIG.value)), 0)
    before, n_frames = peak(), round(SECONDS.value * mel.sample_rate / mel.hop_length)
    frames = np.random.default_rng(0).uniform(0, 1, (n_frames, mel.n_mels))
    if STREAM.value:
        stream = vocoder.stream(iter(frames), chunk=CHUNK.value, speaker=vocoder.speakers.example)
        samples = sum(len(audio) for audio in stream)
        how = f"stream, latency {stream.latency:.2f} s"
    else:
        samples = len(vocoder(frames, chunk=CHUNK.value, speaker=vocoder.speakers.example))
        how = "default chunks" if CHUNK.value is None else f"--chunk={CHUNK.value}"
    seconds = samples / mel.sample_rate
    cli.say(
        f"{seconds:.1f} s of audio, {how}: {vocoder.run_seconds:.1f} s, {seconds / vocoder.run_seconds:.2f} × real "
        f"time; compiled in {vocoder.compile_seconds:.1f} s; peak {peak():.0f} MiB, {before:.0f} before sampling"
    )


if __name__ == "__main__":
    cli.run(main)
