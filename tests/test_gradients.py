"""The three ways to FloWaveNet's gradient, config.model.gradient: one result, another memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from test_bijectors import ANY_HOP, MASK, MODELS, jit, normal, random_params

from experiments import tiny
from fwn.errors import UserError
from fwn.models.flowavenet import FloWaveNet
from fwn.systems import build
from fwn.training.parallel import Parallel

GRADIENTS = ("plain", "remat", "invert")
SPLITS, ODD = MODELS["split after every block"], MODELS["odd number of flows"]
FRAMES, ODD_IN_X = MODELS["conditioned by frames"], MODELS["odd in x"]


@pytest.mark.parametrize(
    ("model", "mask", "dtype", "close"),
    [
        (SPLITS, MASK, "float64", 1e-9),
        (SPLITS, None, "float32", 1e-5),
        (ODD, MASK, "float32", 1e-5),
        (FRAMES, MASK, "float64", 1e-9),
        (ODD_IN_X, MASK, "float64", 1e-9),
        (ANY_HOP["6, by frames"], MASK, "float64", 1e-9),
        (ANY_HOP["5"], None, "float64", 1e-9),
    ],
    ids=[
        "float64, masked",
        "float32",
        "odd number of flows, masked, float32",
        "by frames, masked, float64",
        "odd in x, masked, float64",
        "hop 6, by frames, masked, float64",
        "hop 5, float64",
    ],
)
def test_all_gradients_are_one(model, mask, dtype, close):
    """Values, and gradients with respect to the weights, the audio and the mel, of random weights."""
    with jax.enable_x64(dtype == "float64"):
        audio = (4 * model.hop, 1)
        x, mel, direction = (normal(i, 2, *s).astype(dtype) for i, s in enumerate([audio, (4, 6), audio]))
        params = random_params(model, x, mel)

        @partial(jax.jit, static_argnums=0)  # inside the gradient: nothing may be caught from there
        def loss(gradient, params, x, mel, mask):
            network = model.clone(gradient=gradient)
            z, _, logdet = network.apply({"params": params}, x, mel, mask, method="forward")
            return jnp.sum(direction * jnp.sin(z)) + logdet @ np.array([1, 2], dtype), (z, logdet)

        @partial(jit, static_argnums=0)
        def run(gradient, *args):
            return jax.value_and_grad(partial(loss, gradient), (0, 1, 2), has_aux=True)(*args)

        values, expected = run("plain", params, x, mel, mask)
        for gradient in GRADIENTS[1:]:
            again, found = run(gradient, params, x, mel, mask)
            jax.tree.map(partial(np.testing.assert_allclose, rtol=close, atol=close), again, values)
            for (path, a), b in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True):
                assert a.dtype == b.dtype == dtype
                assert abs(a - b).max() <= close * max(1e-2, abs(b).max()), (gradient, jax.tree_util.keystr(path))


def test_memory_does_not_grow_with_the_number_of_flows():
    """Nor are networks computed more often than plain, plus once: inverting a coupling gives its net's values too."""
    x, mel = jax.ShapeDtypeStruct((1, 4096, 1), "float32"), jax.ShapeDtypeStruct((1, 16, 20), "float32")
    memory, flops = {}, {}
    for gradient in GRADIENTS:
        for n_flow in (2, 6):
            sizes = {"n_block": 1, "n_layer": 1, "channels": 16, "upsample_strides": (16, 16)}
            model = FloWaveNet(n_flow=n_flow, gradient=gradient, **sizes)
            params = jax.eval_shape(partial(model.init, method="forward"), jax.random.key(0), x, mel)["params"]

            def loss(params, x, mel, model=model):
                z, _, logdet = model.apply({"params": params}, x, mel, method="forward")
                return jnp.sum(z**2) - jnp.sum(logdet)

            compiled = jit(jax.grad(loss)).lower(params, x, mel).compile()
            memory[gradient, n_flow] = compiled.memory_analysis().temp_size_in_bytes
            flops[gradient, n_flow] = compiled.cost_analysis()["flops"]
    growth = {gradient: memory[gradient, 6] - memory[gradient, 2] for gradient in GRADIENTS}
    assert growth["invert"] < 0.1 * growth["plain"], memory
    assert growth["invert"] < growth["remat"] < 0.5 * growth["plain"], memory
    assert flops["invert", 6] < 1.4 * flops["plain", 6], flops


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_four_devices_are_one(mode, x64):
    """The mean gradient of a sharded batch, by `invert`, is that of plain on one device."""
    rng = np.random.default_rng(0)
    batch = {"audio": rng.normal(0, 0.3, (4, 1024)), "mel": rng.uniform(size=(4, 4, 80)), "index": np.arange(4)}
    config = tiny.get_config()
    config.model.update(small.MODEL)
    key = jax.random.key(0)

    def gradient_of(name):
        config.model.gradient = name
        system = build(config)
        return jax.grad(lambda params, frozen, batch, key: system.loss(params, frozen, batch, key)[0])

    shapes = jax.eval_shape(build(config).init, key, batch, {})
    params = jax.tree.map(lambda a: rng.normal(0, 0.3, a.shape) + 0.5, shapes)
    expected = jit(gradient_of("plain"))(params, (), batch, key)
    parallel, invert = Parallel(mode, 4), gradient_of("invert")
    step = parallel.compile(lambda params, frozen, batch, mean: mean(invert)(params, frozen, batch, key))
    found = step(jax.device_put(params, parallel.replicated), (), parallel.batch(batch))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * max(1, abs(b).max()))


def test_another_gradient_is_refused():
    config = tiny.get_config()
    config.model.gradient = "inverse"
    with pytest.raises(UserError, match=r"gradient is 'inverse'; it is 'plain' or 'remat' or 'invert'"):
        build(config)
