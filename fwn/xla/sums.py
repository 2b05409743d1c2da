"""Sums over large arrays, in the forms that XLA computes fastest."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fwn.xla.platform import on_cpu

JOINED = 2**17  # arrays of fewer numbers are joined before a sum: a kernel costs more than a copy


def products(a: Any, b: Any) -> Any:
    """Σ a · b over the last axes but one, [..., K, C_in, C_out] -> [..., C_out], for JAX or NumPy arrays."""
    c = a * b
    if isinstance(c, np.ndarray) or c.size < JOINED:
        return c.sum(axis=(-3, -2))

    def product(c: jax.Array) -> jax.Array:
        """XLA on CPUs takes twice as long for a sum along an axis as for a matrix product with ones."""
        rows = c.reshape(*c.shape[:-3], -1, c.shape[-1])
        return jnp.ones(rows.shape[-2], c.dtype) @ rows

    return on_cpu(product, lambda c: c.sum(axis=(-3, -2)), c)


def norm(tree: Any) -> jax.Array:
    """The global norm: the Euclidean norm of all arrays of a tree. Small arrays are joined, for fewer kernels."""
    leaves = [a.ravel() for a in jax.tree.leaves(tree)]
    small, large = ([a for a in leaves if (a.size < JOINED) == joined] for joined in (True, False))
    return jnp.sqrt(sum(jnp.sum(a * a) for a in ([jnp.concatenate(small)] if small else []) + large))
