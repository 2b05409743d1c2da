"""Autoregression over blocks: the lowest bands of the excitation are predicted from the mel and the blocks before.

    v_n = DCT(e_n)                              block n of N samples, orthonormal; v_{n,k}: k … k + 1 times rate / 2N
    u_{n,k} = (v_{n,k} - μ_k) exp(-log s_k)     for k < K; the others do not change
    μ, log s = WaveNet(v_1 … v_{n-1}, mel);     μ_n also has the term Σ_{j=1…taps} A_j(mel) v_{n-j, 0…K-1}
    log|det du/dv| = -Σ_n Σ_{k<K} log s_k       exactly: the Jacobian is lower triangular, block by block

The periodicity of a voice lies below a kilohertz: a small part of the likelihood, but most of what is heard as voicing
(docs/prediction.md). A network over blocks sees many periods at little cost, and its inverse takes rate / N steps per
second of audio. A harmonic continues linearly, by matrices that depend on its frequency. The mel has that frequency, so
A is computed from the mel alone.
"""

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.fft import dct, idct

from fwn.flows.bijectors import total
from fwn.models.blocks import bound
from fwn.nn import encoder, incremental
from fwn.nn.conv import Conv, ZeroConv
from fwn.nn.speaker import UNTOLD, SpeakerInput
from fwn.nn.wavenet import WaveNet, delayed

Array = jax.Array
KERNEL, FRONT = 2, 4  # kernel sizes of the network, in blocks
S_MAX = 4.0  # bound of |log s|
WIDTH = 2  # the network for A has WIDTH · channels
LOUDEST = 8.0  # coefficients, with a variance of about 1, are clipped to ±LOUDEST before the network


