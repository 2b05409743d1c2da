"""Compares trained models on the same held-out utterances: size, training, likelihood, speed, copy synthesis.

    python -m fwn.compare --ckpts=runs/flowavenet,runs/wavenet --data=data/ljspeech --output=results
    python -m fwn.compare --untrained=experiments/base.py,experiments/wavenet_gaussian.py --speed_seconds=1.0

Prints tables of our figures and, marked as such, the paper's. The paper's ablation studies (temperature, causality,
multi-scale split, distillation losses) are included if the given models allow them. Models are named by their folders.
--output also writes comparison.txt, comparison.md, comparison.json and plots.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from fwn import cli
from fwn import config as configs
from fwn.data.corpus import Corpus
from fwn.disk import write_text
from fwn.errors import UserError
from fwn.evaluation import ablations, estimates, measure, report, report_plots
from fwn.evaluation.measure import Figures
from fwn.evaluation.published import PAPER
from fwn.shipped import experiment
from fwn.synthesis.chunked import bucket
from fwn.synthesis.vocoder import Vocoder, load
from fwn.systems import build
from fwn.xla.malloc import keep_memory

CKPTS = flags.DEFINE_list("ckpts", [], "Workdirs of fwn.train or fwn.convert, separated by commas.")
DATA = flags.DEFINE_string("data", None, "Data set made by data_prep.prepare. Required with --ckpts.")
UNTRAINED = flags.DEFINE_list(
    "untrained",
    [],
    "Experiments, separated by commas: files or names as for --config. Size and speed of their untrained models.",
)
OUTPUT = flags.DEFINE_string(
    "output", None, "Folder for text, Markdown, JSON and plots. By default the tables are only printed."
)
TEMPERATURE = flags.DEFINE_multi_float(
    "temperature",
    [0.8],
    "Standard deviation of the noise; may be repeated. Most tables use the first one, the temperature study all.",
)
UTTERANCES = flags.DEFINE_integer("utterances", 8, "Number of held-out utterances, evenly spaced; 0: all.", 0)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Utterances per batch.", 2)
SPEED_SECONDS = flags.DEFINE_float(
    "speed_seconds", 2.0, "Length of the utterances used to measure speed, rounded up to a padded length.", 0.1
)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the sampling noise and of the dequantisation noise.", 0, 2**32 - 1)

LONG = 60.0  # seconds; if one utterance takes longer, no batch is timed


class Utterance(NamedTuple):
    """noisy: the recording with dequantisation noise. key: for the sampling noise of its copies."""

    name: str
    recording: np.ndarray
    noisy: np.ndarray
    mel: np.ndarray
    key: jax.Array
    place: int  # in the data set


def utterances(corpus: Corpus) -> list[Utterance]:
    """The held-out utterances that every model is measured on."""
    rng, key = np.random.default_rng(SEED.value), jax.random.key(SEED.value)
    found = []
    for n, i in enumerate(measure.chosen(corpus, UTTERANCES.value)):
        recording = corpus.audio(i)
        noisy = measure.dequantised(recording, rng)
        name, own = corpus.utterances[i].name, jax.random.fold_in(key, n)
        found.append(Utterance(name, recording, noisy, corpus.mel(i), own, i))
    return found


def named(flag: str, given: Sequence[str]) -> dict[str, Path]:
    """Paths by their last part, which names the model in all tables. Raises UserError if two are equal."""
    found: dict[str, Path] = {}
    for path in map(Path, given):
        name = path.resolve().stem if path.suffix == ".py" else path.resolve().name
        if name in found:
            raise UserError(f"{flag}: {found[name]} and {path} are both called {name!r}; rename one of them")
        found[name] = path
    return found


def speeds(
    name: str, vocoder: Vocoder, mel: np.ndarray, speaker: Any = None
) -> tuple[measure.Speed, measure.Speed | None]:
    """Sampling speed of one utterance and of a batch, from mel [F, M] repeated or cut to --speed_seconds.

    If one utterance takes longer than LONG, no batch is timed and a message says so.
    """
    frames = bucket(math.ceil(SPEED_SECONDS.value * vocoder.mel.sample_rate / vocoder.mel.hop_length))
    mel = np.resize(mel, (frames, mel.shape[1]))
    one = measure.speed(vocoder, mel, 1, TEMPERATURE.value[0], speaker)
    if (took := one.seconds / one.real_time) > LONG:
        cli.say(f"{name}: sampling one utterance of {one.seconds:.2f} s takes {took:.0f} s, so no batch is timed")
        return one, None
    return one, measure.speed(vocoder, mel, BATCH_SIZE.value, TEMPERATURE.value[0], speaker)


def trained(name: str, workdir: Path, corpus: Corpus, held_out: Sequence[Utterance]) -> Figures:
    """All measurements of one checkpoint."""
    vocoder = load(workdir)
    who = [vocoder.speakers.of(corpus, u.place) for u in held_out]
    mels, names = [u.mel for u in held_out], [u.name for u in held_out]
    # All are padded to the longest, so that a model is compiled once for likelihood and once for sampling.
    batch_size, longest = min(BATCH_SIZE.value, len(held_out)), max(map(len, mels))
    inputs = [measure.likelihood_input(vocoder, u.recording, u.noisy) for u in held_out]
    nats = list(vocoder.log_likelihoods(inputs, mels, batch_size, longest, who))
    copies = {}
    for temperature in TEMPERATURE.value:
        keys = [u.key for u in held_out]
        audios = vocoder.synthesise(mels, keys, temperature, batch_size, longest, speakers=who)
        rows = [
            measure.copy_metrics(f"{name}: {u.name}.T{temperature}", u.recording, audio, vocoder.mel.sample_rate)
            for u, audio in zip(held_out, audios, strict=True)
        ]
        copies[temperature] = estimates.summary(rows)
    return Figures(
        vocoder.config,
        vocoder.n_params,
        vocoder.step,
        measure.training(workdir, vocoder.config, vocoder.mel),
        measure.estimate(nats, f"{name}: nats/sample of {', '.join(names)}"),
        *speeds(name, vocoder, mels[0], who[0]),
        copies,
    )


def untrained(name: str, config: Any) -> Figures:
    """Size and speed of a config's untrained model, on synthetic mels. They take as long to process as real mels."""
    mel = configs.mel_of(config)
    batch = measure.synthetic(1, 8, mel, SEED.value, build(config))
    vocoder, bands = measure.untrained(config, batch, SEED.value), batch["mel"][0, :, : mel.n_mels]
    speed = speeds(name, vocoder, bands, vocoder.speakers.example)
    return Figures(config, vocoder.n_params, 0, None, None, *speed, copies={})


