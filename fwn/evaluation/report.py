"""A comparison of systems as tables: ours first, then what is published, always marked as such."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fwn.evaluation import metrics, plots
from fwn.evaluation.ablations import Study
from fwn.evaluation.measure import Figures, Speed
from fwn.evaluation.published import MEASURED, PAPER, UTTERANCES, Published
from fwn.terminal import aligned

AUTOREGRESSIVE = "wavenet"  # the system that speeds are compared with
STUDIED = ("log_mel_l1", "multi_resolution_stft", "pesq_wb", "stoi", "level_ratio_db", "line_noise")
NONE = "-"
UNCOMPARABLE = "* The paper's, without dequantisation noise: it does not compare with the other figures of its column."
# A likelihood below it has diverged, and would stretch an axis: uniform noise of full scale has -0.69.
DIVERGED = -10.0
WIDTH = 120  # of notes in text
_ALL = [m.label for m in metrics.METRICS.values()]
LABELS = {n: f"{m.label}, {m.unit}" if _ALL.count(m.label) > 1 else m.label for n, m in metrics.METRICS.items()}


class Section(NamedTuple):
    """One table: lines of cells, the head first, `left` columns flushed left; notes below; a picture's file name."""

    title: str
    lines: list[list[str]]
    left: int = 1
    notes: Sequence[str] = ()
    picture: str | None = None


def render(sections: Iterable[Section], markdown: bool = False) -> str:
    """All of it as text or Markdown, pictures in Markdown only."""
    parts = []
    for title, lines, left, notes, picture in sections:
        parts.append(f"## {title}" if markdown else f"{title}\n{'-' * len(title)}")
        parts += [aligned(lines, "<" * left + ">" * (len(lines[0]) - left), markdown)] if lines else []
        parts += (
            ["  \n".join(notes) if markdown else "\n".join(textwrap.fill(n, WIDTH) for n in notes)] if notes else []
        )
        parts += [f"![{title}]({picture})"] if markdown and picture else []
    return "\n\n".join(parts) + "\n"


def kind(config: Any) -> str:
    """What a system is: its name, and the distribution of a sample where it has a choice of them."""
    model = config["model"]
    return f"{config['system']} ({model['distribution']})" if "distribution" in model else config["system"]


def likelihoods(systems: Mapping[str, Figures], notes: Sequence[str]) -> Section:
    """Size, training, likelihood; the paper's opinion scores."""
    head = ["", "system", "parameters", "step", "steps/s", "training", "nats/sample", "MOS"]
    lines = [
        [name, kind(f.config), f"{f.parameters:,}", str(f.step), *_training(f), metrics.cell(f.nats, 4), NONE]
        for name, f in systems.items()
    ]
    lines += [[f"paper: {p.title}", *[NONE] * 5, _cll(p), _number(p.mos, 2)] for p in PAPER if p.mos]
    return Section("Size, training, likelihood", [head, *lines], 2, notes)


def _training(figures: Figures) -> list[str]:
    if figures.training is None:
        return [NONE, NONE]
    return [f"{figures.training.steps_per_second:.3g}", duration(figures.training.seconds)]


def duration(seconds: float) -> str:
    """75 -> "1 min 15 s": the two largest units."""
    minutes, hours = int(seconds) // 60, int(seconds) // 3600
    if hours:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{minutes} min {int(seconds) % 60:02d} s" if minutes else f"{seconds:.1f} s"


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:,.{digits}f}"


def _cll(p: Published) -> str:
    return NONE if p.nats_per_sample is None else f"{p.nats_per_sample:.4f} *"


def baseline(systems: Mapping[str, Figures]) -> Figures | None:
    """The autoregressive system that samples one utterance fastest."""
    among = [f for f in systems.values() if f.config["system"] == AUTOREGRESSIVE]
    return max(among, key=lambda f: f.one.samples_per_second, default=None)


