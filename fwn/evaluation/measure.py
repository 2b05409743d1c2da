"""Measurements of a vocoder: likelihood, copy synthesis, sampling and training speed, and a record of the machine."""

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from fwn import __version__
from fwn import config as configs
from fwn.data import loader
from fwn.data.corpus import Corpus
from fwn.errors import UserError
from fwn.evaluation import estimates, metrics
from fwn.flows.densities import LSB
from fwn.mel import MelContract
from fwn.nn.conv import draw
from fwn.synthesis.vocoder import Vocoder
from fwn.systems import System, build
from fwn.terminal import say
from fwn.training import journal
from fwn.training.checkpoints import Run

T = TypeVar("T")
REPETITIONS = 5  # timed sampling runs, after one warm-up run
PATIENCE = 20.0  # seconds after which no further run is started


def chosen(corpus: Corpus, utterances: int) -> list[int]:
    """Indices of held-out utterances: `utterances` of them, evenly spaced, or all if it is 0."""
    indices = corpus.split("test")
    if not indices:
        raise UserError(f"{corpus.path}: no utterance is held out (its test split is empty); prepare it with one")
    return evenly_spaced(indices, utterances)


def evenly_spaced(items: Sequence[T], n: int) -> list[T]:
    """n of the items, evenly spaced; all of them if n is 0 or more than there are."""
    n = min(n or len(items), len(items))
    return [items[i] for i in np.linspace(0, len(items) - 1, n).round().astype(int)]


