"""Plots as PNG files, drawn without a display: mels, waveforms, curves, intervals, shares of votes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fwn.disk import atomic
from fwn.errors import UserError

WIDTH = 10.0  # inches
DPI = 120
COLOURS = ("#1f4e79", "#c77d2e", "#2e7d5b", "#c0392b")  # of what is drawn alone or in pairs; curves have matplotlib's
TITLE = {"loc": "left", "fontsize": "medium"}
MARKERS = "os^vDP*Xhp<>"
LINEAR = 10.0  # values below -LINEAR make an axis symmetric-logarithmic


def mel_pair(
    path: str | Path, mels: Mapping[str, npt.NDArray[Any]], sample_rate: int, hop: int, unit: str = "log magnitude"
) -> None:
    """Mels [frames, bands] by title, stacked, with a common time axis and a common colour scale labelled `unit`."""
    if not mels:
        raise UserError(f"{path}: no mels to draw; give at least one")
    for title, mel in mels.items():
        _check_mel(mel, f"{path}: the mel {title!r}")
    figure, axes = new_figure(len(mels), height=0.6 + 1.9 * len(mels))
    low, high = min(float(m.min()) for m in mels.values()), max(float(m.max()) for m in mels.values())
    for axis, (title, mel) in zip(axes, mels.items(), strict=True):
        image = _draw_mel(axis, mel, sample_rate, hop, low, high)
        axis.set_title(title, **TITLE)
    axes[-1].set_xlim(0, max(len(m) for m in mels.values()) * hop / sample_rate)
    axes[-1].set_xlabel("time (s)")
    figure.colorbar(image, ax=axes, label=unit, pad=0.01, aspect=15 * len(mels))
    save(path, figure.savefig)


def waveform_and_mel(
    path: str | Path, audio: npt.NDArray[Any], mel: npt.NDArray[Any], sample_rate: int, hop: int
) -> None:
    """A waveform [T], full scale 1, above its mel [frames, bands]."""
    _check_mel(mel, f"{path}: the mel")
    figure, (top, bottom) = new_figure(2, height=4.6)
    top.plot(np.arange(len(audio)) / sample_rate, audio, linewidth=0.4, color=COLOURS[0])
    limit = max(1.0, float(np.abs(audio).max())) * 1.05
    top.set_ylim(-limit, limit)
    top.set_ylabel("amplitude")
    if limit > 1.05:  # mark the level above which a file saturates
        for full_scale in (-1, 1):
            top.axhline(full_scale, color="#c0392b", linewidth=0.8, linestyle="--")
    image = _draw_mel(bottom, mel, sample_rate, hop, float(mel.min()), float(mel.max()))
    bottom.set_xlim(0, max(len(audio), len(mel) * hop) / sample_rate)
    bottom.set_xlabel("time (s)")
    scale = bottom.inset_axes((1.01, 0, 0.012, 1))  # an inset, so that both plots keep the same width and time axis
    figure.colorbar(image, cax=scale, label="log magnitude")
    save(path, figure.savefig)


def curve(
    path: str | Path,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str,
    ylabel: str,
    logarithmic: bool = False,
) -> None:
    """Series (x, y) by label; values that are not finite leave gaps. logarithmic: for the x axis."""
    figure, (axis,) = new_figure(1, height=4.2)
    for label, (x, y) in series.items():
        if len(x) != len(y):
            raise UserError(f"{path}: the series {label!r} has {len(y)} values for {len(x)} steps")
        few = len(y) <= 50
        axis.plot(x, y, label=label, linewidth=1.5, marker="o" if few else None, markersize=3.5)
    axis.set_xscale("log" if logarithmic else "linear")
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    if len(series) > 1:
        axis.legend(frameon=False)
    save(path, figure.savefig)


def panels(
    path: str | Path,
    values: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float | None]]]],
    xlabel: str,
    logarithmic: bool = False,
) -> None:
    """One panel per ylabel, stacked, with series (x, y) by label. A label has one colour and marker in all panels.

    None leaves a gap. A panel with values below -LINEAR, such as a collapsed student's likelihood, gets a
    symmetric-logarithmic y axis.
    """
    figure, axes = new_figure(len(values), height=0.8 + 2.6 * len(values))
    labels = list(dict.fromkeys(label for series in values.values() for label in series))
    for axis, (ylabel, series) in zip(axes, values.items(), strict=True):
        for label, (x, y) in series.items():
            i = labels.index(label)
            axis.plot(x, y, label=label, marker=MARKERS[i % len(MARKERS)], color=f"C{i % 10}", markersize=8)
        axis.set_ylabel(ylabel)
        axis.grid(alpha=0.3, which="both" if logarithmic else "major")
        if logarithmic:
            axis.set_xscale("log")
        if any(value is not None and value < -LINEAR for _, y in series.values() for value in y):
            axis.set_yscale("symlog", linthresh=LINEAR)
    axes[-1].set_xlabel(xlabel)
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False)
    save(path, figure.savefig)


def dots(
    path: str | Path, names: Sequence[str], columns: Mapping[str, Sequence[tuple[float | None, float | None]]]
) -> None:
    """One row per name, one panel per column side by side; values are (mean, half the interval), None if missing."""
    figure, axes = new_figure(1, height=0.9 + 0.35 * len(names), columns=len(columns))
    for axis, (title, values) in zip(axes, columns.items(), strict=True):
        for y, (mean, half) in enumerate(values):
            if mean is not None:
                axis.errorbar([mean], [y], xerr=[half or 0], fmt="o", color=COLOURS[0], capsize=3)
        axis.set_title(title, **TITLE)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    save(path, figure.savefig)


def spectrogram(path: str | Path, db: npt.NDArray[Any], low: float, high: float) -> None:
    """db [frames, bins] as an image of that many pixels without axes, from `low` (dark) to `high` (bright), in dB."""
    _check_mel(db, f"{path}: the spectrogram")
    new_figure(1, height=1)  # raises UserError if matplotlib is missing
    from matplotlib.image import imsave

    save(path, lambda file: imsave(file, db.T, origin="lower", cmap="magma", vmin=low, vmax=high, format="png"))


def intervals(
    path: str | Path, values: Mapping[str, tuple[float, float]], xlabel: str, limits: tuple[float, float]
) -> None:
    """One row per label: (value, half its interval)."""
    figure, (axis,) = new_figure(1, height=1.2 + 0.45 * len(values))
    for y, (mean, half) in enumerate(values.values()):
        axis.errorbar(mean, y, xerr=half, fmt="o", color=COLOURS[0], markersize=7, capsize=4, linewidth=1.8)
        axis.annotate(f"{mean:.2f}", (mean, y), xytext=(0, 8), textcoords="offset points", ha="center", fontsize=9)
    axis.set_yticks(range(len(values)), list(values))
    axis.set_ylim(len(values) - 0.4, -0.6)
    axis.set_xlim(*limits)
    axis.set_xlabel(xlabel)
    axis.grid(visible=False, axis="y")
    save(path, figure.savefig)


def shares(path: str | Path, counts: Mapping[tuple[str, str], tuple[int, int, int]]) -> None:
    """Votes of A/B tests: one bar per pair (left, right), divided into votes for (left, neither, right)."""
    figure, (axis,) = new_figure(1, height=1.2 + 0.45 * len(counts))
    for y, votes in enumerate(counts.values()):
        start = 0.0
        for n, colour, ink in zip(votes, (COLOURS[0], "#d5d8dc", COLOURS[1]), ("white", "black", "white"), strict=True):
            share = n / sum(votes)
            axis.barh(y, share, left=start, color=colour, height=0.62)
            if share > 0.06:
                axis.text(start + share / 2, y, f"{share:.0%}", color=ink, ha="center", va="center", fontsize=9)
            start += share
    axis.set_yticks(range(len(counts)), [left for left, _ in counts])
    names = axis.secondary_yaxis("right")
    names.set_yticks(range(len(counts)), [right for _, right in counts])
    names.spines["right"].set_visible(False)
    axis.set_ylim(len(counts) - 0.4, -0.6)
    axis.set_xlim(0, 1)
    axis.set_xticks([0, 0.5, 1], ["0%", "50%", "100%"])
    axis.set_xlabel("share of answers: prefers the left, hears no difference, prefers the right")
    axis.spines[["bottom", "left"]].set_visible(False)
    axis.grid(visible=False)
    save(path, figure.savefig)


def new_figure(rows: int, height: float, columns: int = 1) -> tuple[Any, Any]:
    """A figure and its axes, row by row, in the style of all figures. A column has one x axis, a row one y axis.

    Made without pyplot, which keeps global state and may need a display.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(f"plots need {error.name}, which is not installed: pip install matplotlib") from error
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False, sharex="col", sharey="row").ravel())
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.3)
        axis.set_axisbelow(True)
    return figure, axes


def save(path: str | Path, draw: Callable[[BinaryIO], Any]) -> None:
    """Writes the picture that `draw` writes into an open file."""
    with atomic(path) as file:
        draw(file)


def _check_mel(mel: npt.NDArray[Any], what: str) -> None:
    if mel.ndim != 2 or not mel.size:
        raise UserError(f"{what} has shape {mel.shape}, not (frames, bands)")
    if not np.isfinite(mel).all():
        raise UserError(f"{what} has {np.count_nonzero(~np.isfinite(mel))} values that are not finite")


def _draw_mel(axis: Any, mel: npt.NDArray[Any], sample_rate: int, hop: int, low: float, high: float) -> Any:
    frames, bands = mel.shape
    extent = (0, frames * hop / sample_rate, 0, bands)
    image = axis.imshow(
        mel.T, origin="lower", aspect="auto", interpolation="nearest", cmap="magma", vmin=low, vmax=high, extent=extent
    )
    axis.grid(visible=False)
    axis.set_ylabel("mel band")
    return image
