"""Measures a model on the held-out part of a prepared data set: likelihood, bits, copy synthesis against recordings.

    python -m fwn.evaluate --ckpt=runs/base --data=data/ljspeech
    python -m fwn.evaluate --ckpt=runs/base --data=data/ljspeech --temperature=0.6 --temperature=0.8 --output=results

Prints a table, and one by speaker if there are several. --output also writes results.json, table.txt, table.md and the
run's loss curve, and for each utterance the recording, its copies and a plot of their mels.
"""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from fwn import cli
from fwn.audio import audio_file
from fwn.data.corpus import Corpus
from fwn.disk import write_text
from fwn.evaluation import bits, by_speaker, estimates, plots
from fwn.evaluation.measure import chosen, copy_metrics, likelihoods, machine, training
from fwn.mel import mel_spectrogram
from fwn.synthesis.vocoder import Vocoder, load
from fwn.training import journal
from fwn.xla.malloc import keep_memory

CKPT = flags.DEFINE_string(
    "ckpt", None, "Workdir of fwn.train, or output folder of fwn.convert or fwn.export. Required.", required=True
)
STEP = cli.step()
DATA = flags.DEFINE_string("data", None, "Data set made by data_prep.prepare. Required.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "Folder for results, audio and plots. By default only a table is printed.")
TEMPERATURE = flags.DEFINE_multi_float(
    "temperature",
    [],
    "Standard deviation of the noise; may be repeated. By default 0.8, or 1 for a model with linear prediction.",
)
SAMPLING = cli.sampling()
SPEAKER = cli.speaker("whom the data set names. Given, it is told for all utterances, also those of others.")
SEED = flags.DEFINE_integer("seed", 0, "Seed of the sampling noise and of the dequantisation noise.", 0, 2**32 - 1)
UTTERANCES = flags.DEFINE_integer("utterances", 0, "Number of held-out utterances, evenly spaced; 0: all.", 0)
TUNED = ("level_temperatures", "denoise")  # of a vocoder; the table names them where they are set


def evaluate(vocoder: Vocoder, corpus: Corpus, indices: list[int], speaker: Any, output: Path | None) -> dict[str, Any]:
    """Measurements by utterance: {"likelihood": {name: …}, "copies": {temperature: {name: …}}}.

    speaker: told for all utterances; None: whom the data set names, if the model is told at all.
    Writes audio and plots into `output`, unless it is None.
    """
    rng = np.random.default_rng(SEED.value)
    temperatures = TEMPERATURE.value or [vocoder.temperature]
    rows: dict[str, Any] = {"likelihood": {}, "copies": {t: {} for t in temperatures}}
    rate, hop = vocoder.mel.sample_rate, vocoder.mel.hop_length
    told = [vocoder.speakers.of(corpus, i) if speaker is None else speaker for i in indices]
    for n, i in enumerate(cli.progress(indices, "evaluating")):
        name, recording, mel = corpus.utterances[i].name, corpus.audio(i), corpus.mel(i)
        nats = likelihoods(vocoder, recording, mel, rng, told[n])
        rows["likelihood"][name] = nats | bits.figures(recording, rate, nats["nats_per_sample_dequantised"])
        key = jax.random.fold_in(jax.random.key(SEED.value), n)
        pictures = {"recording": mel}
        path = output / name if output else None  # name may contain folders
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            audio_file.write(f"{path}.recording.wav", recording, rate)
        for temperature in temperatures:
            copy = next(vocoder.synthesise([mel], [key], temperature, speakers=[told[n]]))
            title = f"{name}.T{temperature}"
            rows["copies"][temperature][name] = copy_metrics(title, recording, copy, rate)
            if path and np.isfinite(copy).all():
                pictures[f"copy at T = {temperature}"] = mel_spectrogram(copy, vocoder.mel)[: len(mel)]
                if saturated := audio_file.write(f"{path}.T{temperature}.wav", copy, rate):
                    cli.say(f"{title}.wav: {saturated} samples beyond full scale were saturated")
        if path:
            plots.mel_pair(f"{path}.png", pictures, rate, hop, f"mel ({vocoder.mel.name})")
    return rows


def card(vocoder: Vocoder, corpus: Corpus) -> dict[str, Any]:
    """What was measured: the model, its training, the data set and the machine.

    transcripts: text of each held-out utterance for which the data set has one.
    chapters: for each held-out clip of LJSpeech its chapter, and how many training clips are from that chapter.
    """
    parts = {split: [corpus.utterances[i] for i in corpus.split(split)] for split in ("train", "test")}
    to_seconds = vocoder.mel.hop_length / vocoder.mel.sample_rate
    training_clips = Counter(chapter(u.name) for u in parts["train"])
    run = training(Path(CKPT.value), vocoder.config, vocoder.mel)
    return {
        "system": vocoder.config.system,
        "parameters": vocoder.n_params,
        "mel": vocoder.mel.title,
        "trained_on": vocoder.config.data,
        "training": run and run._asdict(),
        "parts": {
            split: {"utterances": len(part), "seconds": to_seconds * sum(u.frames for u in part)}
            for split, part in parts.items()
        },
        "transcripts": {u.name: u.text for u in parts["test"] if u.text},
        "chapters": {
            u.name: {"name": name, "train": training_clips[name]} for u in parts["test"] if (name := chapter(u.name))
        },
        "machine": machine(),
    }


def chapter(name: str) -> str | None:
    """The chapter of an LJSpeech clip: LJ001 for LJ001-0001; None for other names."""
    match = re.fullmatch(r"(?:.*/)?(LJ\d{3})-\d{4}", name)
    return match[1] if match else None


def summarise(rows: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Estimates over utterances: "likelihood", and "T = …" for the copies at each temperature."""
    likelihood = list(rows["likelihood"].values())
    columns = {"likelihood": {name: estimates.estimate([row[name] for row in likelihood]) for name in likelihood[0]}}
    return columns | {f"T = {t}": estimates.summary(list(by_name.values())) for t, by_name in rows["copies"].items()}


def as_json(columns: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Estimates as plain dicts."""
    return {title: {name: e._asdict() for name, e in column.items()} for title, column in columns.items()}


def report(
    vocoder: Vocoder, rows: dict[str, Any], columns: dict[str, Any], pooled: float, markdown: bool = False
) -> str:
    """The likelihood and bits, then a table of copy-synthesis metrics with one column per temperature.

    pooled: entropy of the 16-bit values of all recordings, in bits.
    """

    def line(label: str, name: str) -> str:
        return f"{label}: {estimates.cell(columns['likelihood'][name], 4)}"

    tuned = [f"{name} {value}" for name in TUNED if (value := getattr(vocoder, name))]
    inverse = []
    if vocoder.system.roundtrip is not None:
        worst = max(row["inverse_error"] for row in rows["likelihood"].values())
        inverse = [f"max |x - inverse(forward(x))|: {worst:.1e}"]
    lines = [
        f"{vocoder.config.system}, {vocoder.n_params:,} parameters, step {vocoder.step}",
        f"{len(rows['likelihood'])} held-out utterances" + (f", told: {SPEAKER.value}" if SPEAKER.value else ""),
        line("nats/sample, recordings as stored (16 bit)", "nats_per_sample"),
        line("nats/sample, with 1-LSB uniform dequantisation", "nats_per_sample_dequantised"),
        *inverse,
        *bits.report(
            {name: estimates.cell(columns["likelihood"][name], 2) for name in bits.SHOWN}, pooled, vocoder.mel
        ),
        *([f"copies: {', '.join(tuned)}"] if tuned else []),
        "mean ± 95% confidence interval (Student's t over utterances)",
    ]
    copies = {title: column for title, column in columns.items() if title != "likelihood"}
    return ("  \n" if markdown else "\n").join(lines) + "\n\n" + estimates.table(copies, markdown) + "\n"


def loss_curve(workdir: Path, path: Path) -> None:
    """Plots nats/sample (for a student: the loss) against steps. Does nothing without a journal (converted models)."""
    records = journal.read(workdir)
    if not records:
        return
    name, series = journal.headline(records[0]), {}
    for label, what in (("train", "train"), ("held-out", "held_out")):
        if rows := [r for r in records if r["what"] == what]:
            series[label] = [r["step"] for r in rows], [r[name] for r in rows]
    plots.curve(path, series, "step", name.replace("nats_per_", "nats/"))


def main(args: list[str]) -> None:
    keep_memory(jax.default_backend())
    cli.flags_alone(args)
    cli.temperatures(*TEMPERATURE.value)
    corpus = Corpus(DATA.value)
    vocoder = load(CKPT.value, STEP.value, **SAMPLING())
    corpus.check_contract(vocoder.mel, CKPT.value)
    indices, speaker = chosen(corpus, UTTERANCES.value), vocoder.speakers.given(SPEAKER.value, "speaker")
    output = Path(OUTPUT.value) if OUTPUT.value else None
    if output:
        output.mkdir(parents=True, exist_ok=True)
    rows = evaluate(vocoder, corpus, indices, speaker, output)
    pooled = bits.histogram(map(corpus.audio, indices))
    columns = summarise(rows)
    names = {corpus.utterances[i].name: corpus.utterances[i].speaker for i in indices}
    speakers = by_speaker.by_speaker(rows, names, summarise)

    def written(markdown: bool) -> str:
        more = "\n" + by_speaker.table(speakers, markdown) + "\n" if speakers else ""
        return report(vocoder, rows, columns, pooled, markdown) + more

    text = written(markdown=False)
    if output:
        loss_curve(Path(CKPT.value), output / "loss.png")
        result = {"ckpt": CKPT.value, "step": vocoder.step, "data": DATA.value, "seed": SEED.value}
        result |= {name: getattr(vocoder, name) for name in ("low_temperature", *TUNED)}
        result["speaker"] = SPEAKER.value
        result |= {"card": card(vocoder, corpus), "summary": as_json(columns), "utterances": rows}
        result["bits"] = {"by_histogram_of_all": pooled, "of_float16_mel": bits.of_mel(vocoder.mel)}
        result["speakers"] = {name: as_json(own) for name, own in speakers.items()}
        write_text(output / "table.txt", text)
        write_text(output / "table.md", written(markdown=True))
        write_text(output / "results.json", json.dumps(result, indent=2) + "\n")  # last: then all is there
    cli.say(text, newlines=True)


if __name__ == "__main__":
    cli.run(main)
