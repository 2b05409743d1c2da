"""Sums over large arrays of weights by adding up slices: along an axis, XLA for the CPU takes five times as long."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fwn.xla.platform import on_cpu

SLICES = 16


def products(a: Any, b: Any, axes: tuple[int, ...]) -> Any:
    """Σ a · b over axes, of JAX or NumPy arrays of one shape; the last of the axes is the one that is sliced."""

    def sliced(a: Any, b: Any) -> Any:
        return inner(a, b, axes[-1]).sum(axis=axes)

    if isinstance(a, np.ndarray):
        return sliced(a, b)
    return on_cpu(sliced, lambda a, b: (a * b).sum(axis=axes), a, b)


def norm(tree: Any) -> jax.Array:
    """The Euclidean norm of all arrays together."""
    leaves = jax.tree.leaves(tree)
    return jnp.sqrt(sum(products(a, a, (*range(a.ndim - 2), -1, -2)) if a.ndim > 1 else jnp.sum(a * a) for a in leaves))


def inner(a: Any, b: Any, axis: int) -> Any:
    """a · b with SLICES slices of `axis` added up, so that it is as many times shorter; a · b where that cannot be."""
    n, rest = divmod(a.shape[axis], SLICES)
    if rest:
        return a * b
    index: list[Any] = [slice(None)] * a.ndim
    parts = []
    for i in range(SLICES):
        index[axis] = slice(i * n, (i + 1) * n)
        parts.append(a[tuple(index)] * b[tuple(index)])
    return sum(parts[1:], start=parts[0])
