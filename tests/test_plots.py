"""Plots are readable PNGs of the right scale; bad input gives a one-line error."""

import numpy as np
import pytest

from fwn.evaluation import flow_plots, plots
from fwn.synthesis import exported, stages
from fwn.synthesis.vocoder import Vocoder

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
    "side by side": lambda path: flow_plots.beside(
        path, {"audio": AUDIO, "its noise": RNG.normal(size=len(AUDIO))}, 22050
    ),
    "spectra": lambda path: flow_plots.spectra(
        path, {"T = 1": {"a": AUDIO, "b": AUDIO / 2}, "T = 0": {"a": AUDIO}}, 22050
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


def test_an_animation_has_a_picture_for_each_signal_and_some_between(tmp_path):
    image = pytest.importorskip("PIL.Image")
    signals = [
        ("noise", RNG.normal(size=6000)),
        ("tone", np.sin(np.arange(6000) / 5)),
        ("pulse", np.eye(1, 6000, 99)[0]),
    ]
    flow_plots.becoming(tmp_path / "a.webp", signals, 22050)
    with image.open(tmp_path / "a.webp") as animation:
        assert animation.n_frames == 1 + 2 * (flow_plots.FADES + 1)
        pixels = []
        for i in (0, flow_plots.FADES + 1, 2 * flow_plots.FADES + 2):
            animation.seek(i)
            pixels.append(np.asarray(animation.convert("RGB"), float))
    for a, b in ((0, 1), (1, 2), (0, 2)):
        assert abs(pixels[a] - pixels[b]).mean() > 5


def test_what_the_inverse_makes_on_its_way(run):
    """The first is the noise itself, the last the audio. A model of no blocks makes it audio."""
    of_blocks = exported.read_run(run)
    vocoder = Vocoder(of_blocks)
    mel = RNG.uniform(size=(12, 80)).astype("float32")
    noise = vocoder.noise(len(mel))
    audio = vocoder.decode(noise, mel)
    found = list(stages.stages(of_blocks, audio, mel, None))
    titles = ["noise", "after 1 of 2 blocks", "after 2 of 2 blocks", "with the predicted low bands"]
    assert [title for title, _ in found] == [*titles, "through the filters of the mel: speech"]
    np.testing.assert_allclose(found[0][1], noise, atol=1e-3)
    assert all(signal.shape == audio.shape for _, signal in found)
    np.testing.assert_array_equal(found[-1][1], audio)
    back = stages.truncated(of_blocks, 0).decode(found[2][1], mel)
    np.testing.assert_allclose(back, audio, atol=1e-4 * abs(audio).max())
    assert abs(found[1][1] - noise).max() > 1e-3


def test_a_spectrum_does_not_depend_on_the_length(monkeypatch, tmp_path):
    """White noise has its own level, in dB of full scale, in every bin."""
    figure_module = pytest.importorskip("matplotlib.figure")
    drawn = []
    save = figure_module.Figure.savefig
    monkeypatch.setattr(figure_module.Figure, "savefig", lambda self, path: drawn.append(self) or save(self, path))
    noise = 0.1 * RNG.normal(size=400_000)
    flow_plots.spectra(tmp_path / "a.png", {"noise": {"short": noise[:100_000], "long": noise}}, 22050)
    levels = [np.median(line.get_ydata()) for line in drawn[0].axes[0].lines if len(line.get_ydata()) > 2]
    assert len(levels) == 2
    np.testing.assert_allclose(levels, -20, atol=0.5)
