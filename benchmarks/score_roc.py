"""How often fwn.score is right: made-up recordings against held-out ones, by receiver operating characteristics.

    python benchmarks/score_roc.py --data=data/lj-mini --others=recordings --output=out

From one excerpt of each held-out clip it makes: splices, which go on in another clip after a random moment (a hard cut;
at a zero crossing of both; a crossfade of 5 ms); copies of the mel by the voice, by another voice and by Griffin-Lim;
the excerpt backwards, below 4 kHz, and through MP3; and some signals that are no speech. Each is scored like a file.
Half of the clips are the held-out distribution by which the other half and all that is made of it are judged, then the
halves change places. Prints tables for docs/score.md, and writes them with the picture of the curves and the figures.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import score_items
from absl import flags
from score_items import CUTS, Array, Item

from fwn import cli, shipped
from fwn.audio import audio_file
from fwn.data.corpus import Corpus
from fwn.evaluation import score_plots, splices
from fwn.evaluation.measure import chosen
from fwn.evaluation.scored import Scored, scored, surprise
from fwn.evaluation.typicality import Reference, Verdict, judge, reference
from fwn.mel import align
from fwn.synthesis.vocoder import Vocoder, load
from fwn.terminal import aligned

CKPT = flags.DEFINE_string("ckpt", None, "Workdir or voice. By default the voice that comes with fwn.")
OTHER = flags.DEFINE_string(
    "other", str(shipped.folder("voices") / "lj-mini-predictor"), "Another voice, which copies the excerpts too."
)
DATA = flags.DEFINE_string("data", None, "Data set made by data_prep.prepare. Required.", required=True)
OTHERS = flags.DEFINE_string("others", None, "Folder with recordings of another speaker.")
UTTERANCES = flags.DEFINE_integer("utterances", 0, "Number of held-out clips, evenly spaced; 0: all.", 0)
SECONDS = flags.DEFINE_float("seconds", 1.4, "Length of an excerpt.", 1.0)
OUTPUT = flags.DEFINE_string("output", None, "Folder for tables, picture and figures. Required.", required=True)
NEAR = 2  # frames from the cut to the highest score of a splice that is found where it is
RESAMPLED = 1000  # bootstrap


class Row(NamedTuple):
    """What was measured of an item: suspicion by method, and where (None without a cut)."""

    kind: str
    n: int
    nats: float
    p: float
    furthest: str
    distance: float  # of the furthest statistic
    surprise: float  # |nats - mean|, in standard deviations
    cut: float  # largest splice score
    flux: float  # largest change of the mel from frame to frame
    rare: float  # largest surprise of a frame
    near: dict[str, bool] | None


def measured(voice: Vocoder, of: Reference, item: Item) -> Row:
    """As fwn.score scores a file."""
    audio, mel = align(np.asarray(item.audio, np.float32), voice.mel)
    audio = audio_file.pcm16(audio)[0].astype(np.float32) / 32768
    s, rate = scored(voice, audio, mel, np.random.default_rng(0)), voice.mel.sample_rate / voice.mel.hop_length
    return row(item, s, of, judge(s, of, rate), voice.mel.hop_length, rate)


def row(item: Item, s: Scored, of: Reference, verdict: Verdict, hop: int, rate: float) -> Row:
    curves = {
        "cut": splices.score(s, rate),
        "flux": splices.judged(np.abs(np.diff(s.mel, axis=0, prepend=s.mel[:1])).mean(axis=1), rate),
        "rare": splices.judged(surprise(s, np.array(of.weights)), rate),
    }
    near = None
    if item.cut is not None:
        padding = (len(s.mel) * hop - len(item.audio)) // 2
        at = (item.cut + padding) / hop
        near = {name: bool(abs(curve.argmax() + 0.5 - at) <= NEAR) for name, curve in curves.items()}
    peaks = [float(curve.max()) for curve in curves.values()]
    assert verdict.statistics is not None  # excerpts are long enough
    assert verdict.deviations is not None
    assert verdict.furthest is not None
    assert verdict.p is not None
    distance = abs(verdict.deviations[verdict.furthest])
    nats, odd = float(s.nats.mean()), abs(verdict.deviations["nats"])
    return Row(item.kind, item.n, nats, verdict.p, verdict.furthest, distance, odd, *peaks, near)


def auc(positive: Array, negative: Array) -> float:
    """The chance that one of the first is larger than one of the second."""
    above = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    return float(above)


def hit(positive: Array, negative: Array) -> float:
    """Share of the first above 95% of the second."""
    return float((positive > np.quantile(negative, 0.95)).mean())


def interval(measure: Callable[[Array, Array], float], positive: Array, negative: Array) -> str:
    """The figure, with its 95% bootstrap interval."""
    rng = np.random.default_rng(0)
    drawn = [
        measure(rng.choice(positive, len(positive)), rng.choice(negative, len(negative))) for _ in range(RESAMPLED)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{measure(positive, negative):.2f} ({low:.2f}–{high:.2f})"


def curve(positive: Array, negative: Array) -> tuple[Array, Array]:
    """(false, true positive rates) over all thresholds."""
    levels = np.sort(np.concatenate([positive, negative, [np.inf, -np.inf]]))[::-1]
    return (negative[None] >= levels[:, None]).mean(axis=1), (positive[None] >= levels[:, None]).mean(axis=1)


def table(rows: list[Row], kinds: list[str], methods: dict[str, Callable[[Row], float]], cuts: bool) -> str:
    """Area and hits by kind for the first method, areas for the others."""

    def of(kind: str, method: Callable[[Row], float]) -> Array:
        return np.array([method(r) for r in rows if r.kind == kind])

    first, *rest = methods.items()
    cells = [["", "n", f"area, {first[0]}", "found at 5%", *(f"area, {name}" for name, _ in rest)]]
    cells[0] += ["at the cut", "by the flux"] if cuts else ["furthest"]
    for kind in kinds:
        own = [r for r in rows if r.kind == kind]
        pairs = [(of(kind, method), of("recording", method)) for method in methods.values()]
        line = [kind, str(len(own)), interval(auc, *pairs[0]), interval(hit, *pairs[0])]
        line += [f"{auc(*pair):.2f}" for pair in pairs[1:]]
        if cuts:
            line += [f"{np.mean([r.near[name] for r in own if r.near]):.0%}" for name in ("cut", "flux")]
        else:
            found = [r.furthest for r in own]
            line += [max(set(found), key=found.count)]
        cells.append(line)
    return aligned(cells, "<" + ">" * (len(cells[0]) - 1), markdown=True)


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    voice, other, corpus = load(CKPT.value or shipped.voice()), load(OTHER.value), Corpus(DATA.value)
    rate, size = voice.mel.sample_rate, round(SECONDS.value * voice.mel.sample_rate)
    indices = chosen(corpus, UTTERANCES.value)
    indices = [i for i in indices if corpus.utterances[i].frames * voice.mel.hop_length >= 1.5 * size]
    rng = np.random.default_rng(0)
    clips = [scored(voice, corpus.audio(i), corpus.mel(i), rng) for i in cli.progress(indices, "held-out clips")]
    halves = [reference(clips[1 - half :: 2], rate / voice.mel.hop_length) for half in range(2)]  # without item n % 2
    made = list(cli.progress(score_items.items(corpus, indices, voice, other, SECONDS.value), "making"))
    if OTHERS.value:
        made += score_items.others(OTHERS.value, len(indices), rate, SECONDS.value)
    made += score_items.signals(rate, SECONDS.value)
    report([measured(voice, halves[item.n % 2], item) for item in cli.progress(made, "scoring")], Path(OUTPUT.value))


def report(rows: list[Row], output: Path) -> None:
    """Prints the tables, and writes them with figures and picture."""
    kinds = list(dict.fromkeys(r.kind for r in rows if r.kind != "recording" and r.kind not in CUTS))
    single = [kind for kind in kinds if sum(r.kind == kind for r in rows) == 1]
    several = [kind for kind in kinds if kind not in single]
    whole: dict[str, Callable[[Row], float]] = {
        "typicality": lambda r: r.distance,
        "low likelihood": lambda r: -r.nats,
        "likelihood, both tails": lambda r: r.surprise,
    }
    local: dict[str, Callable[[Row], float]] = {
        "splice score": lambda r: r.cut,
        "mel flux": lambda r: r.flux,
        "surprise": lambda r: r.rare,
    }
    recordings = [r for r in rows if r.kind == "recording"]
    odd = [["", "nats/sample", "held-out speech as far", "furthest"]]
    odd += [[r.kind, f"{r.nats:.2f}", f"{r.p:.1%}", r.furthest] for r in rows if r.kind in single]
    text = "\n\n".join(
        [
            f"{len(recordings)} recordings: {np.mean([r.nats for r in recordings]):.3f} nats/sample, "
            f"{np.mean([r.p <= 0.05 for r in recordings]):.1%} of them not typical",
            table(rows, several, whole, cuts=False),
            table(rows, list(CUTS), local, cuts=True),
            aligned(odd, "<>>>", markdown=True),
        ]
    )
    print(text)
    output.mkdir(parents=True, exist_ok=True)
    (output / "score_roc.md").write_text(text + "\n", encoding="utf-8")
    (output / "score_roc.json").write_text(json.dumps([r._asdict() for r in rows]) + "\n", encoding="utf-8")

    def curves(kinds: list[str], method: Callable[[Row], float]) -> dict[str, tuple[Array, Array]]:
        negative = np.array([method(r) for r in recordings])
        positive = {kind: np.array([method(r) for r in rows if r.kind == kind]) for kind in kinds}
        return {f"{kind}: {auc(values, negative):.2f}": curve(values, negative) for kind, values in positive.items()}

    panels = {
        "by typicality": curves(several, whole["typicality"]),
        "by low likelihood": curves(several, whole["low likelihood"]),
        "splices, by the splice score": curves(list(CUTS), local["splice score"]),
    }
    score_plots.roc(output / "score_roc.png", panels)


if __name__ == "__main__":
    cli.run(main)
