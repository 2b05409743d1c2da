"""FloWaveNet: one bijection between audio [B, T, 1] and normal noise of the same shape, given a mel.

Kim et al. 2019, arXiv:1811.02155, section 3; docs/equations.md names the function of each equation.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fwn.flows.bijectors import Bijector, chain, change_order_of_c
from fwn.flows.layers import Layer, recomputed
from fwn.models.blocks import UNSQUEEZE, Block, Reversible, fixed, on_first_half_of
from fwn.nn import encoder, upsample
from fwn.nn.odd import OddWaveNet
from fwn.nn.wavenet import WaveNet

Array = jax.Array


class FloWaveNet(Reversible):
    """forward (x [B, T, 1], mel [B, F, M]) -> (ε [B, T, 1], mel, logdet [B]); inverse (ε, mel) -> (x, mel).

    T = F · Π upsample_strides, a multiple of 2^n_block. mask [B, F, 1]: which *frames* are real. Half of the channels
    leave after every `block_per_split` blocks, never after the last. n_block = 0: no flow, ε is x. channels,
    prior_channels: of all blocks, or of each. conditioner: "squeezed", the paper's, is the mel at the audio rate,
    squeezed as x is; "frames" is made of the mel at its own rate, conditioner_channels wide (nn/encoder.py). s_max
    bounds |log s| smoothly; None is the paper's unbounded form. odd: the model of -audio and -noise is minus that of
    audio and noise (nn/odd.py). dtype: of the networks inside the couplings; the flow's own state keeps x's type.
    gradient: how the backward pass gets at what the networks computed: "plain" keeps it, "remat" and "invert" compute
    it again (flows.layers.recomputed).
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
    odd: bool = False
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
        net, of_prior = (OddWaveNet, partial(OddWaveNet, odd_first=True)) if self.odd else (WaveNet, WaveNet)
        prior = partial(of_prior, channels=priors, n_layer=self.prior_layer, **shared)
        return partial(net, channels=own, n_layer=self.n_layer, **shared), prior if splits else None

    @property
    def receptive_field(self) -> tuple[int, int]:
        """Mel frames (before, after) its own that a frame of audio is of, by way of the noise or of the mel.

        Every coupling adds the reach of its net, at the rate of its block: twelve thousand samples in the paper's.
        """
        of_noise = of_c = np.zeros(2, int)
        for i in range(self.n_block):
            flow, prior = self.nets(i)
            rate = 2 ** (i + 1)
            of_noise = -(-of_noise // rate) * rate  # whole positions of this block
            for net in [flow] * self.n_flow + ([prior] if prior else []):
                of_x, of_its_c = net(2, parent=None).receptive_field
                of_its_c = rate * of_its_c + (encoder.between(self.hop, rate) if self.frames else 0)
                of_c = np.maximum(of_c, of_noise + of_its_c)
                of_noise = of_noise + rate * of_x
        if self.frames:
            return encoder.frame_receptive_field(self.hop, of_noise, of_c)
        return upsample.frame_receptive_field(self.upsample_strides, of_noise, of_c)

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
            block = Block(self.n_flow, flow_net, prior_net, self.s_max, self.frames, self.odd, name=f"block_{i}")
            rest = [on_first_half_of(layer) for layer in layers] if prior_net else layers
            mask_i = None if mask is None else mask[:, :: 2 ** (i + 1)]
            layers = [*block.layers(mask_i), *rest, *swapped_back, UNSQUEEZE[self.frames]]
        if not layers:
            return []
        plain = self.gradient == "plain" or self.is_mutable_collection("params")
        flow = chain(*layers) if plain else recomputed(layers, invert=self.gradient == "invert")
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
