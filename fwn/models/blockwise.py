"""Autoregression over blocks: the lowest bands of excitation, from the mel and from the blocks before.

    v_n = DCT(e_n)                              block n of N samples, orthonormal; v_{n,k}: k … k + 1 times rate / 2N
    u_{n,k} = (v_{n,k} - μ_k) exp(-log s_k)     for k < K; the others stay as they are
    μ, log s = WaveNet(v_1 … v_{n-1}, mel)
    log|det du/dv| = -Σ_n Σ_{k<K} log s_k       exactly: the Jacobian is lower triangular, block by block

A voice's periodicity lies below a kilohertz: a small part of the likelihood, and most of what is heard of voicing
(docs/prediction.md). A network of blocks sees many periods for little, and its inverse takes rate / N steps a second.
"""

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.fft import dct, idct

from fwn.bijectors import total
from fwn.models.blocks import bound
from fwn.nn import encoder, incremental
from fwn.nn.wavenet import WaveNet, delayed

Array = jax.Array
KERNEL, FRONT = 2, 4  # blocks, of the network's convolutions
S_MAX = 4.0  # of |log s|
LOUDEST = 8.0  # what the network hears of a coefficient, whose variance is about 1


class Blockwise(nn.Module):
    """forward (e [B, T, 1], mel [B, F, M]) -> (u [B, T, 1], mel, logdet [B]); inverse (u, mel) -> (e, mel).

    T = F · hop; block divides the hop. coefficients: K, of the `block` that there are. At first u is e. mask [B, F, 1]:
    which *frames* are real. Before e there is silence.
    """

    hop: int
    coefficients: int = 3
    block: int = 16
    channels: int = 64
    n_layer: int = 8

    @property
    def reach(self) -> int:
        """Mel frames before and after its own that a block's μ and s are of."""
        return 2 * (encoder.KERNEL // 2) + 1

    @property
    def wavenet(self) -> WaveNet:
        """The network alone, without parameters."""
        plain = partial(WaveNet, causal=True, weight_norm=False, parent=None)
        net = partial(plain, channels=self.channels, n_layer=self.n_layer, kernel_size=KERNEL, front_kernel=FRONT)
        return net(2 * self.coefficients)

    def setup(self) -> None:
        self.encoder = encoder.Encoder(self.channels, weight_norm=False)
        self.net = self.wavenet.copy(parent=self)

    def forward(self, e: Array, mel: Array, mask: Array | None = None) -> tuple[Array, Array, Array]:
        v = self._coefficients(e)
        mean, log_s = self._affine(self.net(delayed(self._heard(v)), self.encoder(mel, mask)))
        low, rest = jnp.split(v, [self.coefficients], axis=-1)
        u = jnp.concatenate([(low - mean) * jnp.exp(-log_s), rest], axis=-1)
        real = None if mask is None else jnp.repeat(mask, self.hop // self.block, axis=1)
        return self._samples(u), mel, -total(log_s, real)

    def inverse(self, u: Array, mel: Array, mask: Array | None = None) -> tuple[Array, Array]:
        return self.proceed(u, mel, mask, 0, self.start(len(u), u.dtype))[1], mel

    def start(self, batch: int, dtype: Any) -> incremental.State:
        """The state before the first block."""
        return incremental.start(self.wavenet, batch, dtype, self.block)

    def proceed(
        self, u: Array, mel: Array, mask: Array | None, skip: Any, state: incremental.State
    ) -> tuple[incremental.State, Array]:
        """Continues `state` by the inverse of u [B, n · hop, 1], of the mel's frames from `skip` on."""
        a_frame = self.hop // self.block
        c = encoder.interpolate(self.encoder(mel, mask), a_frame)
        c = lax.dynamic_slice_in_dim(c, skip * a_frame, u.shape[1] // self.block, axis=1)
        weights = incremental.pack(self.net, self.variables["params"]["net"])

        def draw(theta: Array, u: Array) -> Array:
            mean, log_s = self._affine(theta)
            low, rest = jnp.split(u, [self.coefficients], axis=-1)
            return jnp.concatenate([mean + low * jnp.exp(log_s), rest], axis=-1)

        blocks = math.gcd(incremental.BLOCK, a_frame)
        state, v = incremental.generate(
            self.net, weights, state, c, self._coefficients(u), draw, blocks, heard=self._heard
        )
        return state, self._samples(v)

    def _affine(self, theta: Array) -> tuple[Array, Array]:
        mean, log_s = jnp.split(theta, 2, axis=-1)
        return mean, bound(log_s, S_MAX)

    def _heard(self, v: Array) -> Array:
        return jnp.clip(v, -LOUDEST, LOUDEST)

    def _coefficients(self, e: Array) -> Array:
        """[B, T, 1] -> [B, T / N, N]."""
        return dct(e.reshape(len(e), -1, self.block), norm="ortho")

    def _samples(self, v: Array) -> Array:
        return idct(v, norm="ortho").reshape(len(v), -1, 1)