def resolved(given: str) -> Any:
    """The checked config of an experiment, given by file or name, with its references resolved."""
    config = configs.copied(experiment(given))
    configs.check(config, configs.mel_of(config), given)
    return config


def as_json(figures: Figures) -> dict[str, Any]:
    """Figures as plain dicts and lists."""
    return {
        "config": configs.plain(figures.config),
        "parameters": figures.parameters,
        "step": figures.step,
        "training": figures.training and figures.training._asdict(),
        "nats_per_sample": figures.nats and figures.nats._asdict(),
        "speed_of_one": figures.one._asdict(),
        "speed_of_batch": figures.batch and figures.batch._asdict(),
        "copies": {str(t): {m: e._asdict() for m, e in by.items()} for t, by in figures.copies.items()},
    }


def conditions(
    systems: Mapping[str, Figures], models: Mapping[str, Figures], held_out: Sequence[Utterance]
) -> dict[str, Any]:
    """How it was measured: "how" in comparison.json."""
    device = jax.devices()[0]
    return {
        "device": f"{device.device_kind}, {os.cpu_count()} CPU cores",
        "ckpts": dict(zip(systems, CKPTS.value, strict=True)),
        "untrained": dict(zip(models, UNTRAINED.value, strict=True)),
        "data": DATA.value,
        "utterances": [u.name for u in held_out],
        "temperatures": TEMPERATURE.value,
        "batch_size": BATCH_SIZE.value,
        "seed": SEED.value,
    }


def compare(corpus: Corpus | None, folders: Mapping[str, Path], sizes: Mapping[str, Any], output: Path | None) -> None:
    """Measures all models, prints the tables, writes the files."""
    systems: dict[str, Figures] = {}
    held_out = [] if corpus is None else utterances(corpus)
    if corpus is not None:
        for i, (name, folder) in enumerate(folders.items(), 1):
            cli.say(f"[{i}/{len(folders)}] measuring {name}")
            systems[name] = trained(name, folder, corpus, held_out)
    models = {}
    for i, (name, config) in enumerate(sizes.items(), 1):
        cli.say(f"[{i}/{len(sizes)}] measuring the untrained {name}")
        models[name] = untrained(name, config)
    found, left_out = ablations.studies({name: f.config for name, f in systems.items()}) if systems else ([], [])
    pictures = report_plots.draw(output, systems, found, TEMPERATURE.value) if output and systems else {}
    how = conditions(systems, models, held_out)
    sections = report.sections(systems, models, found, left_out, how, pictures)
    text = report.render(sections)
    if output:
        figures = {
            "systems": {name: as_json(f) for name, f in systems.items()},
            "untrained": {name: as_json(f) for name, f in models.items()},
            "studies": {s.title: {"columns": s.columns, "rows": s.rows} for s in found},
            "left_out": left_out,
            "published": [p._asdict() for p in PAPER],
        }
        write_text(output / "comparison.txt", text)
        write_text(output / "comparison.md", report.render(sections, markdown=True))
        write_text(output / "comparison.json", json.dumps({"how": how, **figures}, indent=2) + "\n")
    cli.say(text, newlines=True)


def main(args: list[str]) -> None:
    keep_memory(jax.default_backend())
    cli.flags_alone(args)
    cli.temperatures(*TEMPERATURE.value)
    if not CKPTS.value and not UNTRAINED.value:
        raise UserError("nothing to compare; give --ckpts=DIR,DIR,… with --data, or --untrained=FILE,FILE,…")
    folders, corpus = named("--ckpts", CKPTS.value), None
    sizes = {name: resolved(str(file)) for name, file in named("--untrained", UNTRAINED.value).items()}
    if folders:
        if not DATA.value:
            raise UserError("--ckpts are measured on held-out recordings; give their data set too: --data=DIR")
        corpus = Corpus(DATA.value)
        for folder in folders.values():
            corpus.check_contract(configs.read(folder)[1], str(folder))
    output = Path(OUTPUT.value) if OUTPUT.value else None
    if output:
        output.mkdir(parents=True, exist_ok=True)
    compare(corpus, folders, sizes, output)


if __name__ == "__main__":
    cli.run(main)
