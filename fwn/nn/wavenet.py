"""The WaveNet inside every coupling and prior (official code: modules.py, Wavenet and ResBlock)."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fwn.nn.conv import Conv, ZeroConv

Array = jax.Array


class WaveNet(nn.Module):
    """(x [B, T, C_in], c [B, T, C_c]) -> [B, T, features]: gated residual layers, dilation 2^n; zero at first.

    mask [B, T, 1]: positions outside the sequence are zero to every convolution, as its own padding is, so that the
    result inside does not depend on how far the arrays are padded. dtype: of all products; the result is in x's type.
    """

    features: int
    channels: int = 256
    n_layer: int = 2
    causal: bool = False
    weight_norm: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, c: Array, mask: Array | None = None) -> Array:
        def conv(name: str, features: int, kernel_size: int = 1, dilation: int = 1) -> Conv:
            return Conv(features, kernel_size, dilation, self.causal, self.weight_norm, self.dtype, name=name)

        def inside(h: Array) -> Array:
            return h if mask is None else jnp.where(mask, h, 0)

        h = nn.relu(conv("front", self.channels, 3)(inside(x)))
        skips = jnp.zeros((), h.dtype)
        for n in range(self.n_layer):
            # Filter and gate are one product. The last layer's residual is not used (nor, under jit, computed).
            gates = conv(f"dilated_{n}", 2 * self.channels, 3, 2**n)(inside(h))
            gates = gates + conv(f"condition_{n}", 2 * self.channels)(c)
            filters, gates = jnp.split(gates, 2, axis=-1)
            out = jnp.tanh(filters) * nn.sigmoid(gates)
            h = (h + conv(f"residual_{n}", self.channels)(out)) * math.sqrt(0.5)
            skips = skips + conv(f"skip_{n}", self.channels)(out)
        h = nn.relu(conv("final", self.channels)(nn.relu(skips)))
        return ZeroConv(self.features, self.dtype, name="out")(h).astype(x.dtype)
