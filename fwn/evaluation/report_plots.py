"""The plots of a comparison of systems: speed, temperature, and one for each ablation study."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fwn.evaluation import plots
from fwn.evaluation.ablations import Study
from fwn.evaluation.measure import Figures
from fwn.evaluation.report import LABELS, SPEED, TEMPERATURE

DIVERGED = -10.0  # nats/sample; lower values would stretch the axis. Uniform noise of full scale has -0.69.


def _likelihood(figures: Figures) -> float | None:
    """The likelihood to plot; None if the model diverged."""
    mean = figures.nats.mean if figures.nats else None
    return None if mean is None or mean < DIVERGED else mean


def draw(output: Path, systems: Mapping[str, Figures], found: Sequence[Study], at: Sequence[float]) -> dict[str, str]:
    """Writes the plots into folder `output`; returns their file names by section title. at: temperatures."""
    first = at[0]
    fast = {name: [f.one.samples_per_second] for name, f in systems.items()}
    speed = {
        f"log-mel L1 at T = {first}": {n: (fast[n], [f.copies[first]["log_mel_l1"].mean]) for n, f in systems.items()},
        "nats/sample": {n: (fast[n], [_likelihood(f)]) for n, f in systems.items()},
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