class Blockwise(nn.Module):
    """forward (e [B, T, 1], mel [B, F, M]) -> (u [B, T, 1], mel, logdet [B]); inverse (u, mel) -> (e, mel).

    T = F · hop; block divides the hop. coefficients: K, at most `block`. taps: blocks in the linear predictor; 0: none.
    At initialisation u = e. mask [B, F, 1]: which *frames* are real. Before e there is silence.
    """

    hop: int
    coefficients: int = 3
    block: int = 16
    channels: int = 64
    n_layer: int = 8
    taps: int = 0
    speakers: SpeakerInput = UNTOLD

    @property
    def receptive_field(self) -> int:
        """Mel frames before and after its own that μ and s of a block depend on."""
        return 2 * (encoder.KERNEL // 2) + 1

    @property
    def heard(self) -> int:
        """Number of samples before its block that a block of u depends on."""
        of_v, _ = self.wavenet.receptive_field
        return self.block * (1 + max(int(of_v[0]), self.taps))

    @property
    def wavenet(self) -> WaveNet:
        """The network alone, without parameters."""
        plain = partial(WaveNet, causal=True, parent=None)
        net = partial(plain, channels=self.channels, n_layer=self.n_layer, kernel_size=KERNEL, front_kernel=FRONT)
        return net(2 * self.coefficients)

    def setup(self) -> None:
        self.encoder = encoder.Encoder(self.channels, self.speakers)
        self.net = self.wavenet.copy(parent=self)
        if self.taps:
            self.linear_in = Conv(WIDTH * self.channels)
            self.linear_out = ZeroConv(self.taps * self.coefficients**2)

    def forward(self, e: Array, mel: Array, mask: Array | None = None) -> tuple[Array, Array, Array]:
        v, c = self._coefficients(e), self.encoder(mel, mask)
        heard = self._heard(v)
        mean, log_s = self._affine(self.net(delayed(heard), c))
        mean = mean + self._predicted(heard, self._matrices(c))
        low, rest = jnp.split(v, [self.coefficients], axis=-1)
        u = jnp.concatenate([(low - mean) * jnp.exp(-log_s), rest], axis=-1)
        real = None if mask is None else jnp.repeat(mask, self.hop // self.block, axis=1)
        return self._samples(u), mel, -total(log_s, real)

    def inverse(self, u: Array, mel: Array, mask: Array | None = None) -> tuple[Array, Array]:
        return self.proceed(u, mel, mask, 0, self.start(u.shape[0], u.dtype))[1], mel

    def cooled(self, u: Array, temperature: Any) -> Array:
        """u [B, T, 1] with the predicted bands, the first `coefficients` of each block, times temperature."""
        v, predicted = self._coefficients(u), jnp.arange(self.block) < self.coefficients
        return self._samples(jnp.where(predicted, temperature * v, v))

    def start(self, batch: int, dtype: Any) -> incremental.State:
        """State before the first block."""
        return incremental.start(self.wavenet, batch, dtype, self.block, self.taps)

    def proceed(
        self, u: Array, mel: Array, mask: Array | None, skip: Any, state: incremental.State
    ) -> tuple[incremental.State, Array]:
        """(state, e) by the inverse of u [B, n · hop, 1] after `state`, for n mel frames from frame `skip` on."""
        a_frame, frames = self.hop // self.block, u.shape[1] // self.hop
        c = self.encoder(mel, mask)
        matrices = lax.dynamic_slice_in_dim(self._matrices(c), skip, frames, axis=1)
        c = encoder.interpolate(encoder.extended(c), a_frame)
        c = lax.dynamic_slice_in_dim(c, skip * a_frame, frames * a_frame, axis=1)
        weights = incremental.pack(self.net, self.variables["params"]["net"])

        def frame(state: incremental.State, inputs: tuple[Array, ...]) -> tuple[incremental.State, Array]:
            c, v, a = inputs

            def draw(theta: Array, u: Array, recent: Array) -> Array:
                mean, log_s = self._affine(theta)
                recent = recent.reshape(u.shape[0], -1, self.block)
                past = recent[:, recent.shape[1] - self.taps :, : self.coefficients].reshape(u.shape[0], -1)
                mean = mean + jnp.einsum("bi,bik->bk", past, a)
                low, rest = jnp.split(u, [self.coefficients], axis=-1)
                return jnp.concatenate([mean + low * jnp.exp(log_s), rest], axis=-1)

            blocks = math.gcd(incremental.BLOCK, a_frame)
            return incremental.generate(self.net, weights, state, c, v, draw, blocks, heard=self._heard)

        def by_frame(a: Array) -> Array:
            """[B, n · blocks, ·] -> [n, B, blocks, ·]."""
            return a.reshape(a.shape[0], frames, a_frame, -1).swapaxes(0, 1)

        inputs = by_frame(c), by_frame(self._coefficients(u)), matrices.swapaxes(0, 1)
        state, v = lax.scan(frame, state, inputs)
        return state, self._samples(v.swapaxes(0, 1).reshape(u.shape[0], -1, self.block))

    def _matrices(self, c: Array) -> Array:
        """A for every frame, [B, F, taps · K, K], the oldest block first; empty without taps."""
        a = self.linear_out(nn.gelu(self.linear_in(c))) if self.taps else c[..., :0]
        return a.reshape(*c.shape[:2], self.taps * self.coefficients, self.coefficients)

    def _predicted(self, heard: Array, matrices: Array) -> Array:
        """Σ_j A_j v_{n-j} for all blocks, [B, n, K], from the clipped coefficients and the matrices of each frame."""
        a_frame, k = self.hop // self.block, self.coefficients
        batch, n, _ = heard.shape
        before = -(-self.taps // a_frame)  # frames that the taps reach back
        frames = jnp.pad(heard[..., :k], ((0, 0), (before * a_frame, 0), (0, 0))).reshape(batch, -1, a_frame, k)
        n_frame = n // a_frame
        spans = jnp.concatenate([frames[:, i : i + n_frame] for i in range(before + 1)], axis=2)

        def block(i: int) -> Array:
            """The i-th block of every frame."""
            end = before * a_frame + i
            past = spans[:, :, end - self.taps : end].reshape(batch, n_frame, -1)
            return jnp.einsum("bfi,bfik->bfk", past, matrices)

        return jnp.stack([block(i) for i in range(a_frame)], axis=2).reshape(batch, n, k)

    def _affine(self, theta: Array) -> tuple[Array, Array]:
        mean, log_s = jnp.split(theta, 2, axis=-1)
        return mean, bound(log_s, S_MAX)

    def _heard(self, v: Array) -> Array:
        return jnp.clip(v, -LOUDEST, LOUDEST)

    def _coefficients(self, e: Array) -> Array:
        """[B, T, 1] -> [B, T / N, N]."""
        return dct(e.reshape(e.shape[0], -1, self.block), norm="ortho")

    def _samples(self, v: Array) -> Array:
        return idct(v, norm="ortho").reshape(v.shape[0], -1, 1)
