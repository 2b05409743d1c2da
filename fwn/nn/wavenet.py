"""The WaveNet of couplings, priors and autoregressive models (official code: modules.py, Wavenet and ResBlock)."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fwn.nn.conv import Conv, ZeroConv, receptive_field
from fwn.nn.encoder import extended, interpolate
from fwn.xla.scheduling import apart

Array = jax.Array
RESIDUAL_SCALE = math.sqrt(0.5)


class WaveNet(nn.Module):
    """(x [B, T, C_in], c [B, T, C_c]) -> [B, T, features]: n_stack × n_layer gated residual layers, dilation 2^n.

    c may be at a lower rate, [B, F, C_c]; its products are computed there and interpolated. Or c has these products
    already, for each layer (`conditions`). per_frame: positions per frame of c; None: T / F, a whole number.
    mask [B, T, 1]: every convolution sees zeros outside the sequence, as in its own padding, so that the output inside
    does not depend on the length of the padding. dtype: of all products; the output is in x's type. gate_channels,
    skip_channels: None is `channels`. zero_init: the output is zero at initialisation, for couplings. Otherwise the
    output parametrises a sample of audio, and the last product is in x's type: 8 bits of bfloat16 would hiss.
    """

    features: int
    channels: int = 256
    n_layer: int = 2
    causal: bool = False
    dtype: Any = None
    n_stack: int = 1
    kernel_size: int = 3
    front_kernel: int = 3
    gate_channels: int | None = None
    skip_channels: int | None = None
    zero_init: bool = True
    per_frame: Fraction | None = None

    @property
    def dilations(self) -> tuple[int, ...]:
        """Dilations of all layers, from the first to the last."""
        return tuple(2**n for n in range(self.n_layer)) * self.n_stack

    @property
    def receptive_field(self) -> tuple[np.ndarray, np.ndarray]:
        """(Left, right) receptive field in positions, of x and of c, which enters after the front convolution."""
        layers = [receptive_field(self.kernel_size, dilation, self.causal) for dilation in self.dilations]
        front = receptive_field(self.front_kernel, 1, self.causal)
        return np.sum([front, *layers], axis=0), np.sum([(0, 0), *layers[1:]], axis=0)

    def gates(self, n: int, channels: int, h: Array, c: Any) -> Array:
        """The products of layer n with h and with c, added up."""
        name, length, given = f"dilated_{n}", h.shape[1], isinstance(c, list)
        biased = not given  # `conditions` have the bias
        dilated = Conv(channels, self.kernel_size, self.dilations[n], self.causal, self.dtype, biased, name=name)
        frames = c[n].shape[1] - 2 if given else c.shape[1]
        per_frame = self.per_frame or length // frames
        condition = c[n] if given else Conv(channels, dtype=self.dtype, name=f"condition_{n}")(c)
        if not given and per_frame == 1 and frames == length:
            return apart(dilated(h)) + condition
        condition = condition if given else extended(condition)
        return apart(dilated(h)) + interpolate(condition, per_frame, length=length)

    @nn.compact
    def __call__(self, x: Array, c: Array, mask: Array | None = None) -> Array:
        def conv(name: str, features: int, kernel_size: int = 1) -> Conv:
            return Conv(features, kernel_size, 1, self.causal, self.dtype, name=name)

        def inside(h: Array) -> Array:
            return h if mask is None else jnp.where(mask, h, 0)

        gate_channels, skip_channels = self.gate_channels or self.channels, self.skip_channels or self.channels
        h = relu(conv("front", self.channels, self.front_kernel)(inside(x)))
        skips = jnp.zeros((), h.dtype)
        for n in range(len(self.dilations)):
            # One product for filter and gate. The last residual is unused; jit does not compute it.
            gates = self.gates(n, 2 * gate_channels, inside(h), c)
            out = filter_and_gate(gates)
            h = (h + conv(f"residual_{n}", self.channels)(*out)) * RESIDUAL_SCALE
            skips = skips + conv(f"skip_{n}", skip_channels)(*out)
        h = relu(conv("final", skip_channels)(relu(skips)))
        if self.zero_init:
            return ZeroConv(self.features, self.dtype, name="out")(h).astype(x.dtype)
        return Conv(self.features, name="out")(h.astype(x.dtype))


def conditions(networks: Sequence[Any], c: Array, dtype: Any = None) -> list[list[Array]]:
    """For each network's weights, the products with c [B, F, C_c] of all layers, extended: [B, F + 2, channels].

    They are computed in one product. They have the bias of the layer's other convolution too. dtype: as WaveNet's.
    """
    depth = [sum(name.startswith("condition") for name in net) for net in networks]
    every = [(net, n) for net, n_layer in zip(networks, depth, strict=True) for n in range(n_layer)]
    layers = [(net[f"condition_{n}"], net[f"dilated_{n}"]) for net, n in every]
    kernel = jnp.concatenate([own["kernel"][0] for own, _ in layers], axis=-1)
    bias = jnp.concatenate([own["bias"] + other["bias"] for own, other in layers])
    c, kernel, bias = nn.dtypes.promote_dtype(extended(c), kernel, bias, dtype=dtype)
    ends = np.cumsum([own["bias"].size for own, _ in layers])[:-1]
    parts = iter(jnp.split(c @ kernel + bias, ends, axis=-1))
    return [[next(parts) for _ in range(n_layer)] for n_layer in depth]


def delayed(x: Array, first: Array | None = None) -> Array:
    """x [B, T, C] delayed by one step, after first [B, 1, C] or 0. A causal network of it is autoregressive."""
    return jnp.concatenate([jnp.zeros_like(x[:, :1]) if first is None else first, x[:, :-1]], axis=1)


@jax.custom_vjp
def relu(x: Array) -> Array:
    """max(x, 0). Its gradient keeps the result, which the next product keeps in any case."""
    return jnp.maximum(x, 0)


def _relu_forward(x: Array) -> tuple[Array, Array]:
    y = relu(x)
    return y, y


relu.defvjp(_relu_forward, lambda y, dy: (jnp.where(y > 0, dy, 0),))


def gated(gates: Array) -> Array:
    """tanh(first half of the channels) · sigmoid(second half)."""
    filters, gates = filter_and_gate(gates)
    return filters * gates


@jax.custom_vjp
def filter_and_gate(gates: Array) -> tuple[Array, Array]:
    """The two factors of `gated`. The gradient keeps one array of each; autodiff keeps two."""
    filters, gates = jnp.split(gates, 2, axis=-1)
    return jnp.tanh(filters), nn.sigmoid(gates)


def _kept(gates: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    result = filter_and_gate(gates)
    return result, result


def _filter_and_gate_backward(kept: tuple[Array, Array], changes: tuple[Array, Array]) -> tuple[Array]:
    (filters, gates), (dfilters, dgates) = kept, changes
    return (jnp.concatenate([dfilters * (1 - filters**2), dgates * gates * (1 - gates)], axis=-1),)


filter_and_gate.defvjp(_kept, _filter_and_gate_backward)
