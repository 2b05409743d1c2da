"""Our Adam against optax's, and what a step that is not ok leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small

from fwn.optim import adam, schedule


@pytest.fixture
def settings(tmp_path):
    config = small.config(tmp_path).optimiser
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


def test_a_step_that_is_not_ok_changes_no_moment_and_no_count(settings):
    tx = adam(settings)
    _, before = tx.update(drawn(1), tx.init(drawn(0)), ok=jnp.asarray(True))
    bad = jax.tree.map(lambda a: a * jnp.nan, drawn(2))
    _, after = jax.jit(tx.update)(bad, before, ok=jnp.asarray(False))
    jax.tree.map(np.testing.assert_array_equal, after, before)
