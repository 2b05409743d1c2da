"""The optimizers: Adam with clipping, a warm-up and a staircase (official code: train.py); Muon, which is ours."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from fwn.xla.scheduling import computed

Array = jax.Array
DECAYS = 0.9, 0.999  # of the moments
EPSILON = 1e-8
SPECTRAL = 20.0  # times the rate: the spectral norm of Muon's step, 0.02 (Jordan et al. 2024) at Adam's usual 1e-3


def schedule(config: Any) -> optax.Schedule:
    """Linear warm-up over `warmup` steps, then `rate`, halved every `halve_every` steps."""

    def rate(step: Array) -> Array:
        ramp = jnp.minimum(1.0, (step + 1) / max(config.warmup, 1))
        return config.learning_rate * ramp * 0.5 ** (step // config.halve_every)

    return rate


def adam(config: Any) -> optax.GradientTransformationExtraArgs:
    """optax.adam, whose state it has; of a step that is not `ok` the state stays, and its changes are not to be used.

    The new moments replace the old before weights are updated from them. XLA would compute them again for each weight
    from the old, which it therefore copies: 1.5 GB for the paper's model.
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
    """optax.contrib.muon of the kernels that are not zero at first, NAdam of the rest; `ok` as of `adam`.

    Jordan et al. 2024: the momentum of a matrix is made orthogonal, so that a step is as long in all its directions. A
    convolution's kernel [K, C_in, C_out] is a matrix of K · C_in rows. `rate` is that of Adam.
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
    """The one that config.kind (fwn.config.OPTIMIZERS) names."""
    return {"adam": adam, "muon": muon}[config.kind](config)


def clip_factor(norm: Array, config: Any) -> Array:
    """What gradients of this global norm are multiplied with to have one of `clip` at the most."""
    return jnp.minimum(1.0, config.max_grad_norm / norm)


def select(ok: Array, new: Any, old: Any) -> Any:
    """new where ok, else old, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(ok, a, b), new, old)
