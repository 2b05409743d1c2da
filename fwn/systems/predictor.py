"""Linear prediction in front of a system's model: audio is heard and made as its excitation (config.model.prediction).

A system's map from audio to noise is chain(predictor(...), model); its weights are beside the model's, under
"prediction". Off (order 0), there is neither.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fwn.bijectors import Bijector, chain
from fwn.errors import UserError
from fwn.mel import MelContract, read_contract
from fwn.nn.envelope import Envelope
from fwn.prediction import prediction
from fwn.systems.base import checked, frame_mask

Array = jax.Array
NAME = "prediction"


class Predictor:
    """The bijector between audio and excitation that a mel decides, or the identity."""

    def __init__(self, config: Any, mel: MelContract | None):
        """config.model.prediction: Envelope's fields, order 0 for none. mel: the contract; None: config.mel names it.

        Raises UserError for sizes that cannot be.
        """
        fields = dict(config.model.get(NAME) or {"order": 0})
        self.envelope = None
        if fields.get("order") == 0:
            return
        source = f"config.model.{NAME}"
        contract = mel or read_contract(config.mel, "config.mel")
        fields = checked(fields, Envelope, source=source, hidden=frozenset({"contract"}))
        self.envelope = Envelope(contract, **fields)
        if contract.hop_length % self.envelope.subframe:
            raise UserError(
                f"{source}: subframe is {self.envelope.subframe}, which does not divide a mel frame of "
                f"{contract.hop_length} samples ({contract.name}); give a divisor, as {contract.hop_length // 4}"
            )
        if self.envelope.first_order >= self.envelope.order:
            raise UserError(
                f"{source}: first_order is {self.envelope.first_order}; it must be below the order, "
                f"{self.envelope.order}"
            )

    @property
    def past(self) -> int:
        """Samples of audio before a crop that its excitation depends on."""
        return 0 if self.envelope is None else self.envelope.order

    def reach(self, model: tuple[int, int]) -> tuple[int, int]:
        """Mel frames (before, after) its own that a frame of audio depends on, through the model or the filters."""
        own = 0 if self.envelope is None else self.envelope.reach
        return max(model[0], own), max(model[1], own)

    def init(self, key: Array, mel: Array, drawn: Any) -> Any:
        """Its weights by name, {} without prediction. drawn: as of System.init."""
        if self.envelope is None:
            return {}
        call = partial(self.envelope.apply, mutable=["params"], rngs={"params": key})
        return {NAME: call({"params": drawn.get(NAME, {})}, mel)[1]["params"]}

    def filters(self, params: Any, mel: Array, frames: Array | None) -> tuple[Array, Array]:
        """(a [B, S, order], log_g [B, S]) of a mel [B, F, M]."""
        assert self.envelope is not None
        out: Any = self.envelope.apply({"params": params[NAME]}, mel, frame_mask(mel, frames))
        return out

    def __call__(self, params: Any, mel: Array, frames: Array | None = None, past: Array | None = None) -> Bijector:
        """audio [B, T, 1] <-> excitation. past [B, order]: the audio before; None: silence."""
        if self.envelope is None:
            return chain()
        mask = frame_mask(mel, frames)
        hop = self.envelope.contract.hop_length
        mask = None if mask is None else jnp.repeat(mask, hop, axis=1)
        return prediction(*self.filters(params, mel, frames), past, mask)

    def window(self, params: Any, mel: Array, e: Array, frames: Array, skip: Any, past: Array) -> tuple[Array, Array]:
        """Audio [B, n · hop] of excitation e [B, n · hop] of the mel's frames from `skip` on, and the past after it."""
        assert self.envelope is not None
        subframe = self.envelope.subframe
        begin, length = skip * (self.envelope.contract.hop_length // subframe), e.shape[1] // subframe
        a, log_g = self.filters(params, mel, frames)
        a, log_g = (lax.dynamic_slice_in_dim(values, begin, length, axis=1) for values in (a, log_g))
        audio = prediction(a, log_g, past).inverse(e[..., None], mel)[0][..., 0]
        return audio, jnp.concatenate([past, audio], axis=1)[:, -self.past :]
