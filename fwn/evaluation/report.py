"""The tables of a comparison of systems: our figures first, then published ones, which are always marked."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fwn.evaluation import estimates, metrics
from fwn.evaluation.ablations import Study
from fwn.evaluation.measure import Figures, Speed
from fwn.evaluation.published import MEASURED, PAPER, UTTERANCES, Published
from fwn.terminal import aligned, marked

AUTOREGRESSIVE = "wavenet"  # the baseline of sampling speeds
STUDIED = ("log_mel_l1", "multi_resolution_stft", "pesq_wb", "stoi", "level_ratio_db", "line_noise")
NONE = "-"
NOT_COMPARABLE = "* The paper's, without dequantisation noise: not comparable with the other figures in this column."
INTERVALS = "95% intervals"
SPEED, TEMPERATURE = "Sampling speed", "Temperature"
WIDTH = 120  # characters per line of the notes in text output
_ALL = [m.label for m in metrics.METRICS.values()]
LABELS = {n: f"{m.label}, {m.unit}" if _ALL.count(m.label) > 1 else m.label for n, m in metrics.METRICS.items()}


class Section(NamedTuple):
    """One table: rows of cells, header first, the first `left` columns left-aligned; notes; a plot's file name."""

    title: str
    lines: list[list[str]]
    left: int = 1
    notes: Sequence[str] = ()
    picture: str | None = None


def render(sections: Iterable[Section], markdown: bool = False) -> str:
    """All sections as text, or as Markdown with plots."""
    parts = []
    for title, lines, left, notes, picture in sections:
        parts.append(f"## {marked(title)}" if markdown else f"{title}\n{'-' * len(title)}")
        parts += [aligned(lines, "<" * left + ">" * (len(lines[0]) - left), markdown)] if lines else []
        if notes:
            said = map(marked, notes) if markdown else (textwrap.fill(note, WIDTH) for note in notes)
            parts.append(("  \n" if markdown else "\n").join(said))
        parts += [f"![{marked(title)}]({picture})"] if markdown and picture else []
    return "\n\n".join(parts) + "\n"


def kind(config: Any) -> str:
    """The system's name, and its output distribution if the config chooses one."""
    model = config["model"]
    return f"{config['system']} ({model['distribution']})" if "distribution" in model else config["system"]


def likelihoods(systems: Mapping[str, Figures], notes: Sequence[str]) -> Section:
    """Size, training and likelihood, with the paper's likelihood and MOS."""
    head = ["", "system", "parameters", "step", "steps/s", "training", "nats/sample", "MOS"]
    lines = [
        [name, kind(f.config), f"{f.parameters:,}", str(f.step), *_training(f), estimates.cell(f.nats, 4), NONE]
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
    """The autoregressive system that samples one utterance fastest; None if there is no autoregressive system."""
    autoregressive = [f for f in systems.values() if f.config["system"] == AUTOREGRESSIVE]
    return max(autoregressive, key=lambda f: f.one.samples_per_second, default=None)


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
        f"Speed: one utterance, or a batch of {batch_size}, of {next(iter(systems.values())).one.seconds:.2f} s each, "
        f"from mels to audio in memory, without compilation; the median of {' or '.join(map(str, runs))} timed runs.",
        "× WaveNet: relative to the fastest autoregressive WaveNet of this table, at the same batch size."
        if slow
        else "× WaveNet: this table has no autoregressive WaveNet.",
        "paper: measured by the authors with their implementation on one GPU.",
    ]
    if alone := [name for name, f in systems.items() if f.batch is None]:
        said.append(f"No batch was timed for {', '.join(alone)}: one utterance takes too long.")
    return Section(title, lines, 1, [*said, *notes])


def _speed(speed: Speed | None, slow: Speed | None) -> list[str]:
    if speed is None:
        return [NONE] * 3
    ratio = speed.samples_per_second / slow.samples_per_second if slow else None
    return [f"{speed.samples_per_second:,.0f}", f"{speed.real_time:.3g}", f"{ratio:,.3g}" if ratio else NONE]


