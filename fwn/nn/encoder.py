"""Conditioning at the frame rate: a small encoder of the mel, and what is made of it between the frames.

Products with a mel at the audio rate, squeezed, are 69% of the paper's parameters and say the same 256 times: of the
frames themselves they cost a 256th, and in deep blocks a net hears K channels instead of up to 10,240.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fwn.nn.conv import Conv, receptive_field

Array = jax.Array
KERNEL = 3  # frames, of each of the two convolutions


class Encoder(nn.Module):
    """mel [B, F, M] -> c [B, F, channels]: two convolutions over frames, ReLU between them.

    mask [B, F, 1]: frames outside are zero to both. The first of them then repeats the last real one, to which
    `interpolate` holds what it makes of c.
    """

    channels: int

    @nn.compact
    def __call__(self, mel: Array, mask: Array | None = None) -> Array:
        def conv(name: str, x: Array) -> Array:
            x = x if mask is None else jnp.where(mask, x, 0)
            return Conv(self.channels, KERNEL, name=name)(x)

        c = conv("second", nn.relu(conv("first", mel)))
        return c if mask is None else jnp.where(mask, c, before(c))


def before(a: Array) -> Array:
    """[B, F, C], of each frame the one before it; the first has itself."""
    return jnp.concatenate([a[:, :1], a[:, :-1]], axis=1)


def interpolate(a: Array, factor: int, centre: float = 0.5) -> Array:
    """[B, F, C] of frames -> [B, F · factor, C] of the positions inside them, linear between the frames' centres.

    Position p lies (p + 0.5) / factor - centre frames from the centre of its own. Beyond the outermost centres the
    value there holds.
    """
    if factor == 1 and centre == 0.5:
        return a
    place = ((np.arange(factor) + 0.5) / factor - centre)[:, None].astype(a.dtype)
    after = jnp.concatenate([a[:, 1:], a[:, -1:]], axis=1)
    nearest = jnp.where(place < 0, before(a)[:, :, None], after[:, :, None])
    here = a[:, :, None] + abs(place) * (nearest - a[:, :, None])
    return here.reshape(a.shape[0], -1, a.shape[-1])


def between(hop: int, rate: int) -> int:
    """Samples on each side over which a position of `rate` samples hears frames of `hop` samples by `interpolate`."""
    return (hop - rate) // 2


def frame_receptive_field(hop: int, of_noise: np.ndarray, of_c: np.ndarray) -> tuple[int, int]:
    """Receptive field of a frame of audio in mel frames (before, after), given those in samples of the noise and c."""
    of_mel = -(-of_c // hop) + 2 * np.array(receptive_field(KERNEL))
    first, last = np.maximum(-(-of_noise // hop), of_mel)
    return int(first), int(last)
