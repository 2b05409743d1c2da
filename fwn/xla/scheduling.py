"""Prevents XLA on CPUs from computing a value several times, and orders computations."""

from typing import Any

import jax
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from fwn.xla.platform import on_cpu, on_gpu

Array = jax.Array
_call = jax.jit(lambda *values: values)


def computed(*values: Any) -> Any:
    """The identity, computed once before its users, so that XLA does not fuse the computation into each of them.

    Without it, XLA on CPUs fuses the global norm of a thousand arrays into each of a thousand kernels that update
    weights, and takes minutes to compile them. It drops an optimization_barrier before fusion, but keeps a call that
    must not be inlined. On other platforms a barrier is enough.
    """

    def called(*values: Any) -> Any:
        with set_xla_metadata(inlineable="false"):
            return _call(*values)

    return on_cpu(called, lambda *values: values, *values)


@jax.custom_vjp
def apart(a: Array) -> Array:
    """The identity. Keeps XLA on GPUs from adding what follows inside of the convolution that made `a`.

    The convolution takes only arrays that lie in memory: an interpolation would be written out before it.
    """
    result: Array = on_gpu(lax.optimization_barrier, lambda a: a, a)
    return result


apart.defvjp(lambda a: (apart(a), None), lambda _, da: (da,))


def after(first: Array, then: Array) -> Array:
    """Returns `then`, computed after `first`. Both are [B, T, C].

    XLA on CPUs drops optimization_barrier before scheduling. It would first compute what depends on c only, in all
    layers, and keep it in memory. XLA does not remove a product with zero, because 0 · inf is not 0.
    """

    def tied(first: Array, then: Array) -> Array:
        return then + 0 * first[:, :1, :1].astype(then.dtype)

    result: Array = on_cpu(tied, lambda first, then: then, first, then)
    return result