def dequantised(recording: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The recording plus noise uniform over one 16-bit step."""
    return recording + LSB * rng.uniform(-0.5, 0.5, recording.shape).astype(recording.dtype)


def likelihood_input(vocoder: Vocoder, recording: np.ndarray, noisy: np.ndarray) -> np.ndarray:
    """Audio for the dequantised likelihood: `noisy`, or 16-bit steps without noise for models of integers.

    For those, log P(integer) - log LSB is comparable with the density of audio plus uniform noise (flows.densities).
    """
    return (np.round(recording / LSB) * LSB).astype(recording.dtype) if vocoder.system.integers else noisy


def inverse_error(vocoder: Vocoder, recording: np.ndarray, mel: np.ndarray, speaker: Any = None) -> float:
    """The largest |inverse(forward(x)) - x| of a flow, of audio in ±1."""
    return float(np.max(np.abs(vocoder.roundtrip(recording, mel, speaker) - recording)))


def likelihoods(
    vocoder: Vocoder, recording: np.ndarray, mel: np.ndarray, rng: np.random.Generator, speaker: Any = None
) -> dict[str, float]:
    """Nats per sample of one utterance, without and with dequantisation noise; for a flow also its inverse error."""
    noisy = likelihood_input(vocoder, recording, dequantised(recording, rng))
    figures = {
        "nats_per_sample": float(vocoder.log_likelihood(recording, mel, speaker)),
        "nats_per_sample_dequantised": float(vocoder.log_likelihood(noisy, mel, speaker)),
    }
    if vocoder.system.roundtrip is not None:
        figures["inverse_error"] = inverse_error(vocoder, recording, mel, speaker)
    return figures


def copy_metrics(name: str, recording: np.ndarray, copy: np.ndarray, rate: int) -> dict[str, float | None]:
    """All metrics of one copy; if it cannot be measured, prints the reason and returns None for each."""
    try:
        return metrics.copy_synthesis_metrics(recording, copy, rate)
    except UserError as error:
        say(f"{name}: not measured: {error}")
        return dict.fromkeys(metrics.METRICS)


def machine() -> dict[str, Any]:
    """The machine, the versions, the commit and the command, to be stored with figures."""
    commit = ""
    if shutil.which("git"):
        git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
        commit = git.stdout.strip()
    return {
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "fwn": __version__,
        "commit": commit or None,
        "command": " ".join(sys.argv[1:]),
    }


class Speed(NamedTuple):
    """Sampling speed: the median of `runs` timed runs of `batch` utterances of `seconds` each.

    samples_per_second: audio samples of the whole batch per second of wall time; real_time: over the sample rate.
    """

    samples_per_second: float
    real_time: float
    batch: int
    seconds: float
    runs: int


def speed(vocoder: Vocoder, mel: np.ndarray, batch: int, temperature: float, speaker: Any = None) -> Speed:
    """Speed of sampling a batch of copies of mel [F, M], mels to audio in memory, without compilation.

    F must be a padded length (synthesis.chunked.bucket).
    """
    keys, start = list(jax.random.split(jax.random.key(0), batch)), time.monotonic()
    took: list[float] = []
    while len(took) <= REPETITIONS and (not took or time.monotonic() - start < PATIENCE):
        before = vocoder.run_seconds
        for _ in vocoder.synthesise([mel] * batch, keys, temperature, batch, speakers=[speaker] * batch):
            pass
        took.append(vocoder.run_seconds - before)
    timed = took[1:] or took  # the warm-up run counts if it alone took longer than PATIENCE
    rate, samples = vocoder.mel.sample_rate, len(mel) * vocoder.mel.hop_length
    per_second = batch * samples / float(np.median(timed))
    return Speed(per_second, per_second / rate, batch, samples / rate, len(timed))


class Training(NamedTuple):
    """steps: the last step of the run. seconds: wall time of training steps, summed over all starts of the run."""

    steps: int
    seconds: float
    steps_per_second: float


def training(workdir: Path, config: Any, mel: MelContract) -> Training | None:
    """Read from the journal of a run; None without a journal, as for a converted model."""
    records = journal.read(workdir)
    steps = max((r["step"] for r in records if r["what"] == "train"), default=0)
    seconds = journal.training_seconds(records, config.batch_size * config.frames * mel.hop_length / mel.sample_rate)
    return Training(steps, seconds, steps / seconds) if seconds else None


def reading(corpus: Corpus, config: Any, threads: int = 2) -> float:
    """Seconds to read one batch the way a training run does: the mean of 200 batches, after 20 warm-up batches."""
    shape = {"frames": config.frames, "batch_size": config.batch_size, "seed": config.seed}
    batches = loader.iterate(loader.batches(corpus, "train", **shape), 0, threads)
    for _ in range(20):
        next(batches)
    start = time.perf_counter()
    for _ in range(200):
        next(batches)
    return (time.perf_counter() - start) / 200


def synthetic(
    batch_size: int, frames: int, mel: MelContract, seed: int, system: System | None = None
) -> dict[str, np.ndarray]:
    """A batch of noise in the layout of systems.base. It takes as long to process as real audio.

    system: whose batch it is, with the samples before it and the channels of the speaker (zeros), if it has them.
    """
    past, channels = (0, 0) if system is None else (system.past, system.speakers.channels)
    rng = np.random.default_rng(seed)
    prefix = {"past": rng.normal(0, 0.1, (batch_size, past)).astype(np.float32)} if past else {}
    return prefix | {
        "audio": rng.normal(0, 0.1, (batch_size, frames * mel.hop_length)).astype(np.float32),
        "mel": np.pad(
            rng.uniform(0, 1, (batch_size, frames, mel.n_mels)).astype(np.float32), ((0, 0), (0, 0), (0, channels))
        ),
        "index": np.arange(batch_size, dtype=np.int32),
    }


def untrained(config: Any, batch: dict[str, np.ndarray], seed: int) -> Vocoder:
    """The model of a config before training, with ActNorm initialised from `batch`. For sizes and speeds."""
    system, key = build(config), jax.random.key(seed)
    drawn = draw(jax.eval_shape(system.init, key, batch, {}), np.random.default_rng(seed))
    params = jax.jit(lambda drawn, batch: system.init(key, batch, drawn))(drawn, batch)
    return Vocoder(Run(config, configs.mel_of(config), params, 0))


def estimate(values: Sequence[float | None], what: str) -> estimates.Estimate:
    """estimates.estimate over the finite values; prints how many are not finite."""
    finite = [v if v is not None and np.isfinite(v) else None for v in values]
    if missing := finite.count(None):
        say(f"{what}: not finite for {missing} of {len(values)} utterances; the mean is over the others")
    return estimates.estimate(finite)


class Figures(NamedTuple):
    """All measurements of one system. copies: summaries of the copy-synthesis metrics by temperature.

    training is None without a journal, batch if it would take too long, nats for an untrained model.
    """

    config: Any
    parameters: int
    step: int
    training: Training | None
    nats: estimates.Estimate | None
    one: Speed
    batch: Speed | None
    copies: dict[float, dict[str, estimates.Estimate]]
