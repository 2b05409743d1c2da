"""FloWaveNet: one bijection between audio [B, T, 1] and normal noise of the same shape, given a mel.

Kim et al. 2019, arXiv:1811.02155, section 3; docs/equations.md names the function of each equation.

Every module has `forward` and `inverse` with a Bijector's signature, and one compact method that lists its bijectors:
the two directions are the same list of layers folded both ways.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fwn.bijectors import (
    Bijector,
    Layer,
    actnorm,
    actnorm_statistics,
    chain,
    change_order,
    change_order_of_c,
    change_order_of_x,
    coupling,
    halves,
    on_first_half,
    recomputed,
    squeeze,
    squeeze_of_x,
    unsqueeze,
    unsqueeze_of_x,
)
from fwn.nn import encoder, upsample
from fwn.nn.wavenet import WaveNet

Array = jax.Array


def bound(log_s: Array, s_max: float | None) -> Array:
    """s_max · tanh(log_s / s_max), or log_s itself without a bound (the paper's form)."""
    return log_s if s_max is None else s_max * jnp.tanh(log_s / s_max)


def fixed(b: Bijector) -> Layer:
    """A bijector without weights, as a layer."""
    return Layer(lambda *_: [b])


# By whether c is at the frame rate.
SQUEEZE, UNSQUEEZE = (fixed(squeeze), fixed(squeeze_of_x)), (fixed(unsqueeze), fixed(unsqueeze_of_x))


def on_first_halves(layer: Layer) -> Layer:
    """on_first_half of each of a layer's bijectors; a squeeze may take both halves, as they stay apart in it."""
    if layer in SQUEEZE + UNSQUEEZE:
        return layer

    def of(weights: Any, mask: Array | None, x: Array) -> Sequence[Bijector]:
        return [on_first_half(b) for b in layer.of(weights, mask, halves(x)[0])]

    return layer._replace(of=of)


class Reversible(nn.Module):
    """A module whose compact `parts(x, mask)` are its bijectors; x is its input, ActNorm's data at `init`."""

    def forward(self, x: Array, c: Array, mask: Array | None = None) -> tuple[Array, Array, Array]:
        return chain(*self.parts(x, mask)).forward(x, c)

    def inverse(self, z: Array, c: Array, mask: Array | None = None) -> tuple[Array, Array]:
        return chain(*self.parts(z, mask)).inverse(z, c)

    def layer(self, mask: Array | None) -> Layer:
        """This module, inside another, as a Layer; at `init`, which makes the weights, they are none of its own."""
        if self.is_mutable_collection("params"):
            bound = Bijector(partial(self.forward, mask=mask), partial(self.inverse, mask=mask))
            return Layer(lambda *_: [bound])
        alone, weights = self.unbind()
        return Layer(lambda weights, mask, x: alone.bind(weights).parts(x, mask), weights, mask)


class Flow(Reversible):
    """ActNorm -> affine coupling -> change order. The net sees the first halves of x and of c.

    frames: c is at the frame rate. The net hears all of it, and its order stays.
    """

    net: Callable[..., WaveNet]
    s_max: float | None = None
    frames: bool = False

    @nn.compact
    def parts(self, x: Array, mask: Array | None) -> Sequence[Any]:
        normal = self.param("actnorm", lambda _: dict(zip(("loc", "scale"), actnorm_statistics(x), strict=True)))
        net = self.net(features=x.shape[-1], name="net")

        def shift_and_scale(x_a: Array, c: Array) -> tuple[Array, Array]:
            log_s, t = halves(net(x_a, c if self.frames else halves(c)[0], mask))
            return bound(log_s, self.s_max), t

        order = change_order_of_x if self.frames else change_order
        return actnorm(normal["loc"], normal["scale"], mask), coupling(shift_and_scale, mask), order


class Prior(Reversible):
    """ε = (z - μ) / σ for the half that leaves; (μ, log σ) from the half that stays and all of c."""

    net: Callable[..., WaveNet]
    s_max: float | None = None

    @nn.compact
    def parts(self, x: Array, mask: Array | None) -> Sequence[Any]:
        net = self.net(features=x.shape[-1], name="net")

        def shift_and_scale(x_a: Array, c: Array) -> tuple[Array, Array]:
            mean, log_sd = halves(net(x_a, c, mask))
            return bound(log_sd, self.s_max), mean

        return [coupling(shift_and_scale, mask)]


class Block(Reversible):
    """squeeze -> flows [-> prior]: [B, T, C] -> [B, T/2, 2C]. mask is at the squeezed rate."""

    n_flow: int
    net: Callable[..., WaveNet]
    prior: Callable[..., WaveNet] | None = None
    s_max: float | None = None
    frames: bool = False

    @nn.compact
    def layers(self, mask: Array | None) -> list[Layer]:
        flow = partial(Flow, self.net, self.s_max, self.frames)
        modules: list[Reversible] = [flow(name=f"flow_{i}") for i in range(self.n_flow)]
        if self.prior is not None:
            modules += [Prior(self.prior, self.s_max, name="prior")]
        return [SQUEEZE[self.frames], *[module.layer(mask) for module in modules]]

    def parts(self, x: Array, mask: Array | None) -> Sequence[Any]:
        return self.layers(mask)


class FloWaveNet(Reversible):
    """forward (x [B, T, 1], mel [B, F, M]) -> (ε [B, T, 1], mel, logdet [B]); inverse (ε, mel) -> (x, mel).

    T = F · Π upsample_strides, a multiple of 2^n_block. mask [B, F, 1]: which *frames* are real. Half of the channels
    leave after every `block_per_split` blocks, never after the last. channels, prior_channels: of all blocks, or of
    each. conditioner: "squeezed", the paper's, is the mel at the audio rate, squeezed as x is; "frames" is made of the
    mel at its own rate, conditioner_channels wide (nn/encoder.py). s_max bounds |log s| smoothly; None is the paper's
    unbounded form. dtype: of the networks inside the couplings; the flow's own state keeps x's type. gradient: how the
    backward pass gets at what the networks computed: "plain" keeps it, "remat" and "invert" compute it again
    (bijectors.recomputed).
    """

    n_block: int = 8
    n_flow: int = 6
    n_layer: int = 2
    channels: int | tuple[int, ...] = 256
    block_per_split: int = 4
    prior_layer: int = 2
    prior_channels: int | tuple[int, ...] = 256
    conditioner: str = "squeezed"
    conditioner_channels: int = 64
    upsample_strides: tuple[int, ...] = (16, 16)
    upsample_init: str = "random"
    causal: bool = False
    s_max: float | None = None
    weight_norm: bool = True
    dtype: Any = None
    gradient: str = "plain"

    @property
    def hop(self) -> int:
        """Audio samples a mel frame."""
        return math.prod(self.upsample_strides)

    @property
    def frames(self) -> bool:
        """Whether the networks are conditioned at the frame rate."""
        return self.conditioner == "frames"

    def nets(self, block: int) -> tuple[Callable[..., WaveNet], Callable[..., WaveNet] | None]:
        """Of the flows of a block, and of its prior where it has one."""
        shared = {"causal": self.causal, "weight_norm": self.weight_norm, "dtype": self.dtype}
        splits = (block + 1) % self.block_per_split == 0 and block < self.n_block - 1
        own, priors = (c if isinstance(c, int) else c[block] for c in (self.channels, self.prior_channels))
        prior = partial(WaveNet, channels=priors, n_layer=self.prior_layer, **shared)
        return partial(WaveNet, channels=own, n_layer=self.n_layer, **shared), prior if splits else None

    @property
    def halo(self) -> tuple[int, int]:
        """Mel frames (before, after) its own that a frame of audio is of, by way of the noise or of the mel.

        Every coupling adds the reach of its net, at the rate of its block: twelve thousand samples in the paper's.
        """
        of_noise = of_c = np.zeros(2, int)
        for i in range(self.n_block):
            flow, prior = self.nets(i)
            rate = 2 ** (i + 1)
            of_noise = -(-of_noise // rate) * rate  # whole positions of this block
            for net in [flow] * self.n_flow + ([prior] if prior else []):
                of_x, of_its_c = net(2, parent=None).reach
                of_its_c = rate * of_its_c + (encoder.between(self.hop, rate) if self.frames else 0)
                of_c = np.maximum(of_c, of_noise + of_its_c)
                of_noise = of_noise + rate * of_x
        if self.frames:
            return encoder.halo(self.hop, of_noise, of_c)
        return upsample.halo(self.upsample_strides, of_noise, of_c)

    @nn.compact
    def parts(self, x: Array, mask: Array | None) -> Sequence[Any]:
        """From the deepest level outwards: block -> the rest, on half of the channels after a split -> unsqueeze.

        One list of layers without nesting, so that a gradient can go back through it layer by layer. Undoing the
        squeeze keeps noise and audio in one layout, the official `reverse`'s. An odd number of flows leaves the halves
        of c swapped; they are swapped back after the rest, so that c' = c (the official `reverse` does not, and is
        then no inverse of its `forward`).
        """
        frames = mask
        mask = None if mask is None else jnp.repeat(mask, self.hop, axis=1)
        swapped_back = [] if self.frames else [fixed(change_order_of_c)] * (self.n_flow % 2)
        layers: list[Layer] = []
        for i in reversed(range(self.n_block)):
            flow_net, prior_net = self.nets(i)
            block = Block(self.n_flow, flow_net, prior_net, self.s_max, self.frames, name=f"block_{i}")
            rest = [on_first_halves(layer) for layer in layers] if prior_net else layers
            mask_i = None if mask is None else mask[:, :: 2 ** (i + 1)]
            layers = [*block.layers(mask_i), *rest, *swapped_back, UNSQUEEZE[self.frames]]
        flow = chain(*layers) if self.gradient == "plain" else recomputed(layers, invert=self.gradient == "invert")
        conditioner: nn.Module
        if self.frames:
            conditioner = encoder.Encoder(self.conditioner_channels, self.weight_norm, name="encoder")
        else:
            linear = self.upsample_init == "linear"
            stretch = partial(upsample.Upsample, weight_norm=self.weight_norm, linear=linear)
            conditioner = stretch(self.upsample_strides, name="upsample")

        def forward(x: Array, mel: Array) -> tuple[Array, Array, Array]:
            z, _, logdet = flow.forward(x, conditioner(mel, frames))
            return z, mel, logdet

        def inverse(z: Array, mel: Array) -> tuple[Array, Array]:
            return flow.inverse(z, conditioner(mel, frames))[0], mel

        return [Bijector(forward, inverse)]
