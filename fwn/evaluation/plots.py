"""Pictures for people: mels side by side, a waveform over its mel, training curves. PNGs, drawn without a display."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fwn.errors import UserError

WIDTH = 10.0  # inches, at 120 dots per inch
DPI = 120
MARKERS = "os^vDP*Xhp<>"
FAR = 10.0


def mel_pair(
    path: str | Path, mels: Mapping[str, npt.NDArray[Any]], sample_rate: int, hop: int, unit: str = "log magnitude"
) -> None:
    """Mels [frames, bands] by title, one above the other, on one time axis and one colour scale, labelled `unit`."""
    if not mels:
        raise UserError(f"{path}: no mels to draw; give at least one")
    for title, mel in mels.items():
        _check_mel(mel, f"{path}: the mel {title!r}")
    figure, axes = _figure(len(mels), height=0.6 + 1.9 * len(mels))
    low, high = min(float(m.min()) for m in mels.values()), max(float(m.max()) for m in mels.values())
    for axis, (title, mel) in zip(axes, mels.items(), strict=True):
        image = _draw_mel(axis, mel, sample_rate, hop, low, high)
        axis.set_title(title, loc="left")
    axes[-1].set_xlim(0, max(len(m) for m in mels.values()) * hop / sample_rate)
    axes[-1].set_xlabel("time (s)")
    figure.colorbar(image, ax=axes, label=unit, pad=0.01, aspect=15 * len(mels))
    figure.savefig(path)


def waveform_and_mel(
    path: str | Path,
    audio: npt.NDArray[Any],
    mel: npt.NDArray[Any],
    sample_rate: int,
    hop: int,
    unit: str = "log magnitude",
) -> None:
    """The waveform [T], full scale 1, above its mel [frames, bands]."""
    _check_mel(mel, f"{path}: the mel")
    figure, (top, bottom) = _figure(2, height=4.6)
    top.plot(np.arange(len(audio)) / sample_rate, audio, linewidth=0.4, color="#1f4e79")
    limit = max(1.0, float(np.abs(audio).max())) * 1.05
    top.set_ylim(-limit, limit)
    top.set_ylabel("amplitude")
    if limit > 1.05:  # say where a file would saturate
        for full_scale in (-1, 1):
            top.axhline(full_scale, color="#c0392b", linewidth=0.8, linestyle="--")
    image = _draw_mel(bottom, mel, sample_rate, hop, float(mel.min()), float(mel.max()))
    bottom.set_xlim(0, max(len(audio), len(mel) * hop) / sample_rate)
    bottom.set_xlabel("time (s)")
    scale = bottom.inset_axes((1.01, 0, 0.012, 1))  # beside the mel only, and yet both share the time axis
    figure.colorbar(image, cax=scale, label=unit)
    figure.savefig(path)


def curve(
    path: str | Path,
    steps: Sequence[float] | Mapping[str, Sequence[float]],
    values: Mapping[str, Sequence[float]],
    xlabel: str,
    ylabel: str,
    logarithmic: bool = False,
) -> None:
    """Series by label over steps: the same for all, or one sequence per label. Non-finite values leave gaps.

    logarithmic: the steps.
    """
    figure, (axis,) = _figure(1, height=4.2)
    for label, series in values.items():
        x = steps[label] if isinstance(steps, Mapping) else steps
        if len(x) != len(series):
            raise UserError(f"{path}: the series {label!r} has {len(series)} values for {len(x)} steps")
        few = len(series) <= 50
        axis.plot(x, series, label=label, linewidth=1.5, marker="o" if few else None, markersize=3.5)
    axis.set_xscale("log" if logarithmic else "linear")
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    if len(values) > 1:
        axis.legend(frameon=False)
    figure.savefig(path)


def panels(
    path: str | Path,
    values: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float | None]]]],
    xlabel: str,
    logarithmic: bool = False,
) -> None:
    """By ylabel, one above the other, series (x, y) by label: a colour and a marker each, the same in every panel.

    None leaves a gap. Values far below zero, as a collapsed student's likelihood, are drawn by their magnitudes.
    """
    figure, axes = _figure(len(values), height=0.8 + 2.6 * len(values))
    labels = list(dict.fromkeys(label for series in values.values() for label in series))
    for axis, (ylabel, series) in zip(axes, values.items(), strict=True):
        for label, (x, y) in series.items():
            i = labels.index(label)
            axis.plot(x, y, label=label, marker=MARKERS[i % len(MARKERS)], color=f"C{i % 10}", markersize=8)
        axis.set_ylabel(ylabel)
        axis.grid(alpha=0.3, which="both" if logarithmic else "major")
        axis.spines[["top", "right"]].set_visible(False)
        if logarithmic:
            axis.set_xscale("log")
        if any(value is not None and value < -FAR for _, y in series.values() for value in y):
            axis.set_yscale("symlog", linthresh=FAR)
    axes[-1].set_xlabel(xlabel)
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False)
    figure.savefig(path)


def dots(
    path: str | Path, names: Sequence[str], columns: Mapping[str, Sequence[tuple[float | None, float | None]]]
) -> None:
    """A line for each name, side by side a panel for each column: (mean, half its interval) for each name, or None."""
    figure, axes = _figure(1, height=0.9 + 0.35 * len(names), columns=len(columns))
    for axis, (title, values) in zip(axes, columns.items(), strict=True):
        for y, (mean, half) in enumerate(values):
            if mean is not None:
                axis.errorbar([mean], [y], xerr=[half or 0], fmt="o", color="#1f4e79", capsize=3)
        axis.set_title(title, fontsize="medium")
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    figure.savefig(path)


def spectrogram(path: str | Path, db: npt.NDArray[Any], low: float, high: float) -> None:
    """[frames, bins] in dB as a bare picture of as many dots, time to the right, from dark (low) to bright (high)."""
    _check_mel(db, f"{path}: the spectrogram")
    _figure(1, height=1)  # says it where matplotlib is missing
    from matplotlib.image import imsave

    imsave(path, db.T, origin="lower", cmap="magma", vmin=low, vmax=high)


def intervals(
    path: str | Path, values: Mapping[str, tuple[float, float]], xlabel: str, limits: tuple[float, float]
) -> None:
    """A line for each label: a value, and half its interval to both sides."""
    figure, (axis,) = _figure(1, height=1.2 + 0.45 * len(values))
    for y, (mean, half) in enumerate(values.values()):
        axis.errorbar(mean, y, xerr=half, fmt="o", color="#1f4e79", markersize=7, capsize=4, linewidth=1.8)
        axis.annotate(f"{mean:.2f}", (mean, y), xytext=(0, 8), textcoords="offset points", ha="center", fontsize=9)
    axis.set_yticks(range(len(values)), list(values))
    axis.set_ylim(len(values) - 0.4, -0.6)
    axis.set_xlim(*limits)
    axis.set_xlabel(xlabel)
    axis.grid(axis="x", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def shares(path: str | Path, counts: Mapping[tuple[str, str], tuple[int, int, int]]) -> None:
    """Votes of A/B tests: a bar for each pair (left, right), divided into (for the left, for none, for the right)."""
    figure, (axis,) = _figure(1, height=1.2 + 0.45 * len(counts))
    for y, votes in enumerate(counts.values()):
        start = 0.0
        for n, colour, ink in zip(votes, ("#1f4e79", "#d5d8dc", "#c77d2e"), ("white", "black", "white"), strict=True):
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
    axis.spines[["top", "bottom", "left", "right"]].set_visible(False)
    figure.savefig(path)


def _figure(rows: int, height: float, columns: int = 1) -> tuple[Any, Any]:
    """A figure of its own (no pyplot: no global state, no display), its axes a column sharing x or a row sharing y."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            f"drawing pictures needs {error.name}, which is not installed: pip install fwn[demo]"
        ) from error
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, sharex=columns == 1, sharey=columns > 1, squeeze=False)
    return figure, list(axes.ravel())


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
    axis.set_ylabel("mel band")
    return image
