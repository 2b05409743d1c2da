"""What a program computes once, though XLA would rather compute it again wherever it is used."""

from typing import Any

import jax
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

_call = jax.jit(lambda *values: values)


def computed(*values: Any) -> Any:
    """The values themselves, computed before anything that uses them, so that no kernel computes them again.

    XLA for the CPU would put the sum of a thousand arrays' norms into each of a thousand kernels that update weights,
    and then take minutes to compile them. An optimization_barrier it drops before it fuses; a call that it must not
    inline it keeps. Elsewhere a barrier does.
    """
    if jax.default_backend() != "cpu":
        return lax.optimization_barrier(values)
    with set_xla_metadata(inlineable="false"):
        return _call(*values)
