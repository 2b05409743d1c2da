"""What is usual in a run. A step whose loss is not finite, or far over the usual, is not taken (training/step.py).

After `max_skipped` such steps in a row, or if a weight is not finite, the run returns to an earlier checkpoint and goes
on with the batches that come next (training/loop.py).
"""

import dataclasses
from typing import Any

import flax
import jax
import jax.numpy as jnp

Array = jax.Array
DECAY = 0.98  # of the running means, after the first 50 steps
LEAST = 30  # steps before any loss is judged
MARGIN = 1.0  # a loss may always exceed the mean by this much


@flax.struct.dataclass
class Guard:
    """Part of the state of training, so that a continued run judges as if it had not stopped.

    mean, deviation: running mean of the losses of the steps taken, and of their distance from it, float32. count: of
    these steps. moved: by how many batches the data is ahead of the step, after returns. returns: how often the run
    returned to an earlier checkpoint.
    """

    mean: Array
    deviation: Array
    count: Array
    moved: Array
    returns: Array


def new() -> Guard:
    """Before step 0."""
    zero = jnp.zeros((), jnp.int32)
    return Guard(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32), zero, zero, zero)


def limit(guard: Guard, max_spike: float) -> Array:
    """The largest loss with which a step is taken: `max_spike` mean deviations over the mean. 0: any finite loss."""
    most = guard.mean + jnp.maximum(MARGIN, max_spike * guard.deviation)
    return jnp.where((guard.count >= LEAST) & (max_spike > 0), most, jnp.finfo(jnp.float32).max)


def followed(guard: Guard, loss: Array) -> Guard:
    """After a step that was taken."""
    loss, count = loss.astype(jnp.float32), guard.count.astype(jnp.float32)
    decay = jnp.minimum(DECAY, count / (count + 1))
    distance = jnp.where(count > 0, jnp.abs(loss - guard.mean), 0.0)
    mean, deviation = (decay * a + (1 - decay) * b for a, b in ((guard.mean, loss), (guard.deviation, distance)))
    return dataclasses.replace(guard, mean=mean, deviation=deviation, count=guard.count + 1)


@jax.jit
def finite(tree: Any) -> Array:
    """Whether all floating-point values of a tree are finite."""
    floats = [a for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.floating)]
    return jnp.stack([jnp.isfinite(a).all() for a in floats]).all()
