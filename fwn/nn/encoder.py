"""Conditioning at the frame rate: a small encoder of the mel, and interpolation between its frames.

Products with the squeezed mel at the audio rate are 69% of the paper's parameters, and repeat the same frame 256 times.
At the frame rate they cost a 256th, and the networks of deep blocks have a few dozen input channels instead of 10,240.
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

    mask [B, F, 1]: both convolutions see zeros in other frames. In c, the frame after the last real one repeats it, so
    that `interpolate` is constant there.
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
    """[B, F, C] delayed by one frame; the first frame is repeated."""
    return jnp.concatenate([a[:, :1], a[:, :-1]], axis=1)


def interpolate(a: Array, factor: int, centre: float = 0.5) -> Array:
    """[B, F, C] -> [B, F · factor, C]: linear interpolation between the centres of frames, constant outside of them.

    Position p of a frame lies (p + 0.5) / factor - centre frames after the centre of its frame.
    """
    if factor == 1 and centre == 0.5:
        return a
    place = ((np.arange(factor) + 0.5) / factor - centre)[:, None].astype(a.dtype)
    after = jnp.concatenate([a[:, 1:], a[:, -1:]], axis=1)
    nearest = jnp.where(place < 0, before(a)[:, :, None], after[:, :, None])
    here = a[:, :, None] + abs(place) * (nearest - a[:, :, None])
    return here.reshape(a.shape[0], -1, a.shape[-1])


def between(hop: int, rate: int) -> int:
    """Receptive field of `interpolate` in samples on each side, for positions of `rate` and frames of `hop` samples."""
    return (hop - rate) // 2


def frame_receptive_field(hop: int, of_noise: np.ndarray, of_c: np.ndarray) -> tuple[int, int]:
    """Receptive field of a frame of audio in mel frames (before, after), from those of the noise and c in samples."""
    of_mel = -(-of_c // hop) + 2 * np.array(receptive_field(KERNEL))
    first, last = np.maximum(-(-of_noise // hop), of_mel)
    return int(first), int(last)
