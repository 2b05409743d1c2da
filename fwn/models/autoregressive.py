"""The autoregressive WaveNet: p(x | mel) = Π_t p(x_t | x_<t, c), in parallel where x is known, else sample by sample.

Official code: ksw0306/ClariNet, wavenet.py. There the network's output at t belongs to x_{t+1}. Here x is delayed
before the network instead, so that the output at t belongs to x_t, from the first sample on, and is conditioned on c_t,
as in the official `generate` (in the official training loss c is one sample late).
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import lax

from fwn.flows.densities import DISTRIBUTIONS, Distribution
from fwn.nn import incremental
from fwn.nn.speaker import UNTOLD, SpeakerInput
from fwn.nn.upsample import Upsample, frame_receptive_field
from fwn.nn.wavenet import WaveNet, delayed

Array = jax.Array


class Autoregressive(nn.Module):
    """(x [B, T, 1], mel [B, F, M]) -> θ [B, T, features]: the parameters of p(x_t | x_<t, c) at every t.

    wavenet: a causal network, without parameters. T = F · Π upsample_strides. mask [B, F, 1]: which *frames* are real.
    As the network is causal, only the upsampling could see the padding behind them. speakers: who speaks is in channels
    after the mel's (nn/speaker.py).
    """

    wavenet: WaveNet
    upsample_strides: tuple[int, ...]
    speakers: SpeakerInput = UNTOLD

    @property
    def hop(self) -> int:
        """Audio samples per mel frame."""
        return math.prod(self.upsample_strides)

    @property
    def receptive_field(self) -> tuple[int, int]:
        """Mel frames (before, after) its own that the conditioning of a frame depends on."""
        return frame_receptive_field(self.upsample_strides, np.zeros(2, int), np.zeros(2, int))

    def setup(self) -> None:
        self.upsample = Upsample(self.upsample_strides, speakers=self.speakers)
        self.net = self.wavenet.copy(parent=self, name=None)

    def condition(self, mel: Array, mask: Array | None = None) -> Array:
        """mel [B, F, M] -> c [B, T, M] at the audio rate."""
        return self.upsample(mel, mask)

    def predict(self, x: Array, c: Array) -> Array:
        """θ [B, T, features] for known audio x [B, T, 1], in parallel."""
        return self.net(delayed(x), c)

    def __call__(self, x: Array, mel: Array, mask: Array | None = None) -> Array:
        return self.predict(x, self.condition(mel, mask))


def from_fields(
    distribution: str,
    upsample_strides: tuple[int, ...] = (16, 16),
    speakers: SpeakerInput = UNTOLD,
    **fields: Any,
) -> tuple[Distribution, Autoregressive]:
    """(distribution, model). distribution: a name of densities.DISTRIBUTIONS. fields: WaveNet's, all of them."""
    said = DISTRIBUTIONS[distribution]()
    net = WaveNet(said.features, causal=True, zero_init=False, parent=None, **fields)
    return said, Autoregressive(net, tuple(upsample_strides), speakers)


def sample(
    model: Autoregressive,
    params: Any,
    mel: Array,
    noise: Array,
    draw: Callable[[Array, Array], Array],
    mask: Array | None = None,
    block: int | None = None,
) -> Array:
    """Audio [B, T] from mel [B, F, M] and noise [B, T, N], sample by sample.

    draw: (θ [B, features], noise [B, N]) -> x [B]. mask: as in the model. block: as in nn/incremental.py, a divisor of
    the hop; it does not change the result.
    """
    return proceed(model, params, mel, noise, draw, mask, 0, None, block)[1]


def proceed(
    model: Autoregressive,
    params: Any,
    mel: Array,
    noise: Array,
    draw: Callable[[Array, Array], Array],
    mask: Array | None,
    skip: Any,
    state: incremental.State | None,
    block: int | None = None,
) -> tuple[incremental.State, Array]:
    """(state, audio [B, T]) for T / hop frames of mel, from frame `skip` on, after `state`; state None: from the start.

    T is the length of the noise. Only the upsampling uses the other frames of mel. Other arguments as in `sample`.
    """
    c: Any = model.apply({"params": params}, mel, mask, method="condition")
    c = lax.dynamic_slice_in_dim(c, skip * model.hop, noise.shape[1], axis=1)
    weights = incremental.pack(model.wavenet, params["net"])
    state = incremental.start(model.wavenet, mel.shape[0], c.dtype) if state is None else state
    return incremental.generate(
        model.wavenet, weights, state, c, noise, draw, block or math.gcd(incremental.BLOCK, model.hop)
    )
