"""Sums over large arrays as sums of slices. XLA on CPUs takes five times as long for a sum along an axis."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fwn.xla.platform import on_cpu, on_gpu

SLICES = 16
JOINED = 2**17  # arrays of fewer numbers are joined before the sum on a GPU: a kernel costs more than a copy


def products(a: Any, b: Any, axes: tuple[int, ...]) -> Any:
    """Σ a · b over `axes`, for JAX or NumPy arrays of one shape. The last of the axes is sliced."""

    def sliced(a: Any, b: Any) -> Any:
        return inner(a, b, axes[-1]).sum(axis=axes)

    if isinstance(a, np.ndarray):
        return sliced(a, b)
    return on_cpu(sliced, lambda a, b: (a * b).sum(axis=axes), a, b)


def norm(tree: Any) -> jax.Array:
    """The global norm: the Euclidean norm of all arrays of a tree."""
    leaves = jax.tree.leaves(tree)

    def each(*leaves: jax.Array) -> jax.Array:
        squares = [products(a, a, (*range(a.ndim - 2), -1, -2)) if a.ndim > 1 else jnp.sum(a * a) for a in leaves]
        return jnp.asarray(sum(squares))

    def joined(*leaves: jax.Array) -> jax.Array:
        small = [a.ravel() for a in leaves if a.size < JOINED]
        large = [a.ravel() for a in leaves if a.size >= JOINED]
        return jnp.asarray(sum(jnp.sum(a * a) for a in ([jnp.concatenate(small)] if small else []) + large))

    return jnp.sqrt(on_gpu(joined, each, *leaves))


def inner(a: Any, b: Any, axis: int) -> Any:
    """a · b, with SLICES equal slices along `axis` added up. Plain a · b if SLICES does not divide the axis."""
    n, rest = divmod(a.shape[axis], SLICES)
    if rest:
        return a * b
    index: list[Any] = [slice(None)] * a.ndim
    parts = []
    for i in range(SLICES):
        index[axis] = slice(i * n, (i + 1) * n)
        parts.append(a[tuple(index)] * b[tuple(index)])
    return sum(parts[1:], start=parts[0])
