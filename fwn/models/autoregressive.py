"""The autoregressive WaveNet: p(x | mel) = Π_t p(x_t | x_<t, c), in parallel where x is known, else sample by sample.

Official code: ksw0306/ClariNet, wavenet.py. There the network's result at t is of x_{t+1}; here x is shifted before the
network instead, so that the result at t is of x_t, the first sample included, and c_t is what it was conditioned on
(as in the official `generate`; the official training loss has c one sample late).
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
from fwn.nn.upsample import Upsample, frame_receptive_field
from fwn.nn.wavenet import WaveNet, delayed

Array = jax.Array


class Autoregressive(nn.Module):
    """(x [B, T, 1], mel [B, F, M]) -> θ [B, T, features]: the parameters of p(x_t | x_<t, c) at every t.

    wavenet: a causal network, without parameters. T = F · Π upsample_strides. mask [B, F, 1]: which *frames* are real.
    As the network is causal, only the upsampling could see the padding behind them.
    """

    wavenet: WaveNet
    upsample_strides: tuple[int, ...]

    @property
    def hop(self) -> int:
        """Audio samples a mel frame."""
        return math.prod(self.upsample_strides)

    @property
    def receptive_field(self) -> tuple[int, int]:
        """Mel frames (before, after) its own that the conditioning of a frame is of."""
        return frame_receptive_field(self.upsample_strides, np.zeros(2, int), np.zeros(2, int))

    def setup(self) -> None:
        self.upsample = Upsample(self.upsample_strides)
        self.net = self.wavenet.copy(parent=self, name=None)

    def condition(self, mel: Array, mask: Array | None = None) -> Array:
        """mel [B, F, M] -> c [B, T, M], at the rate of audio."""
        return self.upsample(mel, mask)

    def predict(self, x: Array, c: Array) -> Array:
        """θ [B, T, features] for audio x [B, T, 1] that is known."""
        return self.net(delayed(x), c)

    def __call__(self, x: Array, mel: Array, mask: Array | None = None) -> Array:
        return self.predict(x, self.condition(mel, mask))


def from_fields(
    distribution: str, upsample_strides: tuple[int, ...] = (16, 16), **fields: Any
) -> tuple[Distribution, Autoregressive]:
    """(distribution, model). distribution: a name of densities.DISTRIBUTIONS; fields: WaveNet's."""
    said = DISTRIBUTIONS[distribution]()
    net = WaveNet(said.features, causal=True, zero_init=False, parent=None, **fields)
    return said, Autoregressive(net, tuple(upsample_strides))


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

    draw: (θ [B, features], noise [B, N]) -> x [B]. mask: as the model's. block: as in nn/incremental.py, a divisor of
    the hop; the result does not depend on it.
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
    """Continues `state` by audio [B, T] of the T / hop frames of mel from `skip` on; state None: begins.

    T is that of the noise. Other frames of mel are heard by the upsampling alone. The other arguments as of `sample`.
    """
    c: Any = model.apply({"params": params}, mel, mask, method="condition")
    c = lax.dynamic_slice_in_dim(c, skip * model.hop, noise.shape[1], axis=1)
    weights = incremental.pack(model.wavenet, params["net"])
    state = incremental.start(model.wavenet, len(mel), c.dtype) if state is None else state
    return incremental.generate(
        model.wavenet, weights, state, c, noise, draw, block or math.gcd(incremental.BLOCK, model.hop)
    )
