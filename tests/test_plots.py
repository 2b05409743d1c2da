"""Plots are readable PNGs of the right scale; bad input gives a one-line error."""

import numpy as np
import pytest

from fwn.evaluation import plots

RNG = np.random.default_rng(0)
MEL = RNG.normal(size=(50, 80))
AUDIO = RNG.normal(scale=0.3, size=50 * 256)

DRAWINGS = {
    "one mel": lambda path: plots.mel_pair(path, {"recording": MEL}, 22050, 256),
    "mels of unequal length": lambda path: plots.mel_pair(
        path, {"a": MEL, "b": MEL[:30], "c": MEL + 3}, 22050, 256, "dB"
    ),
    "a constant mel": lambda path: plots.mel_pair(path, {"silence": np.zeros((50, 80))}, 22050, 256),
    "waveform and mel": lambda path: plots.waveform_and_mel(path, AUDIO, MEL, 22050, 256),
    "silent waveform": lambda path: plots.waveform_and_mel(path, 0 * AUDIO, 0 * MEL, 22050, 256),
    "one curve": lambda path: plots.curve(path, {"loss": (range(100), RNG.normal(size=100))}, "step", "nats/sample"),
    "a point and a gap": lambda path: plots.curve(
        path, {"a": ([1, 2, 3], [1, np.nan, 2]), "b": ([1, 2, 3], [3, 2, 1])}, "step", "y"
    ),
    "intervals": lambda path: plots.intervals(path, {"a": (4.1, 0.2), "b": (2.0, 0.0)}, "score", (1, 5)),
    "shares": lambda path: plots.shares(path, {("a", "b"): (3, 1, 6), ("a", "c"): (0, 0, 5)}),
    "curves with separate steps": lambda path: plots.curve(
        path, {"train": ([1, 2, 3], [1, 2, 3]), "held out": ([2], [2])}, "step", "y"
    ),
    "panels": lambda path: plots.panels(
        path, {"L1": {"a": ([1e2], [3.0]), "b": ([1e5], [None])}, "nats": {"b": ([1e5], [2.0])}}, "samples/s", True
    ),
    "dots": lambda path: plots.dots(path, ["a", "b"], {"L1": [(1.0, 0.2), (2.0, None)], "nats": [(None, None)] * 2}),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_draws_a_png(name, tmp_path):
    image = pytest.importorskip("matplotlib.image")
    path = tmp_path / "picture.png"
    DRAWINGS[name](path)
    pixels = image.imread(path)[..., :3]
    assert pixels.shape[1] == plots.WIDTH * plots.DPI
    assert 0.02 < (pixels < 0.99).any(axis=-1).mean() < 0.98  # neither empty nor filled to the edges


def test_mels_share_one_colour_scale_and_time_axis(monkeypatch, tmp_path):
    figure_module = pytest.importorskip("matplotlib.figure")
    drawn = []
    save = figure_module.Figure.savefig
    monkeypatch.setattr(figure_module.Figure, "savefig", lambda self, path: drawn.append(self) or save(self, path))
    plots.mel_pair(tmp_path / "picture.png", {"quiet": MEL, "loud": MEL[:25] + 3}, 22050, 256)
    axes = drawn[0].axes[:2]
    (quiet,), (loud,) = axes[0].images, axes[1].images
    assert quiet.get_clim() == loud.get_clim() == (MEL.min(), max(MEL.max(), MEL[:25].max() + 3))
    assert axes[0].get_xlim() == axes[1].get_xlim() == (0, 50 * 256 / 22050)
    assert loud.get_extent()[1] == 25 * 256 / 22050
