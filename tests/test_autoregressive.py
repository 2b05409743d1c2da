"""The autoregressive WaveNet: causal, and sampled step by step exactly as its parallel pass says."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from experiments import tiny_wavenet, wavenet_gaussian, wavenet_mol
from fwn import config as configs
from fwn.flows.densities import DISTRIBUTIONS, Distribution
from fwn.models.autoregressive import Autoregressive, from_fields, sample
from fwn.nn import incremental
from fwn.nn.weight_norm import add_weight_norm
from fwn.systems import build

FIELDS = {"n_stack": 2, "n_layer": 3, "channels": 6, "gate_channels": 5, "skip_channels": 16} | {
    "kernel_size": 2,
    "front_kernel": 4,
    "upsample_strides": (2, 4),
}
# The tests' programs run once: half the time to compile them is worth more than their speed.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def tiny(distribution: str = "gaussian", **fields: Any) -> tuple[Distribution, Autoregressive]:
    return from_fields(distribution, **FIELDS | fields)


def random_params(model: Autoregressive, mels: int = 3) -> Any:
    """Kernels of unit gain and small biases, so that no gate saturates."""
    inputs = jnp.zeros((1, model.hop, 1)), jnp.zeros((1, 1, mels))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs))["params"]
    rng = np.random.default_rng(0)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        return rng.normal(size=leaf.shape) * (0.3 if path[-1].key == "bias" else 1 / np.sqrt(np.prod(leaf.shape[:-1])))

    return jax.tree_util.tree_map_with_path(draw, shapes)


def system(distribution: str = "gaussian", **fields: Any) -> Any:
    model = {"distribution": distribution, **FIELDS, **fields}
    return build(ConfigDict({"system": "wavenet", "model": model, "loss": {}, "teacher": None, "dequantise": False}))


def batch(frames: int = 4) -> dict[str, np.ndarray]:
    audio = np.round(0.1 * normal(0, 2, 8 * frames) * 2**15) / 2**15
    return {"audio": audio.astype("float32"), "mel": normal(1, 2, frames, 3).astype("float32"), "index": np.arange(2)}


@pytest.mark.parametrize(
    ("name", "kernel_size", "block"),
    [("gaussian", 2, 1), ("gaussian", 2, 8), ("gaussian", 3, 2), ("mixture_of_logistics", 2, 4)],
)
def test_step_by_step_is_the_parallel_pass(x64, name, kernel_size, block):
    """What is sampled is what `draw` makes of the parallel pass over it, for blocks below and above the dilations.

    6 frames of 8 samples, several times the longest ring buffer: every one goes round.
    """
    distribution, model = tiny(name, kernel_size=kernel_size)
    params, mel = random_params(model), normal(1, 2, 6, 3)
    noise = distribution.noise(jax.random.key(0), (2, 6 * model.hop))
    draw = partial(distribution.sample, temperature=0.7)

    @jit
    def both(params, mel, noise):
        x = sample(model, params, mel, noise, draw, block=block)
        return x, draw(model.apply({"params": params}, x[..., None], mel), noise)

    x, parallel = both(params, mel, noise)
    assert np.std(x) > 0.1
    np.testing.assert_allclose(x, parallel, rtol=0, atol=1e-9)


def test_state_is_all_there_is(x64):
    """Sampling in two parts, the state carried over, is sampling in one."""
    _, model = tiny()
    net, params = model.wavenet, random_params(model)["net"]
    c, noise = normal(0, 2, 40, 3), normal(1, 2, 40, 1)
    weights = incremental.pack(net, params)
    draw = DISTRIBUTIONS["gaussian"]().sample
    run = jit(partial(incremental.generate, net, weights, draw=partial(draw, temperature=1.0), block=4))
    _, whole = run(incremental.start(net, 2, "float64"), c, noise)
    state, first = run(incremental.start(net, 2, "float64"), c[:, :12], noise[:, :12])
    _, second = run(state, c[:, 12:], noise[:, 12:])
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="40 samples are not a whole number of blocks of 16"):
        incremental.generate(net, weights, state, c, noise, draw, 16)


def test_causality(x64):
    """θ_t depends on x before t, as far back as the receptive field, and not on x_t; on c up to c_t."""
    _, model = tiny(n_layer=2, channels=16, gate_channels=16, skip_channels=16)
    net, params = model.wavenet, random_params(model)
    reach = (net.kernel_size - 1) * sum(net.dilations) + net.front_kernel
    x, c = normal(0, 1, 24, 1), normal(1, 1, 24, 3)
    for argument, first in ((0, 1), (1, 0)):
        predict = jax.jacrev(lambda *args: model.apply({"params": params}, *args, method="predict")[0], argument)
        depends = np.abs(jit(predict)(x, c)).sum((1, 2, 4)) > 0  # [time out, time in]
        assert np.all(np.diag(depends, -first))
        assert not np.any(np.triu(depends, 1 - first))
        if argument == 0:
            assert np.diag(depends, -reach).all()
            assert not np.any(np.tril(depends, -reach - 1))


def test_bfloat16_says_float32():
    """Products in bfloat16 are near, and what they say of a sample is finer than bfloat16's 8 bits."""
    _, model = tiny()
    params = jax.tree.map(lambda a: a.astype("float32"), random_params(model))
    x, mel = normal(0, 2, 40, 1).astype("float32"), normal(1, 2, 5, 3).astype("float32")
    exact, near = (tiny(dtype=dtype)[1].apply({"params": params}, x, mel) for dtype in (None, "bfloat16"))
    assert near.dtype == np.float32
    assert 1e-4 < np.abs(near - exact).max() < 0.05 * np.abs(exact).max()
    assert np.mean(near == near.astype("bfloat16")) < 0.1


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_batch_and_padding_change_nothing(x64, name):
    """Two lengths in one batch, large values in the padding: likelihood and samples are the shorter one's own."""
    wavenet = system(name)
    params = random_params(tiny(name)[1])
    mel, audio, keys = normal(0, 2, 5, 3), 0.1 * normal(1, 2, 40), jax.random.split(jax.random.key(0), 2)
    mel[1, 3:], audio[1, 24:] = 1e3, 1e3

    @jit
    def both(params, audio, mel, keys, frames=None):
        return wavenet.log_likelihood(params, audio, mel, frames), wavenet.sample(params, mel, keys, 0.8, frames)

    nats, samples = both(params, audio, mel, keys, np.array([5, 3]))
    assert samples.shape == (2, 40)
    nats_alone, alone = both(params, audio[1:, :24], mel[1:, :3], keys[1:])
    np.testing.assert_allclose(nats_alone[0], nats[1], rtol=1e-10)
    np.testing.assert_allclose(alone[0], samples[1, :24], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_gradient_reaches_every_parameter(name):
    """All but the last layer's residual, which nothing uses; finite on silence and on full scale, too."""
    wavenet, example = system(name), batch()
    params = add_weight_norm(random_params(tiny(name)[1]))
    gradient = jit(jax.value_and_grad(wavenet.loss, has_aux=True))
    (loss, metrics), grads = gradient(params, (), example, jax.random.key(0))
    assert loss == -metrics["nats_per_sample"]
    unused = {path for path, g in flatten_dict(grads).items() if not np.any(g)}
    assert unused == {("net", "residual_5", leaf) for leaf in ("kernel", "scale", "bias")}
    for audio in (np.zeros_like(example["audio"]), np.sign(example["audio"])):
        (loss, _), grads = gradient(params, (), example | {"audio": audio}, jax.random.key(0))
        assert np.isfinite(loss)
        assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_likelihoods_compare(x64, name):
    """Nats per sample are of a density of audio in ±1: a network that says nothing of x gives the density's own."""
    (distribution, model), example = tiny(name), batch()
    wavenet = system(name)
    params = jax.tree.map(jnp.zeros_like, random_params(model))
    params["net"]["out"]["bias"] = theta = normal(3, distribution.features)
    expected = distribution.log_prob(theta, example["audio"]).mean(axis=1)
    found = jit(wavenet.log_likelihood)(params, example["audio"], example["mel"])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("experiment", [wavenet_gaussian, wavenet_mol, tiny_wavenet])
def test_experiments(experiment):
    """Whole configs whose systems build; the Gaussian one is ClariNet's teacher in its number of parameters."""
    config = experiment.get_config()
    configs.check(config, configs.mel_of(config), "config")
    example = {"audio": np.zeros((1, 256), "float32"), "mel": np.zeros((1, 1, 80), "float32")}
    shapes = jax.eval_shape(partial(build(config).init, drawn={}), jax.random.key(0), example)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    layer = 2 * 256 * (2 * 128 + 80 + 2 + 2) + 2 * 128 * (256 + 2)
    paper = 20 * layer + 128 * (32 + 2) + 128 * (128 + 2) + 2 * (3 * 32 + 2)
    expected = {"wavenet_gaussian": paper + 2 * (128 + 2), "wavenet_mol": paper + 30 * (128 + 2)}
    expected["tiny_wavenet"] = 165_512  # ours
    name = experiment.__name__.rpartition(".")[2]
    assert count == expected[name]