def speeds(title: str, systems: Mapping[str, Figures], batch_size: int, notes: Sequence[str]) -> Section:
    """Sampling speeds, and their ratio to the autoregressive WaveNet's."""
    slow = baseline(systems)
    head = ["", "parameters", "samples/s", "× real time", "× WaveNet", f"batch of {batch_size}: samples/s"]
    lines = [[*head, "× real time", "× WaveNet"]]
    for name, f in systems.items():
        one, batch = _speed(f.one, slow and slow.one), _speed(f.batch, slow and slow.batch)
        lines.append([name, f"{f.parameters:,}", *one, *batch])
    for p in PAPER:
        if p.samples_per_second is not None:
            lines.append([f"paper: {p.title}", NONE, f"≈ {p.samples_per_second:,.0f}", *[NONE] * 5])
    runs = sorted({s.runs for f in systems.values() for s in (f.one, f.batch) if s})
    said = [
        f"One utterance, or a batch of {batch_size}, of {next(iter(systems.values())).one.seconds:.2f} s each, from "
        f"mels to audio in memory, compiled before; timed runs, of which the median: {' or '.join(map(str, runs))}.",
        "× WaveNet: against the fastest autoregressive WaveNet of this table, at the same batch size."
        if slow
        else "× WaveNet: no autoregressive WaveNet is among these.",
        "The paper's speeds are of its own implementation on one GPU.",
    ]
    if alone := [name for name, f in systems.items() if f.batch is None]:
        said.append(f"No batch was timed of {', '.join(alone)}: one utterance alone takes too long.")
    return Section(title, lines, 1, [*said, *notes])


def _speed(speed: Speed | None, slow: Speed | None) -> list[str]:
    if speed is None:
        return [NONE] * 3
    ratio = speed.samples_per_second / slow.samples_per_second if slow else None
    return [f"{speed.samples_per_second:,.0f}", f"{speed.real_time:.3g}", f"{ratio:,.3g}" if ratio else NONE]


def copies(systems: Mapping[str, Figures], temperature: float, notes: Sequence[str]) -> Section:
    """Every metric of copies at one temperature, means over utterances."""
    head = ["", *(LABELS[name] for name in metrics.METRICS)]
    lines = [[name, *_means(f.copies[temperature], metrics.METRICS)] for name, f in systems.items()]
    lines += [[f"authors' samples: {p.title}", *_sampled(p, metrics.METRICS)] for p in PAPER if p.samples]
    better = [f"{m.label} ({m.better})" for m in metrics.METRICS.values() if m.better != "lower"]
    units = [f"{m.label} in {m.unit}" for m in metrics.METRICS.values() if m.unit]
    said = [
        f"Better is lower, but for: {', '.join(better)}. Units: {', '.join(units)}.",
        f"Means over utterances; {INTERVALS.lower()} below. authors' samples: measured by the same definitions on "
        f"{UTTERANCES} utterances that the paper's authors published, of models trained for much longer.",
    ]
    return Section(f"Copies of held-out recordings at T = {temperature}", [head, *lines], 1, [*said, *notes])


INTERVALS = "95% intervals"


def intervals(systems: Mapping[str, Figures], temperature: float) -> Section:
    """The same as `copies` with intervals, ours only, a line for each metric as fwn.evaluate has it."""
    title = f"Copies at T = {temperature} with {INTERVALS}"
    notes = ["Mean ± 95% confidence interval (Student's t over utterances)."]
    return Section(title, metrics.lines({name: f.copies[temperature] for name, f in systems.items()}), 2, notes)


def temperatures(systems: Mapping[str, Figures], picture: str | None) -> Section:
    """Metrics against temperature, for each system."""
    head = ["", "T", *(LABELS[name] for name in STUDIED)]
    lines = [[name, str(t), *_means(f.copies[t], STUDIED)] for name, f in systems.items() for t in sorted(f.copies)]
    return Section("Temperature", [head, *lines], 1, ["The paper samples FloWaveNet at T = 0.8."], picture)


def study(found: Study, systems: Mapping[str, Figures], temperature: float, picture: str | None) -> Section:
    """A study's members: what distinguishes them, likelihood, metrics at one temperature; what is published of it."""
    head = ["", *found.columns, "step", "nats/sample", *(LABELS[name] for name in STUDIED), "MOS"]
    lines = [head]
    for name, values in found.rows.items():
        f = systems[name]
        means = _means(f.copies[temperature], STUDIED)
        lines.append([name, *values, str(f.step), metrics.cell(f.nats, 4), *means, NONE])
    for p in PAPER:
        if p.title in found.published:
            blank = [NONE] * (len(found.columns) + 1)
            lines.append([f"paper: {p.title}", *blank, _cll(p), *_sampled(p, STUDIED), _number(p.mos, 2)])
    notes = [f"Copies at T = {temperature}."]
    if found.published:
        notes[0] += " paper: nats/sample and MOS are the paper's, metrics are of its authors' published samples."
    if any(p.nats_per_sample for p in PAPER if p.title in found.published):
        notes.append(UNCOMPARABLE)
    return Section(found.title, lines, 1 + len(found.columns), notes, picture)


