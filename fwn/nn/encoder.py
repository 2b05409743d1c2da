"""Conditioning at the frame rate: a small encoder of the mel, and interpolation between its frames.

Products with the squeezed mel at the audio rate are 69% of the paper's parameters, and repeat the same frame 256 times.
At the frame rate they cost a 256th, and the networks of deep blocks have a few dozen input channels instead of 10,240.
"""

from fractions import Fraction

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fwn.nn.conv import Conv, receptive_field
from fwn.nn.speaker import UNTOLD, SpeakerBias, SpeakerInput

Array = jax.Array
KERNEL = 3  # frames, of each of the two convolutions


class Encoder(nn.Module):
    """mel [B, F, M] -> c [B, F, channels]: two convolutions over frames, ReLU between them, and the speaker's bias.

    mask [B, F, 1]: both convolutions see zeros in other frames. In c, the frame after the last real one repeats it, so
    that `interpolate` is constant there.
    """

    channels: int
    speakers: SpeakerInput = UNTOLD

    @nn.compact
    def __call__(self, mel: Array, mask: Array | None = None) -> Array:
        def conv(name: str, x: Array) -> Array:
            x = x if mask is None else jnp.where(mask, x, 0)
            return Conv(self.channels, KERNEL, name=name)(x)

        mel, who = self.speakers.split(mel)
        c = conv("second", nn.relu(conv("first", mel)))
        c = SpeakerBias(self.speakers, name="speaker")(c, who)
        return c if mask is None else jnp.where(mask, c, before(c))


def before(a: Array) -> Array:
    """[B, F, C] delayed by one frame; the first frame is repeated."""
    return jnp.concatenate([a[:, :1], a[:, :-1]], axis=1)


def extended(a: Array) -> Array:
    """[B, F, C] -> [B, F + 2, C]: the first frame also before, the last also after, as `interpolate` needs it."""
    return jnp.concatenate([a[:, :1], a, a[:, -1:]], axis=1)


def interpolate(a: Array, per_frame: int | Fraction, centre: float = 0.5, length: int | None = None) -> Array:
    """Extended frames [B, F + 2, C] -> [B, length, C]: linear interpolation between the centres of frames.

    per_frame: positions per frame. Position p lies (p + 0.5) / per_frame - centre frames after the centre of the first
    frame. length: None: F · per_frame; more are zeros.
    """
    if per_frame == 1 and centre == 0.5:
        here = a[:, 1:-1]
    elif Fraction(per_frame).denominator == 1:
        place = ((np.arange(int(per_frame)) + 0.5) / int(per_frame) - centre)[:, None]
        first, own, last = a[:, :-2, None], a[:, 1:-1, None], a[:, 2:, None]
        here = own + abs(place).astype(a.dtype) * (jnp.where(place < 0, first, last) - own)
        here = here.reshape(a.shape[0], -1, a.shape[-1])
    else:
        here = _interpolate_between(a, Fraction(per_frame), centre)
    if length is None or length == here.shape[1]:
        return here
    # `length` zeros and then a cut, because it is not known of symbolic lengths which is longer (fwn/portable).
    return jnp.pad(here, ((0, 0), (0, length), (0, 0)))[:, :length]


def _interpolate_between(a: Array, per_frame: Fraction, centre: float) -> Array:
    """`interpolate` for any ratio n / d: the same n × (d + 2) matrix for every d frames and their neighbours."""
    n, d = per_frame.numerator, per_frame.denominator
    place = np.clip((np.arange(n) + 0.5) / float(per_frame) - centre, -1, d)
    weights = np.maximum(0, 1 - abs(place[:, None] - np.arange(-1, d + 1))).astype(a.dtype)
    n_span = -(-(a.shape[1] - 2) // d)
    padded = jnp.pad(a, ((0, 0), (0, n_span * d + 2 - a.shape[1]), (0, 0)), mode="edge")
    spans = padded[:, 1:-1].reshape(a.shape[0], n_span, d, a.shape[-1])
    previous, following = padded[:, :-2:d], padded[:, d + 1 :: d]
    spans = jnp.concatenate([previous[:, :, None], spans, following[:, :, None]], axis=2)
    return jnp.einsum("pi,bsic->bspc", weights, spans).reshape(a.shape[0], n_span * n, a.shape[-1])


def between(hop: int, rate: int) -> int:
    """Receptive field of `interpolate` in samples on each side, for positions of `rate` and frames of `hop` samples."""
    return max(0, -((rate - hop) // 2))


def frame_receptive_field(hop: int, of_noise: np.ndarray, of_c: np.ndarray) -> tuple[int, int]:
    """Receptive field of a frame of audio in mel frames (before, after), from those of the noise and c in samples."""
    of_mel = -(-of_c // hop) + 2 * np.array(receptive_field(KERNEL))
    first, last = np.maximum(-(-of_noise // hop), of_mel)
    return int(first), int(last)
