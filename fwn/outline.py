"""What a program computes once, though XLA would rather compute it again wherever it is used."""

from typing import Any

import jax
from jax.experimental.xla_metadata import set_xla_metadata

_call = jax.jit(lambda *values: values)


def computed(*values: Any) -> Any:
    """The values themselves, of a call that XLA does not inline, so that no kernel that uses them computes them again.

    It would put the sum of a thousand arrays' norms into each of a thousand kernels that update weights, and then take
    minutes to compile them; an optimization_barrier it drops before it fuses.
    """
    with set_xla_metadata(inlineable="false"):
        return _call(*values)
