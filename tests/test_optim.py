"""Our Adam against optax's, Muon's steps, and what a step that is not ok leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small

from fwn.config import OPTIMIZERS
from fwn.training.optimizer import SPECTRAL, adam, muon, optimizer, schedule


@pytest.fixture
def settings(tmp_path):
    config = small.config(tmp_path).optimizer
    config.update({"warmup": 3, "halve_every": 4})
    return config


def drawn(seed):
    rng = np.random.default_rng(seed)
    tree = {"kernel": rng.normal(size=(2, 3, 4)), "bias": rng.normal(size=4) * 1e-6}
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), tree)


def test_it_is_optaxs(settings):
    ours, theirs = adam(settings), optax.adam(schedule(settings))
    params = drawn(0)
    state, expected = ours.init(params), theirs.init(params)
    for i in range(1, 9):
        changes, state = jax.jit(ours.update)(drawn(i), state, ok=jnp.asarray(True))
        wanted, expected = jax.jit(theirs.update)(drawn(i), expected, params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), (changes, state), (wanted, expected))
    assert jax.tree.structure(state) == jax.tree.structure(expected)


def test_muon_steps_are_equally_long_in_all_directions(settings):
    """Of kernels, one by one where they are stacked; what is zero at first, and vectors, have NAdam's."""
    rng = np.random.default_rng(0)
    shapes = {"net": (2, 3, 4), "stacked": (5, 1, 6, 3), "odd_out": (1, 4, 6), "narrow": (3, 1, 4)}
    params = {name: {"kernel": np.zeros(shape, "f4"), "bias": np.zeros(3, "f4")} for name, shape in shapes.items()}
    grads = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), jnp.float32), params)
    tx, nadam = muon(settings), optax.nadam(schedule(settings))
    changes, _ = tx.update(grads, tx.init(params), params, ok=jnp.asarray(True))
    theirs, _ = nadam.update(grads, nadam.init(params), params)
    rate = SPECTRAL * schedule(settings)(0)
    for matrix in [changes["net"]["kernel"].reshape(6, 4), *changes["stacked"]["kernel"].reshape(5, 6, 3)]:
        singular = np.linalg.svd(matrix, compute_uv=False)
        assert np.all((singular > 0.6 * rate) & (singular < 1.3 * rate))  # what five Newton-Schulz iterations leave
    for name in ("odd_out", "narrow"):
        np.testing.assert_allclose(changes[name]["kernel"], theirs[name]["kernel"], rtol=1e-5)
    np.testing.assert_allclose(changes["net"]["bias"], theirs["net"]["bias"], rtol=1e-5)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_step_that_is_not_ok_changes_no_moment_and_no_count(settings, kind):
    settings.kind = kind
    tx = optimizer(settings)
    params = drawn(0)
    _, before = tx.update(drawn(1), tx.init(params), params, ok=jnp.asarray(True))
    bad = jax.tree.map(lambda a: a * jnp.nan, drawn(2))
    _, after = jax.jit(tx.update)(bad, before, params, ok=jnp.asarray(False))
    jax.tree.map(np.testing.assert_array_equal, after, before)
