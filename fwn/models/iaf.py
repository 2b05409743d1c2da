"""Inverse autoregressive flows: noise to audio in one parallel pass (Kingma et al. 2016; ClariNet, section 3.2).

Official code: ksw0306/ClariNet, wavenet_iaf.py. There a flow's output at t belongs to sample t + 1, so the first sample
is lost (it is 0) and the mel is one sample late. Here the noise is delayed before the network instead, as audio is in
models/autoregressive.py, so sample t depends on the noise before t and on c_t, from the first sample on.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fwn.nn import incremental
from fwn.nn.speaker import UNTOLD, SpeakerInput
from fwn.nn.upsample import Upsample, frame_receptive_field
from fwn.nn.wavenet import WaveNet, delayed

Array = jax.Array


class IAF(nn.Module):
    """One flow for each entry of `stacks`: a copy of `wavenet` with that many stacks of layers gives its (mu, log_s).

    wavenet: a causal network, without parameters. The upsampling is the teacher's, which does not learn here (ClariNet,
    section 3.3), with its speakers.
    """

    wavenet: WaveNet
    stacks: tuple[int, ...]
    upsample_strides: tuple[int, ...]
    speakers: SpeakerInput = UNTOLD

    @property
    def hop(self) -> int:
        """Audio samples per mel frame."""
        return math.prod(self.upsample_strides)

    @property
    def receptive_field(self) -> tuple[int, int]:
        """Mel frames (before, after) its own that a frame of audio depends on, through the noise or the mel."""
        of_noise = of_c = np.zeros(2, int)
        for net in reversed(self.wavenets):
            of_x, of_its_c = net.receptive_field
            of_c = np.maximum(of_c, of_noise + of_its_c)
            of_noise = of_noise + of_x + (1, 0)  # the net sees its x one sample late
        return frame_receptive_field(self.upsample_strides, of_noise, of_c)

    @property
    def wavenets(self) -> list[WaveNet]:
        """The networks of the flows, without parameters, in the order of sampling."""
        return [self.wavenet.clone(n_stack=n, parent=None) for n in self.stacks]

    def setup(self) -> None:
        self.upsample = Upsample(self.upsample_strides, speakers=self.speakers)
        self.flows = [net.copy(parent=None) for net in self.wavenets]

    def condition(self, mel: Array, mask: Array | None = None) -> Array:
        """mel [B, F, M] -> c [B, T, M] at the audio rate. No gradient reaches the upsampling."""
        return jax.lax.stop_gradient(self.upsample(mel, mask))

    def __call__(self, z: Array, c: Array, first: Array | None = None) -> tuple[Array, Array, Array]:
        """Noise z [B, T, 1], c [B, T, M] -> (x, mu, log_s), all [B, T, 1], with x = mu + exp(log_s) · z.

        mu_t and log_s_t depend only on z before t. first [B, 1, 1]: the sample before z_0; None: 0.
        """
        x, mu, log_s = z, jnp.zeros_like(z), jnp.zeros_like(z)
        for net in self.flows:
            m, s = jnp.split(net(delayed(x, first), c), 2, axis=-1)
            x, mu, log_s, first = m + jnp.exp(s) * x, m + jnp.exp(s) * mu, log_s + s, None
        return x, mu, log_s


def from_fields(
    stacks: tuple[int, ...] = (1, 1, 1, 1, 1, 1),
    upsample_strides: tuple[int, ...] = (16, 16),
    speakers: SpeakerInput = UNTOLD,
    **fields: Any,
) -> IAF:
    """fields: WaveNet's, of every flow's network."""
    net = WaveNet(2, causal=True, zero_init=False, parent=None, **fields)
    return IAF(net, tuple(stacks), tuple(upsample_strides), speakers)


def to_noise(model: IAF, params: Any, x: Array, c: Array, block: int | None = None) -> Array:
    """The inverse of IAF.__call__: audio x [B, T] -> its noise z [B, T], sample by sample, the last flow first.

    block: as in nn/incremental.py; it does not change the result.
    """

    def undo(theta: Array, x: Array) -> Array:
        return (x[..., 0] - theta[..., 0]) * jnp.exp(-theta[..., 1])

    for i, net in reversed(list(enumerate(model.wavenets))):
        weights, state = incremental.pack(net, params[f"flows_{i}"]), incremental.start(net, len(x), c.dtype)
        x = incremental.generate(
            net, weights, state, c, x[..., None], undo, block or math.gcd(incremental.BLOCK, model.hop)
        )[1]
    return x