def _means(summary: Mapping[str, metrics.Estimate], names: Iterable[str]) -> list[str]:
    return [_number(summary[name].mean, metrics.METRICS[name].digits) for name in names]


def _sampled(p: Published, names: Iterable[str]) -> list[str]:
    values = dict(zip(MEASURED, p.samples, strict=bool(p.samples)))
    return [_number(values.get(name), metrics.METRICS[name].digits) for name in names]


def sections(
    systems: Mapping[str, Figures],
    models: Mapping[str, Figures],
    found: Sequence[Study],
    left_out: Sequence[str],
    how: Mapping[str, Any],
    pictures: Mapping[str, str],
) -> list[Section]:
    """The whole report: trained `systems`, their studies, untrained `models`. pictures: file names by title."""
    device = f"Measured on {how['device']}."
    parts = []
    if systems:
        first = how["temperatures"][0]
        n = len(how["utterances"])
        said = [
            f"nats/sample: log-likelihood given the mel, over {n} held-out utterances of {how['data']}, the same for "
            "all, with the same uniform dequantisation noise of one 16-bit step. Mixtures of logistics model "
            "16-bit integers and are measured on those, without noise. Mean ± 95% interval over utterances.",
            UNCOMPARABLE,
            "step: of the checkpoint. steps/s and training: of the whole run, without compiling and evaluating.",
            "paper: on LJSpeech, MOS by listeners.",
        ]
        parts = [
            likelihoods(systems, said),
            speeds("Sampling speed", systems, how["batch_size"], [device])._replace(picture=pictures.get(SPEED)),
            copies(systems, first, []),
        ]
        if len(how["temperatures"]) > 1:
            parts.append(temperatures(systems, pictures.get(TEMPERATURE)))
        else:
            left_out = ["Temperature: left out, --temperature was given once", *left_out]
        parts += [study(s, systems, first, pictures.get(s.title)) for s in found]
        parts.append(intervals(systems, first))
        if left_out:
            parts.append(Section("Studies left out", [], notes=left_out))
    if models:
        notes = [device, "Sizes of the experiment files; speed does not depend on training."]
        parts.append(speeds("Speed at these sizes, untrained", models, how["batch_size"], notes))
    return parts


SPEED, TEMPERATURE = "Sampling speed", "Temperature"


def _drawn(figures: Figures) -> float | None:
    """The likelihood as pictures have it: none of a model that diverged."""
    mean = figures.nats.mean if figures.nats else None
    return None if mean is None or mean < DIVERGED else mean


def draw(output: Path, systems: Mapping[str, Figures], found: Sequence[Study], at: Sequence[float]) -> dict[str, str]:
    """Draws the pictures into the folder `output`; their file names by title of their section."""
    first = at[0]
    fast = {name: [f.one.samples_per_second] for name, f in systems.items()}
    speed = {
        f"log-mel L1 at T = {first}": {n: (fast[n], [f.copies[first]["log_mel_l1"].mean]) for n, f in systems.items()},
        "nats/sample": {n: (fast[n], [_drawn(f)]) for n, f in systems.items()},
    }
    plots.panels(output / "speed.png", speed, "samples/s, one utterance", logarithmic=True)
    files = {SPEED: "speed.png"}
    if len(at) > 1:
        panels = {
            LABELS[m]: {n: (sorted(at), [f.copies[t][m].mean for t in sorted(at)]) for n, f in systems.items()}
            for m in ("log_mel_l1", "level_ratio_db", "line_noise")
        }
        plots.panels(output / "temperature.png", panels, "temperature")
        files[TEMPERATURE] = "temperature.png"
    for part in found:
        members = [systems[name] for name in part.rows]
        columns: dict[str, Any] = {"nats/sample": [f.nats for f in members]}
        for m in ("log_mel_l1", "multi_resolution_stft", "stoi"):
            columns[LABELS[m]] = [f.copies[first][m] for f in members]
        files[part.title] = f"{part.title.lower().replace(' ', '_')}.png"
        points = {title: [(e.mean, e.ci95) for e in column] for title, column in columns.items()}
        plots.dots(output / files[part.title], list(part.rows), points)
    return files
