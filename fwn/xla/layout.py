"""Layouts of weights in memory, in which XLA need not rearrange them."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.layout import Format, Layout

OUT_FIRST = Layout(major_to_minor=(2, 0, 1))  # [K, C_in, C_out] lies in memory as [C_out, K, C_in]


def formats(params: Any, sharding: Any, platform: str) -> Any:
    """Sharding and layout of each array: kernels of several taps lie as cuDNN reads them, on a "gpu".

    Otherwise each pass over the model transposes them first, in a kernel for each.
    """

    def of(path: Any, a: Any) -> Any:
        name = jax.tree_util.keystr(path[-1:], simple=True)
        taps = platform == "gpu" and name == "kernel" and a.ndim == 3 and a.shape[0] > 1
        return Format(OUT_FIRST, sharding) if taps else sharding

    return jax.tree_util.tree_map_with_path(of, params)


def placed(params: Any) -> Any:
    """The arrays on the default device, in the layouts of `formats`."""
    platform = jax.default_backend()
    if platform != "gpu":
        return jax.tree.map(jnp.asarray, params)
    return jax.device_put(params, formats(params, jax.sharding.SingleDeviceSharding(jax.devices()[0]), platform))
