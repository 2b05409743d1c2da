"""What XLA for the CPU computes once, though it would rather do so wherever it is used, and in what order."""

from typing import Any

import jax
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from fwn.xla.platform import on_cpu

Array = jax.Array
_call = jax.jit(lambda *values: values)


def computed(*values: Any) -> Any:
    """The values themselves, computed before anything that uses them, so that no kernel computes them again.

    XLA for the CPU would put the sum of a thousand arrays' norms into each of a thousand kernels that update weights,
    and then take minutes to compile them. An optimization_barrier it drops before it fuses; a call that it must not
    inline it keeps. Elsewhere a barrier does.
    """

    def called(*values: Any) -> Any:
        with set_xla_metadata(inlineable="false"):
            return _call(*values)

    return on_cpu(called, lambda *values: lax.optimization_barrier(values), *values)


def after(first: Array, then: Array) -> Array:
    """`then`, but not computed before `first`; both [B, T, C].

    XLA drops optimization_barrier before it orders a program, and on the CPU would begin with what depends on c alone,
    in all layers at once, and keep it. A product with zero it leaves alone, as 0 · inf is not 0.
    """

    def tied(first: Array, then: Array) -> Array:
        return then + 0 * first[:, :1, :1].astype(then.dtype)

    result: Array = on_cpu(tied, lambda first, then: then, first, then)
    return result
