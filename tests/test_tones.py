"""config.model.odd: what is odd has no tones of its own, whatever the weights, the mel and the temperature."""

import os
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import small
from test_bijectors import MODELS, jit, normal, pair, random_params

from experiments import tiny
from fwn.audio.spectral import line_excess
from fwn.errors import UserError
from fwn.models.blocks import Flow
from fwn.nn.odd import OddWaveNet
from fwn.systems import build

ODD = {
    "squeezed": MODELS["odd in x"],
    "no split, bfloat16": MODELS["odd in x"].clone(block_per_split=8, dtype="bfloat16"),
    "causal, odd number of flows": MODELS["odd in x"].clone(causal=True, n_flow=3),
    "frames": MODELS["conditioned by frames, odd in x"],
    "frames, bound of the scale": MODELS["conditioned by frames, odd in x"].clone(s_max=2.0),
}


def arrays(model):
    """Random weights, audio, mel, and which frames are real."""
    x, mel = (normal(i, 2, *shape).astype("float32") for i, shape in enumerate([(32, 1), (4, 6)]))
    mask = np.arange(4)[:, None] < np.array([3, 4])[:, None, None]
    return random_params(model, x, mel), x, mel, mask


@pytest.mark.parametrize("model", ODD.values(), ids=ODD.keys())
def test_minus_the_audio_is_minus_the_noise(model):
    """To the last bit, both ways, with one likelihood: so noise of mean 0 is audio of mean 0 at any temperature."""
    params, x, mel, mask = arrays(model)

    @jit
    def both(x):
        b = pair(model, params, mask)
        z, _, logdet = b.forward(x, mel)
        return z, logdet, b.inverse(x, mel)[0]

    (z, logdet, audio), (of_minus, same_logdet, minus_audio) = both(x), both(-x)
    np.testing.assert_array_equal(of_minus, -z)
    np.testing.assert_array_equal(same_logdet, logdet)
    np.testing.assert_array_equal(minus_audio, -audio)
    assert abs(logdet).min() > 0.1
    assert abs(audio).max() > 0.1


@pytest.mark.parametrize("odd", [True, False])
def test_audio_of_no_noise(odd):
    """Is silence. Of the paper's couplings it has the period of the squeeze's phases, under a steady mel."""
    model = MODELS["conditioned by frames, odd in x" if odd else "conditioned by frames"]
    params, _, mel, _ = arrays(model)
    mel = np.broadcast_to(mel[:1, :1], (1, 16, 6))
    audio = np.asarray(jit(lambda z: pair(model, params).inverse(z, mel)[0])(np.zeros((1, 128, 1), "float32")))
    if odd:
        assert not audio.any()
        return
    phases = audio[0, 32:96, 0].reshape(-1, 2**model.n_block)  # away from both ends
    np.testing.assert_allclose(phases, np.broadcast_to(phases[0], phases.shape), atol=1e-4)
    assert phases[0].std() > 0.1


def test_the_net_hears_x_and_c(x64):
    """Every channel of its result is of both, with random weights, and differs along time."""
    net = OddWaveNet(features=4, channels=16)
    x, c = normal(0, 1, 64, 2), normal(1, 1, 64, 3)
    shapes = jax.eval_shape(partial(net.init, jax.random.key(0)), x, c)["params"]
    params = jax.tree.map(lambda leaf: 0.5 * normal(2, *leaf.shape), shapes)
    run = jit(lambda x, c: net.apply({"params": params}, x, c))
    result = np.asarray(run(x, c))
    for other in (run(2 * x, c), run(x, 2 * c)):
        assert np.all(abs(other - result).mean((0, 1)) > 1e-3)
    assert np.all(result.std((0, 1)) > 1e-3)
    swapped = np.asarray(net.clone(odd_first=True).apply({"params": params}, x, c))
    np.testing.assert_allclose(swapped, np.roll(result, 2, axis=-1), atol=1e-5)


def test_actnorm_begins_without_shift(x64):
    """On the batch that initialises it, what leaves it has a mean square of 1, and the mean it had."""
    x = normal(0, 4, 32, 2) + 1
    flow = Flow(OddWaveNet(2, channels=4, n_layer=1), odd=True)
    weights = flow.init(jax.random.key(0), 4) | {"actnorm": flow.statistics(x)}
    assert set(weights["actnorm"]) == {"scale"}
    z, _, _ = flow.steps(weights, None)[0].forward(x, normal(1, 4, 32, 4))
    np.testing.assert_allclose(np.square(z).mean((0, 1)), 1, rtol=1e-2)
    assert np.all(np.mean(z, (0, 1)) > 0.5)


@pytest.mark.parametrize("fields", [{"channels": 7}, {"channels": (8, 7)}, {"prior_channels": 5}])
def test_an_odd_number_of_channels_is_refused(fields):
    config = tiny.get_config()
    with config.model.ignore_type():
        config.model.update(small.MODEL | {"odd": True} | fields)
    with pytest.raises(UserError, match=f"{next(iter(fields))} is .*; of an odd model half are odd: it must be even"):
        build(config)


# -- the published samples

SAMPLES = os.environ.get("FWN_DEMO_SAMPLES")  # the folder samples/ of github.com/ksw0306/flowavenet-demo
PUBLISHED = {  # temperature: how much of the tone of T = 0 is in it; line noise in dB, and without that tone
    "0.0": (1.00, 20.22, None),
    "0.5": (0.56, 8.61, 3.68),
    "0.8": (0.19, 2.36, 0.69),
    "1.0": (-0.03, 1.40, 1.34),
}


def tone(audio, period=16, periods=128):
    """What of the audio [T] repeats after `period` samples, over a window of so many periods, without its mean."""
    window = np.hanning(periods + 2)[1:-1]
    folded = audio[: len(audio) // period * period].reshape(-1, period)
    smooth = np.stack([np.convolve(phase, window / window.sum(), "same") for phase in folded.T], axis=1)
    result = np.zeros_like(audio)
    result[: folded.size] = (smooth - smooth.mean(1, keepdims=True)).ravel()
    return result


@pytest.mark.skipif(SAMPLES is None, reason="FWN_DEMO_SAMPLES does not name flowavenet-demo's samples/")
@pytest.mark.parametrize("temperature", PUBLISHED)
def test_published_tones_are_those_of_no_noise(temperature):
    """Mean of three utterances: the tone of T = 0 less and less with temperature, and nothing of it at T = 1."""
    soundfile = pytest.importorskip("soundfile")
    rows = []
    for i in (1, 2, 3):
        audio, of_none = (soundfile.read(Path(SAMPLES) / f"FWN/temp/{i}_{t}.wav")[0] for t in (temperature, "0.0"))
        hum = tone(of_none)
        share = (tone(audio) @ hum) / (hum @ hum)
        rows.append((share, line_excess(audio).mean(), line_excess(audio - share * hum).mean()))
    expected = [value for value in PUBLISHED[temperature] if value is not None]
    np.testing.assert_allclose(np.mean(rows, axis=0)[: len(expected)], expected, atol=0.006)
