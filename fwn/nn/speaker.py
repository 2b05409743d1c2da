"""Global conditioning on the speaker (van den Oord et al. 2016, section 2.5): a bias of what is made of the mel.

A model that is told the speaker gets mel [B, F, M + channels]: who speaks is in the last channels, the same in all
frames of an utterance. So it goes with the mel through batches, windows and streams.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array
WIDTH = 64  # of a learned vector


class SpeakerInput(NamedTuple):
    """How a model is told the speaker: by the number of one of `size` speakers, or by a vector of `size` numbers."""

    kind: str = "none"  # "none", "id" or "embedding"
    size: int = 0

    @property
    def channels(self) -> int:
        """Channels after the mel's."""
        return {"none": 0, "id": 1, "embedding": self.size}[self.kind]

    def split(self, mel: Array) -> tuple[Array, Array]:
        """mel [B, F, M + channels] -> (mel [B, F, M], who speaks [B, channels])."""
        bands = mel.shape[-1] - self.channels
        return mel[..., :bands], mel[:, 0, bands:]


UNTOLD = SpeakerInput()


class SpeakerBias(nn.Module):
    """What is made of the mel, h [B, T, C], and who speaks [B, channels] -> h + bias of the speaker.

    The bias is a learned projection of the speaker's vector, which is given, or learned for each number. It is zero at
    initialisation, so that a model begins as the same model that is not told the speaker.
    """

    speakers: SpeakerInput

    @nn.compact
    def __call__(self, h: Array, who: Array) -> Array:
        if self.speakers.kind == "none":
            return h
        vector = who
        if self.speakers.kind == "id":
            learned = self.param("embedding", nn.initializers.normal(1.0), (self.speakers.size, WIDTH))
            vector = learned[who[:, 0].astype(jnp.int32)]
        projection = self.param("projection", nn.initializers.zeros, (vector.shape[-1], h.shape[-1]))
        bias = vector.astype(projection.dtype) @ projection
        return h + bias[:, None].astype(h.dtype)
