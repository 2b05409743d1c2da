"""Pictures of scored recordings: likelihood along the waveform, and receiver operating characteristics."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fwn.evaluation.plots import COLOURS, TITLE, new_figure, save
from fwn.evaluation.scored import Scored
from fwn.evaluation.splices import Moment

Array = npt.NDArray[Any]
DARK, RED = COLOURS[0], COLOURS[3]
FULL = 2.0  # nats/sample of surprise at which the colour of the waveform is full


def along(
    path: str | Path,
    s: Scored,
    rate: float,
    title: str,
    usual: Array,
    band: Sequence[float],
    cuts: Array,
    level: float,
    moments: Sequence[Moment],
) -> None:
    """The waveform [F · hop], coloured by the surprise of its frames; nats/sample of each frame; its splice score.

    rate: mel frames per second. usual: nats/sample that the mel of each frame makes usual, [F]. band: quantiles of the
    surprise of held-out speech, (low, high, rare); frames beyond `rare` are marked. cuts: splices.score, [F], with its
    alarm `level`, above which are the moments.
    """
    figure, (top, middle, bottom) = new_figure(3, height=6.4)
    edges = np.arange(len(s.mel)) / rate
    centres, frames = edges + 0.5 / rate, s.audio.reshape(len(s.mel), -1)
    low, high = frames.min(axis=1), np.maximum(frames.max(axis=1), frames.min(axis=1) + 0.004)
    top.set_title(title, **TITLE)
    top.set_facecolor("#f4f4f2")
    from matplotlib.collections import PolyCollection  # after new_figure, which says what is missing

    corners = [[(x, a), (x + 1 / rate, a), (x + 1 / rate, b), (x, b)] for x, a, b in zip(edges, low, high, strict=True)]
    coloured = PolyCollection(corners, array=usual - s.nats, cmap="coolwarm", clim=(-FULL, FULL), linewidths=0)
    top.add_collection(coloured)
    limit = 1.05 * max(0.1, float(np.abs(s.audio).max()))
    top.set_ylim(-limit, limit)
    top.set_ylabel("amplitude")
    scale = top.inset_axes((1.01, 0, 0.012, 1))
    figure.colorbar(coloured, cax=scale, label="surprise\n(nats/sample)", extend="both")
    typical = usual - band[1], usual - band[0]
    middle.fill_between(centres, *typical, color="#9bb7d4", alpha=0.6, linewidth=0, label="90% of held-out frames")
    middle.plot(centres, s.nats, color=DARK, linewidth=1, label="this recording")
    odd = usual - s.nats > band[2]
    middle.plot(centres[odd], s.nats[odd], "o", color=RED, markersize=4, label="rarer than 1 frame in 1,000")
    middle.set_ylim(*_limits(np.concatenate([s.nats, *typical])))
    middle.set_ylabel("nats/sample")
    middle.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 0.98), fontsize="small")
    bottom.plot(centres, np.where(cuts > 0, cuts, np.nan), color=DARK, linewidth=1)
    bottom.axhline(level, color=RED, linewidth=0.8, linestyle="--")
    bottom.annotate("alarm", (0.002, level), xycoords=("axes fraction", "data"), color=RED, va="bottom", fontsize=8)
    for moment in moments:
        bottom.plot(moment.seconds, moment.score, "v", color=RED, markersize=6)
        for axis in (top, middle):
            axis.axvline(moment.seconds, color=RED, linewidth=0.9)
    bottom.set_ylim(0, 1.15 * max(level, float(cuts.max())))
    bottom.set_ylabel("splice score")
    bottom.set_xlabel("time (s)")
    bottom.set_xlim(0, len(s.mel) / rate)
    save(path, figure.savefig)


def _limits(values: Array) -> tuple[float, float]:
    """Of an axis: all values, but at most 8 nats/sample below the median."""
    low, high = max(float(values.min()), float(np.median(values)) - 8), float(values.max())
    return low - 0.3, high + 0.3


def roc(path: str | Path, panels: Mapping[str, Mapping[str, tuple[Array, Array]]]) -> None:
    """One panel per title, side by side, with a curve (false, true positive rates) per label."""
    most = max(map(len, panels.values()))  # curves, which are named below
    figure, axes = new_figure(1, height=4.4 + 0.2 * most, columns=len(panels))
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        for label, (false, true) in curves.items():
            axis.plot(false, true, label=label, linewidth=1.5)
        axis.plot([0, 1], [0, 1], color="#aaaaaa", linewidth=0.8, linestyle="--")
        axis.set_title(title, **TITLE)
        axis.set_xlabel("false positive rate")
        axis.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.16))
    axes[0].set_ylabel("true positive rate")
    save(path, figure.savefig)
