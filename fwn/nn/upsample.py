"""Mel frames to the audio rate by learned transposed convolutions (official code: model.py, Flowavenet.upsample)."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fwn.nn.conv import uniform
from fwn.nn.speaker import UNTOLD, SpeakerBias, SpeakerInput
from fwn.xla.platform import gradient, on_gpu

Array = jax.Array


def frame_receptive_field(strides: tuple[int, ...], of_noise: np.ndarray, of_c: np.ndarray) -> tuple[int, int]:
    """Receptive field of a frame of audio in mel frames (before, after).

    of_noise, of_c: receptive fields (before, after) in samples, of the noise and of c. A stage's output at a position
    depends on inputs within stride / 2 of it.
    """
    hop = math.prod(strides)
    rates = [math.prod(strides[i + 1 :]) for i in range(len(strides))]
    of_mel = of_c + np.sum([((s - s // 2) * r, s // 2 * r) for s, r in zip(strides, rates, strict=True)], axis=0)
    before, after = -(-np.maximum(of_noise, of_mel) // hop)
    return int(before), int(after)


def interpolation(key: Array, shape: tuple[int, ...]) -> Array:
    """An initialiser: linear interpolation between frames, without mixing mel bands."""
    stride = shape[1] // 2
    triangle = 1 - jnp.abs(jnp.arange(2 * stride) - (stride - 0.5)) / stride
    return jnp.zeros(shape).at[1, :, 0].set(triangle)


class Stretch(nn.Module):
    """A transposed convolution over (time, mel): [B, T, M] -> [B, stride · T, M].

    PyTorch's ConvTranspose2d(1, 1, (3, 2·stride), stride=(1, stride), padding=(1, stride / 2)), computed as `stride`
    ordinary 3 × 3 filters, since an output sees only the frames t - 1, t, t + 1. kernel [3 (mel), 2·stride (time), 1].
    """

    stride: int
    linear: bool = False

    @nn.compact
    def __call__(self, c: Array) -> Array:
        s = self.stride
        bound = 1 / math.sqrt(3 * 2 * s)
        kernel = self.param("kernel", interpolation if self.linear else uniform(bound), (3, 2 * s, 1))
        bias = self.param("bias", nn.initializers.zeros if self.linear else uniform(bound), (1,))
        # out[t·stride + p] = Σ_i in[i] · k[(t - i)·stride + p + stride / 2]; phases [mel, i - t + 1, p]
        phases = jnp.pad(kernel[::-1, :, 0], ((0, 0), (s // 2, s - s // 2))).reshape(3, 3, s)[:, ::-1]
        c, phases, bias = nn.dtypes.promote_dtype(c, phases, bias)
        return _stretched(c, phases) + bias


@jax.custom_vjp
def _stretched(c: Array, phases: Array) -> Array:
    """c [B, T, M], phases [3 (mel), 3 (time), stride] -> [B, stride · T, M]."""
    result: Array = on_gpu(_as_sums, _as_convolution, c, phases)
    return result


def _gradients(kept: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    result: tuple[Array, Array] = on_gpu(gradient(_as_sums), gradient(_as_convolution), *kept, dy)
    return result


_stretched.defvjp(lambda c, phases: (_stretched(c, phases), (c, phases)), _gradients)


def _as_convolution(c: Array, phases: Array) -> Array:
    """`_stretched` as one convolution."""
    dims = ("NWHC", "HWIO", "NWHC")
    out = lax.conv_general_dilated(c[..., None], phases[:, :, None], (1, 1), "SAME", dimension_numbers=dims)
    return out.swapaxes(2, 3).reshape(c.shape[0], -1, c.shape[2])


def _as_sums(c: Array, phases: Array) -> Array:
    """`_stretched` as nine products, one kernel of a GPU. Around a convolution XLA transposes arrays there."""
    batch, time, mels = c.shape
    padded = jnp.pad(c, ((0, 0), (1, 1), (1, 1)))
    near = [(i, j) for i in range(3) for j in range(3)]
    products = [phases[i, j, :, None] * padded[:, j : j + time, None, i : i + mels] for i, j in near]
    return sum(products[1:], start=products[0]).reshape(batch, -1, mels)


class Upsample(nn.Module):
    """mel [B, F, M] -> c [B, F · Π strides, M], with LeakyReLU after each stage, and the speaker's bias after the last.

    mask [B, F, 1]: other frames are zero.
    With the official random initialisation c is a fiftieth of the mel at first, and a short training ends before the
    networks use it. linear: begin as linear interpolation of the mel.
    """

    strides: tuple[int, ...] = (16, 16)
    slope: float = 0.4
    linear: bool = False
    speakers: SpeakerInput = UNTOLD

    @nn.compact
    def __call__(self, mel: Array, mask: Any = None) -> Array:
        c, who = self.speakers.split(mel)
        for i, stride in enumerate(self.strides):
            if mask is not None:
                c = jnp.where(mask, c, 0)
                mask = jnp.repeat(mask, stride, axis=1)
            c = Stretch(stride, self.linear, name=f"stage_{i}")(c)
            c = nn.leaky_relu(c, self.slope)
        return SpeakerBias(self.speakers, name="speaker")(c, who)
