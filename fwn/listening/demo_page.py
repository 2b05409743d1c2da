"""Writes the demo page OUTPUT/demo/index.html: recordings beside their copies, with spectrograms.

For systems from fwn.evaluate it also has all temperatures, transcripts, a table of metrics with the published
FloWaveNet as its last row, and a description of each model.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fwn.audio.spectral import stft_magnitude
from fwn.errors import UserError
from fwn.evaluation import estimates, metrics, plots
from fwn.evaluation.published import FLOWAVENET, MEASURED, UTTERANCES
from fwn.evaluation.report import duration
from fwn.listening.blind_test import write_clip, write_page
from fwn.listening.stimuli import REFERENCE, Audio, Stimuli

SPECTROGRAM = (512, 256, 80.0)  # n_fft, hop, range in dB
LINKS = '<p><a href="#figures">Figures</a>, <a href="#models">what was measured</a></p>'
PUBLISHED = dict(zip(MEASURED, FLOWAVENET.samples, strict=True))


class Evaluation(NamedTuple):
    """The results.json of fwn.evaluate. card: the model in words. copies: estimates of metrics by temperature.

    transcripts: text by utterance, where the data set has it.
    chapters: by utterance of LJSpeech {"name": chapter, "train": number of its clips in the training part}.
    """

    card: dict[str, str]
    copies: dict[float, dict[str, estimates.Estimate]]
    transcripts: dict[str, str]
    chapters: dict[str, dict[str, Any]]


def evaluations(stimuli: Stimuli) -> dict[str, Evaluation]:
    """Results of the systems from fwn.evaluate. Raises UserError if a clip is not in its results.json."""
    return {name: _read(name, folder / "results.json", stimuli) for name, folder in stimuli.evaluated.items()}


def _read(name: str, file: Path, stimuli: Stimuli) -> Evaluation:
    again = "run fwn.evaluate again, into a new folder"
    if not file.is_file():
        raise UserError(f"{file}: no such file, so the evaluation did not finish; {again}")
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
        copies = {float(t): rows for t, rows in results["utterances"]["copies"].items()}
        means = {t: estimates.summary(list(copies[t].values())) for t in sorted(copies)}
        transcripts = results["card"].get("transcripts", {})  # older versions did not write them
        found = Evaluation(card(results), means, transcripts, results["card"]["chapters"])
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: damaged, or written by an older version ({error!r}); {again}") from error
    for t, utterance in ((t, u) for system, t, u in stimuli.temperatures if system == name):
        if utterance not in copies.get(t, ()):
            raise UserError(f"{file}: {utterance} at T = {t:g} is missing, its clip is from another run; {again}")
    return found


def write(folder: Path, stimuli: Stimuli, title: str, level: float, found: Mapping[str, Evaluation]) -> None:
    """Writes the page into `folder`. level: of all clips, in dB of full scale."""
    (folder / "audio").mkdir(parents=True)
    sections = [_utterance(folder, n, u, stimuli, found) for n, u in enumerate(stimuli.utterances)]
    words = (
        f"All clips are played at one level, {_number(level, 1)} dB of full scale (RMS). Spectrograms: 0 to "
        f"{stimuli.sample_rate / 2000:.3g} kHz from bottom to top, {SPECTROGRAM[2]:g} dB from dark to bright, with one "
        "scale for each utterance."
    )
    if found:
        sections = [LINKS, *sections, _figures(found), _cards(found)]
        words = (
            "Copies are made only from the mel spectrogram of a recording and from noise. The temperature T is the "
            f"standard deviation of the noise. {words}"
        )
    write_page(folder, "demo", ("demo.js", "style.css"), title=title, words=words, sections="\n".join(sections))


def _utterance(folder: Path, n: int, u: str, stimuli: Stimuli, found: Mapping[str, Evaluation]) -> str:
    recording = stimuli.clips[REFERENCE, u]
    low = _spectrogram(recording).max() - SPECTROGRAM[2]
    cards = []
    for i, (name, clip) in enumerate([("Recording", recording), *_copies(stimuli, u)]):
        file = re.sub(r"[^\w.-]+", "_", f"{n:02d}.{i}.{name}", flags=re.ASCII)
        write_clip(folder / "audio" / f"{file}.wav", clip, stimuli.sample_rate)
        plots.spectrogram(folder / "audio" / f"{file}.png", _spectrogram(clip), low, low + SPECTROGRAM[2])
        said = html.escape(f"{u}, {name}")
        cards.append(
            f"<figure><figcaption>{html.escape(name)}</figcaption>"
            f'<img src="audio/{file}.png" alt="Spectrogram: {said}" loading="lazy">'
            f'<audio controls controlslist="nodownload noplaybackrate" preload="metadata" src="audio/{file}.wav" '
            f'aria-label="{said}"></audio></figure>'
        )
    grid = "\n".join([f'<div class="grid" style="--n: {len(cards)}">', *cards, "</div>"])
    return f"<section>{_heading(u, found)}\n{_split(u, found)}{grid}</section>"


def _heading(u: str, found: Mapping[str, Evaluation]) -> str:
    """The transcript with the file name in small type; the file name alone if no evaluation has a transcript."""
    name = html.escape(u)
    text = next((e.transcripts[u] for e in found.values() if u in e.transcripts), None)
    return f"<h2>{html.escape(text)} <small>{name}</small></h2>" if text else f"<h2>{name}</h2>"


def _copies(stimuli: Stimuli, u: str) -> Iterator[tuple[str, Audio]]:
    """(title, clip) of one utterance: one clip per system, or for fwn.evaluate one per temperature, ascending."""
    for system in stimuli.systems:
        if system not in stimuli.evaluated:
            yield system, stimuli.clips[system, u]
        for t in sorted(t for name, t, v in stimuli.temperatures if (name, v) == (system, u)):
            yield f"{system}, T = {t}", stimuli.temperatures[system, t, u]


def _split(u: str, found: Mapping[str, Evaluation]) -> str:
    """Says that the utterance was held out; for LJSpeech also how many clips of its chapter were trained on."""
    if not found:
        return ""
    words = "Held out."
    if chapter := next((e.chapters[u] for e in found.values() if u in e.chapters), None):
        words = f"Held out; the training part has {_count(chapter['train'], 'clip')} of its chapter, {chapter['name']}."
    return f'<p class="soft">{words}</p>\n'


def _figures(found: Mapping[str, Evaluation]) -> str:
    """The table of metrics: one row per system and temperature, then the published row."""
    measured = [metrics.METRICS[name] for name in MEASURED]
    head = "".join(f'<th scope="col">{m.label}<small>{_unit(m)}</small></th>' for m in measured)
    rows = []
    for name, e in found.items():
        for t, means in e.copies.items():
            cells = "".join(_cell(metric, means[metric]) for metric in MEASURED)
            clips = _count(next(iter(means.values())).total, "held-out clip")
            title = f"{html.escape(name)}, T = {t}<small>{clips}</small>"
            rows.append(f'<tr><th scope="row">{title}</th>{cells}</tr>')
    published = "".join(f"<td>{_number(PUBLISHED[name], metrics.METRICS[name].digits)}</td>" for name in MEASURED)
    title = f"Published: {FLOWAVENET.title}<small>{UTTERANCES} other clips</small>"
    rows.append(f'<tr class="published"><th scope="row">{title}</th>{published}</tr>')
    body = "\n".join(rows)
    return (
        '<section><h2 id="figures">Figures</h2>\n'
        '<div class="scroll" role="region" aria-labelledby="figures" tabindex="0"><table>\n'
        f"<thead><tr><td></td>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>\n"
        '<p class="soft">Means over clips ± 95% confidence interval. Published: the same metrics of the samples that '
        "the paper's authors published. Those are other clips, so the comparison is rough. level: the power of a copy "
        "relative to its recording, before all clips were set to one level for this page.</p></section>"
    )


def _unit(metric: metrics.Metric) -> str:
    better = f"{metric.better} is better" if metric.better != "near 0" else "best near 0"
    return f"{metric.unit}, {better}" if metric.unit else better


def _cell(name: str, estimate: estimates.Estimate) -> str:
    digits = metrics.METRICS[name].digits
    if estimate.mean is None:
        return "<td>not measured</td>"
    interval = [] if estimate.ci95 is None else [f"± {estimate.ci95:.{digits}f}"]
    some = [f"{estimate.n} of {estimate.total}"] if estimate.n < estimate.total else []
    return f"<td>{_number(estimate.mean, digits)}<small>{', '.join(interval + some)}</small></td>"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _cards(found: Mapping[str, Evaluation]) -> str:
    parts = []
    for name, e in found.items():
        facts = "".join(f"<dt>{what}</dt><dd>{html.escape(said)}</dd>" for what, said in e.card.items())
        parts.append(f"<h3>{html.escape(name)}</h3>\n<dl>{facts}</dl>")
    return '<section><h2 id="models">What was measured</h2>\n' + "\n".join(parts) + "</section>"


def card(results: Mapping[str, Any]) -> dict[str, str]:
    """The model, its data and the measurement, as {heading: text}."""
    told, run = results["card"], results["card"]["machine"]
    parts = (told["parts"][split] for split in ("train", "test"))
    train, test = (f"{_count(part['utterances'], 'clip')} ({duration(part['seconds'])})" for part in parts)
    nats = estimates.estimate([u["nats_per_sample_dequantised"] for u in results["utterances"]["likelihood"].values()])
    trained = {}
    if past := told["training"]:  # a converted model has none
        where = Path(told["trained_on"]).name
        trained["Trained"] = f"{past['steps']:,} steps in {duration(past['seconds'])}, on data set “{where}”"
    return {
        "Model": f"{told['system']}, {told['parameters']:,} parameters",
        **trained,
        "Checkpoint": f"step {results['step']:,}",
        "Measured on": f"{nats.total} of the {test} held out of data set “{Path(results['data']).name}”; its "
        f"training part is {train}",
        "Likelihood": f"{estimates.cell(nats, 4)} nats/sample, with uniform dequantisation noise of one 16-bit step",
        "Mel": told["mel"],
        "Measured by": f"fwn {run['fwn']}, commit {(run['commit'] or 'unknown')[:12]}, jax {run['jax']} on "
        f"{run['device']}, seed {results['seed']}",
    }


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _spectrogram(clip: Audio) -> np.ndarray:
    n_fft, hop, _ = SPECTROGRAM
    return 20 * np.log10(np.maximum(stft_magnitude(clip, n_fft, hop), 1e-6))