def copies(systems: Mapping[str, Figures], temperature: float) -> Section:
    """All copy-synthesis metrics at one temperature, means over utterances."""
    head = ["", *(LABELS[name] for name in metrics.METRICS)]
    lines = [[name, *_means(f.copies[temperature], metrics.METRICS)] for name, f in systems.items()]
    lines += [[f"authors' samples: {p.title}", *_sampled(p, metrics.METRICS)] for p in PAPER if p.samples]
    better = [f"{m.label} ({m.better})" for m in metrics.METRICS.values() if m.better != "lower"]
    units = [f"{m.label} in {m.unit}" for m in metrics.METRICS.values() if m.unit]
    said = [
        f"Lower is better, except for: {', '.join(better)}. Units: {', '.join(units)}.",
        f"Means over utterances; {INTERVALS} below. authors' samples: the same metrics of {UTTERANCES} utterances that "
        "the paper's authors published, from models trained for much longer.",
    ]
    return Section(f"Copy synthesis of held-out recordings at T = {temperature}", [head, *lines], 1, said)


def intervals(systems: Mapping[str, Figures], temperature: float) -> Section:
    """The metrics of `copies` with intervals, our systems only, one row per metric as in fwn.evaluate."""
    title = f"Copy synthesis at T = {temperature} with {INTERVALS}"
    notes = ["Mean ± 95% confidence interval (Student's t over utterances)."]
    return Section(title, estimates.lines({name: f.copies[temperature] for name, f in systems.items()}), 2, notes)


def temperatures(systems: Mapping[str, Figures], picture: str | None) -> Section:
    """Copy-synthesis metrics of each system at each temperature."""
    head = ["", "T", *(LABELS[name] for name in STUDIED)]
    lines = [[name, str(t), *_means(f.copies[t], STUDIED)] for name, f in systems.items() for t in sorted(f.copies)]
    return Section(TEMPERATURE, [head, *lines], 1, ["The paper samples FloWaveNet at T = 0.8."], picture)


def study(found: Study, systems: Mapping[str, Figures], temperature: float, picture: str | None) -> Section:
    """One study: what its models differ in, their likelihood and metrics at one temperature, and published figures."""
    head = ["", *found.columns, "step", "nats/sample", *(LABELS[name] for name in STUDIED), "MOS"]
    lines = [head]
    for name, values in found.rows.items():
        f = systems[name]
        means = _means(f.copies[temperature], STUDIED)
        lines.append([name, *values, str(f.step), estimates.cell(f.nats, 4), *means, NONE])
    for p in PAPER:
        if p.title in found.published:
            blank = [NONE] * (len(found.columns) + 1)
            lines.append([f"paper: {p.title}", *blank, _cll(p), *_sampled(p, STUDIED), _number(p.mos, 2)])
    notes = [f"Copy synthesis at T = {temperature}."]
    if found.published:
        notes[0] += " paper: nats/sample and MOS are the paper's; metrics are of its authors' published samples."
    if any(p.nats_per_sample for p in PAPER if p.title in found.published):
        notes.append(NOT_COMPARABLE)
    return Section(found.title, lines, 1 + len(found.columns), notes, picture)


def _means(summary: Mapping[str, estimates.Estimate], names: Iterable[str]) -> list[str]:
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
    """The whole report: trained `systems`, their studies, untrained `models`. pictures: file names by section title."""
    device = f"Measured on {how['device']}."
    parts = []
    if systems:
        first = how["temperatures"][0]
        n = len(how["utterances"])
        said = [
            f"nats/sample: log-likelihood given the mel, mean ± 95% interval over {n} held-out utterances of "
            f"{how['data']}. All systems get the same utterances with the same uniform dequantisation noise of one "
            "16-bit step, except mixtures of logistics: they model 16-bit integers and get no noise.",
            NOT_COMPARABLE,
            "step: of the checkpoint. steps/s and training: of the whole run, without compilation and evaluation.",
            "paper: on LJSpeech; MOS by listeners.",
        ]
        parts = [
            likelihoods(systems, said),
            speeds(SPEED, systems, how["batch_size"], [device])._replace(picture=pictures.get(SPEED)),
            copies(systems, first),
        ]
        if len(how["temperatures"]) > 1:
            parts.append(temperatures(systems, pictures.get(TEMPERATURE)))
        else:
            left_out = ["Temperature: left out, only one --temperature was given", *left_out]
        parts += [study(s, systems, first, pictures.get(s.title)) for s in found]
        parts.append(intervals(systems, first))
        if left_out:
            parts.append(Section("Studies left out", [], notes=left_out))
    if models:
        notes = [device, "Untrained models of the experiment files; speed does not depend on training."]
        parts.append(speeds("Sampling speed of untrained models", models, how["batch_size"], notes))
    return parts
