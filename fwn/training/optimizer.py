"""Optimizers: Adam with warm-up and a staircase schedule (official code: train.py), and Muon (ours)."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from fwn.xla.scheduling import computed

Array = jax.Array
DECAYS = 0.9, 0.999  # of the first and second moments
EPSILON = 1e-8
SPECTRAL = 20.0  # Muon's rate over Adam's: 0.02 (Jordan et al. 2024) at a learning rate of 1e-3


def schedule(config: Any) -> optax.Schedule:
    """Linear warm-up over `warmup` steps, then `learning_rate`, halved every `halve_every` steps."""

    def rate(step: Array) -> Array:
        ramp = jnp.minimum(1.0, (step + 1) / max(config.warmup, 1))
        return config.learning_rate * ramp * 0.5 ** (step // config.halve_every)

    return rate


def adam(config: Any) -> optax.GradientTransformationExtraArgs:
    """optax.adam with the same state. If `ok` is false the state is unchanged, and the updates must not be used.

    Not optax's own update, because XLA for the CPU would compute the new moments twice and copy the old ones for it,
    1.5 GB for the paper's model. Here they are computed first, and the updates from them.
    """
    rate = schedule(config)

    def update(grads: Any, state: Any, params: Any = None, *, ok: Array, **_: Any) -> tuple[Any, Any]:
        before, steps = state
        count = optax.safe_increment(before.count)
        means = optax.tree.update_moment(grads, before.mu, DECAYS[0], 1)
        squares = optax.tree.update_moment_per_elem_norm(grads, before.nu, DECAYS[1], 2)
        means, squares = computed(select(ok, means, before.mu), select(ok, squares, before.nu))
        unbiased = [optax.tree.bias_correction(m, d, count) for m, d in zip((means, squares), DECAYS, strict=True)]
        changes = jax.tree.map(lambda m, s: -rate(steps.count) * m / (jnp.sqrt(s) + EPSILON), *unbiased)
        counts = select(ok, (count, optax.safe_increment(steps.count)), (before.count, steps.count))
        return changes, (before._replace(count=counts[0], mu=means, nu=squares), steps._replace(count=counts[1]))

    return optax.GradientTransformationExtraArgs(optax.adam(rate).init, update)


def muon(config: Any) -> optax.GradientTransformationExtraArgs:
    """optax.contrib.muon for kernels that are not zero at initialisation, NAdam for the rest; `ok` as in `adam`.

    Jordan et al. 2024: the momentum of a matrix is orthogonalised, so that a step has the same length in all
    directions. A convolution's kernel [K, C_in, C_out] counts as a matrix with K · C_in rows.
    """
    numbers = optax.contrib.MuonDimensionNumbers

    def matrices(params: Any) -> Any:
        def of(path: Any, a: Any) -> Any:
            *_, module, name = ("", *(key.key for key in path))
            matrix = name == "kernel" and not module.endswith("out") and min(a.shape[-2:]) > 1
            return numbers((a.ndim - 3, a.ndim - 2), a.ndim - 1) if matrix else None

        return jax.tree_util.tree_map_with_path(of, params)

    rate = schedule(config)
    tx = optax.contrib.muon(
        lambda step: SPECTRAL * rate(step), adam_learning_rate=rate, muon_weight_dimension_numbers=matrices
    )

    def update(grads: Any, state: Any, params: Any = None, *, ok: Array, **_: Any) -> tuple[Any, Any]:
        changes, after = tx.update(grads, state, params)
        return changes, select(ok, after, state)

    return optax.GradientTransformationExtraArgs(tx.init, update)


def optimizer(config: Any) -> optax.GradientTransformationExtraArgs:
    """The optimizer that config.kind names (fwn.config.OPTIMIZERS)."""
    return {"adam": adam, "muon": muon}[config.kind](config)


def clip_factor(norm: Array, config: Any) -> Array:
    """Factor by which gradients of this global norm are scaled, to have at most max_grad_norm."""
    return jnp.minimum(1.0, config.max_grad_norm / norm)


def select(ok: Array, new: Any, old: Any) -> Any:
    """new where ok, else old, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(ok, a, b), new, old)
