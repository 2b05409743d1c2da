"""FloWaveNet: one bijection between audio [B, T, 1] and normal noise of the same shape, given a mel.

Kim et al. 2019, arXiv:1811.02155, section 3; docs/equations.md names the function of each equation.
"""

import math
from fractions import Fraction
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fwn.flows.bijectors import Bijector, chain, fold_time
from fwn.models.blocks import Block, Flow, Prior
from fwn.nn import encoder, upsample
from fwn.nn.odd import OddWaveNet
from fwn.nn.speaker import UNTOLD, SpeakerInput
from fwn.nn.wavenet import WaveNet

Array = jax.Array


class FloWaveNet(nn.Module):
    """forward (x [B, T, 1], mel [B, F, M]) -> (ε [B, T, 1], mel, logdet [B]); inverse (ε, mel) -> (x, mel).

    T = F · Π upsample_strides. mask [B, F, 1]: which *frames* are real. A block works on positions of 2, 4, … 2^n_block
    samples. If they do not divide the hop, the last ones may be partly beyond the sequence: a block leaves the samples
    of such a position as they are, so that the map is one of exactly T samples. Elsewhere nothing changes.
    block_per_split: after every so many blocks, except the last, half of the channels go directly to the output.
    n_block = 0: ε is x. channels, prior_channels: one number, or one for each block. conditioner: "squeezed" (the
    paper's) is the mel at the audio rate, squeezed with x; "frames" is an encoding of the mel at its own rate, with
    conditioner_channels (nn/encoder.py). s_max: smooth bound of |log s|; None: unbounded, as in the paper. odd: -audio
    maps to -noise (nn/odd.py). dtype: of the networks in the couplings; the flow's own state keeps x's type. gradient:
    what the backward pass keeps: "plain", "remat" or "invert" (flows.repeated). speakers: who speaks is in channels
    after the mel's (nn/speaker.py).
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
    dtype: Any = None
    gradient: str = "plain"
    speakers: SpeakerInput = UNTOLD

    @property
    def hop(self) -> int:
        """Audio samples per mel frame."""
        return math.prod(self.upsample_strides)

    @property
    def longest(self) -> int:
        """Samples in a position of the last block."""
        return int(2**self.n_block)

    @property
    def unit(self) -> int:
        """Frames after which positions of all blocks begin with a frame again: windows of audio begin at multiples."""
        return self.longest // math.gcd(self.longest, self.hop)

    @property
    def frames(self) -> bool:
        """Whether the conditioning is at the frame rate."""
        return self.conditioner == "frames"

    @property
    def blocks(self) -> list[Block]:
        """From the first to the last."""
        blocks: list[Block] = []
        channels = 1
        net, of_prior = (OddWaveNet, partial(OddWaveNet, odd_first=True)) if self.odd else (WaveNet, WaveNet)
        for i in range(self.n_block):
            channels *= 2
            shared = {"features": channels, "causal": self.causal, "dtype": self.dtype, "parent": None}
            shared |= {"per_frame": Fraction(self.hop, 2 ** (i + 1)) if self.frames else None}
            own, priors = (c if isinstance(c, int) else c[i] for c in (self.channels, self.prior_channels))
            flow = Flow(net(channels=own, n_layer=self.n_layer, **shared), self.s_max, self.frames, self.odd)
            prior = None
            if (i + 1) % self.block_per_split == 0 and i < self.n_block - 1:
                prior = Prior(of_prior(channels=priors, n_layer=self.prior_layer, **shared), self.s_max)
                channels //= 2
            blocks.append(Block(self.n_flow, flow, prior))
        return blocks

    @property
    def receptive_field(self) -> tuple[int, int]:
        """Mel frames (before, after) its own that a frame of audio depends on, through the noise or the mel.

        Every coupling adds the receptive field of its network at the rate of its block: 12,000 samples in the paper's.
        """
        of_noise = of_c = np.zeros(2, int)
        for i, block in enumerate(self.blocks):
            rate = 2 ** (i + 1)
            # Whole positions of this block, which may begin anywhere in a frame.
            of_noise = of_noise + rate - 1 if self.hop % rate else -(-of_noise // rate) * rate
            for part in [block.flow] * self.n_flow + ([block.prior] if block.prior else []):
                of_x, of_its_c = part.net.receptive_field
                of_its_c = rate * of_its_c + (encoder.between(self.hop, rate) if self.frames else 0)
                of_c = np.maximum(of_c, of_noise + of_its_c)
                of_noise = of_noise + rate * of_x
        if self.frames:
            return encoder.frame_receptive_field(self.hop, of_noise, of_c)
        return upsample.frame_receptive_field(self.upsample_strides, of_noise, of_c)

    @property
    def levels(self) -> tuple[int, ...]:
        """At which split the noise of each sample leaves, 0, 1, …: of the samples of a position of the last block."""
        inside, found = np.arange(self.longest)[None, :, None], np.zeros(self.longest, int)
        for block in self.blocks:
            inside = fold_time(inside)
            if block.prior is not None:
                inside = inside[..., : inside.shape[-1] // 2]
                found[inside.ravel()] += 1
        return tuple(map(int, found))

    @nn.compact
    def conditioned(self, mel: Array, mask: Array | None = None) -> tuple[Array, dict[str, Any]]:
        """The conditioning of all blocks, made of the mel, and the weights of each block by its name.

        For conditioning at the frame rate they have the networks' products with it (Block.hearing).
        """
        if not self.n_block:
            return mel, {}
        conditioner: nn.Module
        if self.frames:
            conditioner = encoder.Encoder(self.conditioner_channels, self.speakers, name="encoder")
        else:
            linear = self.upsample_init == "linear"
            conditioner = upsample.Upsample(
                self.upsample_strides, linear=linear, speakers=self.speakers, name="upsample"
            )
        c = conditioner(mel, mask)
        if not self.frames:
            c = self.padded(c)

        def weights(i: int, block: Block) -> Any:
            c_channels = c.shape[-1] if self.frames else c.shape[-1] << (i + 1)
            return self.variable("params", f"block_{i}", lambda: block.init(self.make_rng("params"), c_channels)).value

        of_blocks = {f"block_{i}": weights(i, block) for i, block in enumerate(self.blocks)}
        if not self.frames:
            return c, of_blocks
        heard = zip(of_blocks.items(), self.blocks, strict=True)
        return c, {name: block.hearing(own, c) for (name, own), block in heard}

    def padded(self, x: Array) -> Array:
        """[B, T, C] with zeros up to a multiple of the longest position."""
        missing = -(-x.shape[1] // self.longest) * self.longest - x.shape[1]  # so it is divisible in a symbolic length
        return jnp.pad(x, ((0, 0), (0, missing), (0, 0))) if missing else x

    def cut(self, x: Array, c: Array) -> tuple[Array, Array]:
        """x [B, T, C] and its conditioning up to the last whole position."""
        length = x.shape[1] // self.longest * self.longest
        return x[:, :length], c if self.frames else c[:, :length]

    def bijector(self, weights: dict[str, Any], mel: Array, mask: Array | None) -> Bijector:
        """All blocks, nested from the last to the first: each contains the blocks after it. Of padded arrays."""
        whole = self.unit == 1
        if mask is not None or not whole:
            real = jnp.ones((*mel.shape[:2], 1), bool) if mask is None else mask
            mask = self.padded(jnp.repeat(real, self.hop, axis=1))
        blocks = chain()
        for i, block in reversed(list(enumerate(self.blocks))):
            rate = 2 ** (i + 1)
            mask_i = None if mask is None else mask[:, rate - 1 :: rate]  # a position is real if its last sample is
            blocks = block.bijector(weights[f"block_{i}"], blocks, mask_i, self.gradient, whole)
        return blocks

    def forward(self, x: Array, mel: Array, mask: Array | None = None) -> tuple[Array, Array, Array]:
        c, weights = self.conditioned(mel, mask)
        z, _, logdet = self.bijector(weights, mel, mask).forward(self.padded(x), c)
        return z[:, : x.shape[1]], mel, logdet

    def inverse(self, z: Array, mel: Array, mask: Array | None = None) -> tuple[Array, Array]:
        c, weights = self.conditioned(mel, mask)
        return self.bijector(weights, mel, mask).inverse(self.padded(z), c)[0][:, : z.shape[1]], mel

    def statistics(self, x: Array, mel: Array) -> dict[str, Any]:
        """ActNorm's weights for a real batch, in a tree like the parameters: its data-dependent initialisation.

        Of whole positions: the samples after the last one, fewer than 2^n_block, are not used.
        """
        c, weights = self.conditioned(mel)
        x, c = self.cut(x, c)
        found = {}
        for (name, own), block in zip(weights.items(), self.blocks, strict=True):
            x, c, found[name] = block.statistics(own, x, c)
        return found
