"""Log-densities in nats, elementwise."""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
LOG_2PI = float(np.log(2 * np.pi))


def normal_log_prob(x: Array, mean: Array | float = 0.0, log_sd: Array | float = 0.0) -> Array:
    """log N(x; mean, exp(log_sd)²)."""
    return -0.5 * LOG_2PI - log_sd - 0.5 * jnp.square((x - mean) * jnp.exp(-jnp.asarray(log_sd)))
