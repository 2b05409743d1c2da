"""Autoregression over blocks (models/blockwise.py): a bijector, causal by block, that learns what is periodic."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.fft import dct

from fwn.models.blockwise import Blockwise

HOP, MELS = 32, 3
MODEL = Blockwise(HOP, coefficients=3, block=8, channels=6, n_layer=3, taps=6)


def inputs(frames, batch=2, dtype=jnp.float32):
    rng = np.random.default_rng(1)
    return jnp.asarray(rng.normal(size=(batch, frames * HOP, 1)), dtype), jnp.asarray(
        rng.normal(size=(batch, frames, MELS)), dtype
    )


def weights(model, e, mel, size=0.3):
    """Away from the identity that it begins with."""
    params = model.init(jax.random.key(0), e, mel, method="forward")["params"]
    rng = np.random.default_rng(2)

    def away(tree):
        return jax.tree.map(lambda a: size * rng.normal(size=a.shape), tree)

    changed = {"net": params["net"] | {"out": away(params["net"]["out"])}}
    if "linear_out" in params:
        changed["linear_out"] = jax.tree.map(lambda a: 0.3 * a, away(params["linear_out"]))
    return jax.tree.map(lambda a: jnp.asarray(a, e.dtype), params | changed)


def test_at_first_it_is_the_identity():
    e, mel = inputs(3)
    params = weights(MODEL, e, mel, size=0)
    u, _, logdet = MODEL.apply({"params": params}, e, mel, method="forward")
    np.testing.assert_allclose(u, e, atol=1e-6)
    np.testing.assert_array_equal(logdet, 0)


@pytest.mark.parametrize(("coefficients", "taps"), [(1, 6), (3, 0), (3, 1), (3, 6), (8, 3)])
def test_the_inverse_and_the_jacobian(coefficients, taps):
    with jax.enable_x64():
        model = MODEL.clone(coefficients=coefficients, taps=taps)
        e, mel = inputs(2, 1, jnp.float64)
        params = weights(model, e, mel)

        def forward(e):
            return model.apply({"params": params}, e[None, :, None], mel, method="forward")

        u, _, logdet = forward(e[0, :, 0])
        jacobian = jax.jacobian(lambda e: forward(e)[0][0, :, 0])(e[0, :, 0])
        np.testing.assert_allclose(logdet[0], np.linalg.slogdet(jacobian)[1], rtol=1e-9)
        blocks = np.asarray(jacobian).reshape(2 * HOP // 8, 8, 2 * HOP // 8, 8)
        later = [blocks[i, :, j] for i in range(len(blocks)) for j in range(i + 1, len(blocks))]
        assert np.max(np.abs(later)) == 0  # no block hears one behind it
        back, _ = model.apply({"params": params}, u, mel, method="inverse")
        np.testing.assert_allclose(back, e, atol=1e-9)


def test_in_windows_as_in_one_pass():
    u, mel = inputs(7)
    params = {"params": weights(MODEL, u, mel)}
    whole, _ = MODEL.apply(params, u, mel, method="inverse")
    state, parts = MODEL.start(2, u.dtype), []
    for first, last in [(0, 2), (2, 3), (3, 7)]:
        state, e = MODEL.apply(params, u[:, first * HOP : last * HOP], mel, None, first, state, method="proceed")
        parts.append(e)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-5)


def test_cooled_are_the_predicted_coefficients_alone():
    u, _ = inputs(3)
    before, after = (dct(np.reshape(a, (2, -1, 8)), axis=-1, norm="ortho") for a in (u, MODEL.cooled(u, 0.25)))
    np.testing.assert_allclose(after, before * np.where(np.arange(8) < 3, 0.25, 1), atol=1e-5)


def test_padding_changes_nothing():
    e, mel = inputs(5)
    params = {"params": weights(MODEL, e, mel)}
    mask = jnp.arange(5)[None, :, None] < jnp.array([3, 3])[:, None, None]
    u, _, logdet = MODEL.apply(params, e, mel, mask, method="forward")
    short, _, of_short = MODEL.apply(params, e[:, : 3 * HOP], mel[:, :3], method="forward")
    np.testing.assert_allclose(u[:, : 3 * HOP], short, atol=1e-5)
    np.testing.assert_allclose(logdet, of_short, rtol=1e-5)


def test_it_learns_what_noise_is_not():
    """Of a tone in noise it says more than white noise does, on tones that it was not trained on."""

    def tones(seed):
        rng = np.random.default_rng(seed)
        t = np.arange(8 * HOP)
        phase = 2 * np.pi * (t * rng.uniform(0.02, 0.03, (8, 1)) + rng.uniform(size=(8, 1)))
        return jnp.asarray(2 * np.sin(phase) + 0.3 * rng.normal(size=phase.shape), jnp.float32)[..., None]

    mel = jnp.zeros((8, 8, MELS))
    params = weights(MODEL, tones(0), mel)

    @jax.jit
    def nats(params, e):
        u, _, logdet = MODEL.apply({"params": params}, e, mel, method="forward")
        return jnp.mean(logdet / (8 * HOP) - 0.5 * jnp.mean(u**2 - e**2, axis=(1, 2)))

    tx = optax.adam(1e-2)
    state = tx.init(params)
    gradient = jax.jit(jax.grad(lambda params, e: -nats(params, e)))
    for seed in range(100):
        updates, state = tx.update(gradient(params, tones(seed)), state)
        params = optax.apply_updates(params, updates)
    assert nats(params, tones(1000)) > 0.3


def test_what_is_loud_stays_finite():
    u, mel = inputs(20)
    params = {"params": weights(MODEL, u, mel, size=2.0)}
    e, _ = jax.jit(partial(MODEL.apply, method="inverse"))(params, 30 * u, 1e3 * mel)
    assert np.all(np.isfinite(e))
