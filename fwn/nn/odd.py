"""A WaveNet for odd couplings, which map -audio to -noise. Their purpose: docs/tones.md."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fwn.nn.conv import Conv, ZeroConv
from fwn.nn.wavenet import RESIDUAL_SCALE, WaveNet

Array = jax.Array


class OddWaveNet(WaveNet):
    """A WaveNet with two halves of outputs [B, T, features]: even(-x) = even(x) and odd(-x) = -odd(x).

    Half of its channels are odd functions of x: products of odd channels without bias, gated by even ones. The other
    half are even: an ordinary WaveNet of c and of the odd channels' absolute values. odd_first: the odd half of the
    output comes first, as a prior needs it. The symmetry is exact in floating point.
    """

    odd_first: bool = False

    @nn.compact
    def __call__(self, x: Array, c: Array, mask: Array | None = None) -> Array:
        n = self.channels // 2

        def conv(name: str, features: int, kernel_size: int = 1, dilation: int = 1, biased: bool = True) -> Conv:
            return Conv(features, kernel_size, dilation, self.causal, self.dtype, biased, name=name)

        def inside(h: Array) -> Array:
            return h if mask is None else jnp.where(mask, h, 0)

        def evens(odd: Array, even: Array) -> Array:
            return jnp.concatenate([jnp.abs(odd), even], axis=-1)

        odd = conv("front", n, self.front_kernel, biased=False)(inside(x))
        even = nn.relu(conv("even_front", n)(jnp.abs(odd)))
        odd_skips = even_skips = jnp.zeros((), odd.dtype)
        for i, dilation in enumerate(self.dilations):
            filters = conv(f"odd_dilated_{i}", n, self.kernel_size, dilation, biased=False)(inside(odd))
            gates = self.gates(i, 3 * n, inside(evens(odd, even)), c)
            even_filters, odd_gates, even_gates = jnp.split(gates, 3, axis=-1)
            odd_out = jnp.tanh(filters) * nn.sigmoid(odd_gates)
            even_out = jnp.tanh(even_filters) * nn.sigmoid(even_gates)
            odd = (odd + conv(f"odd_residual_{i}", n, biased=False)(odd_out)) * RESIDUAL_SCALE
            even = (even + conv(f"residual_{i}", n)(even_out)) * RESIDUAL_SCALE
            odd_skips = odd_skips + conv(f"odd_skip_{i}", n, biased=False)(odd_out)
            even_skips = even_skips + conv(f"skip_{i}", n)(even_out)
        even, gate = jnp.split(conv("final", 2 * n)(nn.relu(evens(odd_skips, even_skips))), 2, axis=-1)
        odd = conv("odd_final", n, biased=False)(odd_skips) * nn.sigmoid(gate)
        even = ZeroConv(self.features // 2, self.dtype, name="out")(nn.relu(even))
        odd = ZeroConv(self.features // 2, self.dtype, biased=False, name="odd_out")(odd)
        return jnp.concatenate([odd, even] if self.odd_first else [even, odd], axis=-1).astype(x.dtype)
