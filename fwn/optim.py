"""The optimiser: Adam with clipping, a warm-up and a staircase (official code: train.py)."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

Array = jax.Array


def schedule(config: Any) -> optax.Schedule:
    """Linear warm-up over `warmup` steps, then `rate`, halved every `halve_every` steps."""

    def rate(step: Array) -> Array:
        ramp = jnp.minimum(1.0, (step + 1) / max(config.warmup, 1))
        return config.rate * ramp * 0.5 ** (step // config.halve_every)

    return rate


def optimiser(config: Any) -> optax.GradientTransformation:
    """Adam, on gradients that have been clipped."""
    return optax.adam(schedule(config))


def clip_factor(norm: Array, config: Any) -> Array:
    """What gradients of this global norm are multiplied with to have one of `clip` at the most."""
    return jnp.minimum(1.0, config.clip / norm)


def select(ok: Array, new: Any, old: Any) -> Any:
    """new where ok, else old, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(ok, a, b), new, old)
