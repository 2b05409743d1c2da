"""What can be measured of a vocoder: likelihood, copies, speeds of sampling and training, and on what machine."""

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fwn import __version__
from fwn import config as configs
from fwn.data import loader
from fwn.data.corpus import Corpus
from fwn.errors import UserError
from fwn.evaluation import metrics
from fwn.flows.densities import LSB
from fwn.mel import MelContract
from fwn.nn.conv import draw
from fwn.synthesis.vocoder import Vocoder
from fwn.systems import build
from fwn.terminal import say
from fwn.training import journal
from fwn.training.checkpoints import Run

REPETITIONS = 5  # timed runs of a sampling speed, after one that is not counted
PATIENCE = 20.0  # seconds: no more runs are begun after these


def chosen(corpus: Corpus, utterances: int) -> list[int]:
    """Indices of so many held-out utterances, evenly chosen; 0: of all."""
    indices = corpus.split("test")
    if not indices:
        raise UserError(f"{corpus.path}: no utterance is held out (its test split is empty); prepare it with one")
    n = min(utterances or len(indices), len(indices))
    return [indices[i] for i in np.linspace(0, len(indices) - 1, n).round().astype(int)]


def dequantised(recording: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The recording plus noise uniform over one 16-bit step."""
    return recording + LSB * rng.uniform(-0.5, 0.5, recording.shape).astype(recording.dtype)


def scored(vocoder: Vocoder, recording: np.ndarray, noisy: np.ndarray) -> np.ndarray:
    """Audio that the dequantised likelihood is measured on: `noisy`, or 16-bit integers for models of those.

    log P(integer) - log LSB compares with the density of audio plus uniform noise (flows.densities).
    """
    return (np.round(recording / LSB) * LSB).astype(recording.dtype) if vocoder.system.integers else noisy


def likelihoods(vocoder: Vocoder, recording: np.ndarray, mel: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """Nats per sample of one utterance, as stored and with uniform noise of one 16-bit step; a flow's inverse error."""
    noisy = scored(vocoder, recording, dequantised(recording, rng))
    figures = {
        "nats_per_sample": float(vocoder.log_likelihood(recording, mel)),
        "nats_per_sample_dequantised": float(vocoder.log_likelihood(noisy, mel)),
    }
    if vocoder.system.roundtrip is not None:
        figures["inverse_error"] = float(np.max(np.abs(vocoder.roundtrip(recording, mel) - recording)))
    return figures


def copy_metrics(name: str, recording: np.ndarray, copy: np.ndarray, rate: int) -> dict[str, float | None]:
    """All metrics of one copy; None for each, with the reason said, where it cannot be measured."""
    try:
        return metrics.copy_synthesis_metrics(recording, copy, rate)
    except UserError as error:
        say(f"{name}: not measured: {error}")
        return dict.fromkeys(metrics.METRICS)


def machine() -> dict[str, Any]:
    """What figures are measured on, and by what command."""
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
    """The median of `runs`: samples of audio a second of wall time, all `batch` utterances of `seconds` together."""

    samples_per_second: float
    real_time: float
    batch: int
    seconds: float
    runs: int


def speed(vocoder: Vocoder, mel: np.ndarray, batch: int, temperature: float) -> Speed:
    """Of sampling from `batch` times this mel [F, M], F a padded length; from mels to audio in memory, compiled."""
    keys, begun = list(jax.random.split(jax.random.key(0), batch)), time.monotonic()
    took: list[float] = []
    while len(took) <= REPETITIONS and (not took or time.monotonic() - begun < PATIENCE):
        before = vocoder.run_seconds
        for _ in vocoder.synthesise([mel] * batch, keys, temperature, batch):
            pass
        took.append(vocoder.run_seconds - before)
    timed = took[1:] or took  # a first run that took all the patience is the only one
    rate, samples = vocoder.mel.sample_rate, len(mel) * vocoder.mel.hop_length
    per_second = batch * samples / float(np.median(timed))
    return Speed(per_second, per_second / rate, batch, samples / rate, len(timed))


class Training(NamedTuple):
    """steps: the run's last; seconds: of wall time in them, all starts of the run together."""

    steps: int
    seconds: float
    steps_per_second: float


def training(workdir: Path, config: Any, mel: MelContract) -> Training | None:
    """From the journal of a run; None where there is none, as of a converted model."""
    records = journal.read(workdir)
    steps = max((r["step"] for r in records if r["what"] == "train"), default=0)
    seconds = journal.training_seconds(records, config.batch_size * config.frames * mel.hop_length / mel.sample_rate)
    return Training(steps, seconds, steps / seconds) if seconds else None


def reading(corpus: Corpus, config: Any, threads: int = 2) -> float:
    """Seconds that a batch of the config takes to be read as a training run reads it: the mean of 200, after 20."""
    shape = {"frames": config.frames, "batch_size": config.batch_size, "seed": config.seed}
    batches = loader.iterate(loader.batches(corpus, "train", **shape), 0, threads)
    for _ in range(20):
        next(batches)
    start = time.perf_counter()
    for _ in range(200):
        next(batches)
    return (time.perf_counter() - start) / 200


def synthetic(batch_size: int, frames: int, mel: MelContract, seed: int, past: int = 0) -> dict[str, np.ndarray]:
    """A batch of noise, as systems.base has batches: it takes no less time than a real one. past: System.past."""
    rng = np.random.default_rng(seed)
    before = {"past": rng.normal(0, 0.1, (batch_size, past)).astype(np.float32)} if past else {}
    return before | {
        "audio": rng.normal(0, 0.1, (batch_size, frames * mel.hop_length)).astype(np.float32),
        "mel": rng.uniform(0, 1, (batch_size, frames, mel.n_mels)).astype(np.float32),
        "index": np.arange(batch_size, dtype=np.int32),
    }


def untrained(config: Any, batch: dict[str, np.ndarray], seed: int) -> Vocoder:
    """The model of a config before its first training step, ActNorm of `batch` (systems.base). For sizes and speeds."""
    system, key = build(config), jax.random.key(seed)
    drawn = draw(jax.eval_shape(system.init, key, batch, {}), np.random.default_rng(seed))
    params = jax.jit(lambda drawn, batch: system.init(key, batch, drawn))(drawn, batch)
    return Vocoder(Run(config, configs.mel_of(config), params, 0))


def estimate(values: Sequence[float | None], what: str) -> metrics.Estimate:
    """metrics.estimate over the finite ones; the others are said and counted as missing."""
    finite = [v if v is not None and np.isfinite(v) else None for v in values]
    if missing := finite.count(None):
        say(f"{what}: not finite for {missing} of {len(values)} utterances; the mean is over the others")
    return metrics.estimate(finite)


class Figures(NamedTuple):
    """All that is measured of one system. copies: summaries of their metrics by temperature.

    None: of training, where there is no journal; of batch, where it would have taken too long; of nats, untrained.
    """

    config: Any
    parameters: int
    step: int
    training: Training | None
    nats: metrics.Estimate | None
    one: Speed
    batch: Speed | None
    copies: dict[float, dict[str, metrics.Estimate]]
