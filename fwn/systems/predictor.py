"""Prediction in front of a system's model: the model sees the residual of audio instead of audio.

Linear prediction from the mel (config.model.prediction) turns audio into excitation. Autoregression over blocks
(config.model.autoregression, models/blockwise.py) predicts the lowest bands of the excitation from the mel and the
blocks before. A system's map from audio to noise is chain(predictor(...), model). The predictor's weights are beside
the model's, under these two names. With order 0 and coefficients 0 there is no predictor.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from ml_collections import ConfigDict

from fwn.errors import UserError
from fwn.flows.bijectors import Bijector, chain
from fwn.flows.prediction import prediction
from fwn.mel import MelContract, read_contract
from fwn.models.blockwise import Blockwise
from fwn.nn.envelope import Envelope
from fwn.nn.speaker import SpeakerInput
from fwn.systems.base import checked, frame_mask, speaker_input

Array = jax.Array
NAME, AUTOREGRESSION = "prediction", "autoregression"
FIELDS = frozenset({NAME, AUTOREGRESSION})
LOW_TEMPERATURE = 0.9  # the default (docs/prediction.md)


class Predictor:
    """The bijector between audio and the model's input, which is the residual, or audio itself without prediction."""

    def __init__(self, config: Any, mel: MelContract | None):
        """config.model.prediction: Envelope's fields, order 0 for none. config.model.autoregression: Blockwise's,
        coefficients 0 for none. mel: the contract; None: the one that config.mel names.

        Raises UserError for invalid sizes.
        """
        for name in (NAME, AUTOREGRESSION):
            if not isinstance(given := config.model.get(name) or {}, Mapping | ConfigDict):
                raise UserError(f"config.model.{name} is {given!r}; it must have fields, as in experiments/base.py")
        fields = dict(config.model.get(NAME) or {"order": 0})
        low = dict(config.model.get(AUTOREGRESSION) or {"coefficients": 0})
        self.envelope, self.blockwise = None, None
        if fields.get("order") == 0:
            if low.get("coefficients") != 0:
                raise UserError(
                    f"config.model.{AUTOREGRESSION}: coefficients is {low.get('coefficients')!r} and "
                    f"config.model.{NAME}.order is 0; autoregression needs linear prediction: set order to 256, or "
                    "coefficients to 0"
                )
            return
        source = f"config.model.{NAME}"
        contract = mel or read_contract(config.mel, "config.mel")
        fields = checked(fields, Envelope, source=source, hidden=frozenset({"contract"}))
        speakers = speaker_input(config)
        self.envelope = Envelope(contract, **fields, speakers=speakers)
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
        if low.get("coefficients") != 0:
            self.blockwise = _blockwise(low, contract.hop_length, speakers)

    @property
    def past(self) -> int:
        """Number of samples before a crop that its excitation depends on."""
        return 0 if self.envelope is None else self.envelope.order

    @property
    def low_temperature(self) -> float | None:
        """See System.low_temperature."""
        return None if self.blockwise is None else LOW_TEMPERATURE

    def receptive_field(self, model: tuple[int, int]) -> tuple[int, int]:
        """Mel frames (before, after) its own that a frame of audio depends on, through the model or the filters."""
        return max(model[0], self._own), max(model[1], self._own)

    def context(self, model: tuple[int, int], hop: int) -> tuple[int, int]:
        """System.context: what the model depends on, and before that what its input depends on."""
        return model[0] + self._own + -(-self._heard // hop), model[1] + self._own

    @property
    def _own(self) -> int:
        """Mel frames before and after its own that filters and predicted bands of a frame depend on."""
        return max(0 if part is None else part.receptive_field for part in (self.envelope, self.blockwise))

    @property
    def _heard(self) -> int:
        """Number of samples before it that the model's input depends on."""
        return self.past + (0 if self.blockwise is None else self.blockwise.heard)

    def init(self, key: Array, mel: Array, drawn: Any) -> Any:
        """Weights by name, {} without prediction. drawn: as in System.init."""
        if self.envelope is None:
            return {}

        def weights(module: nn.Module, name: str, *args: Any, **how: Any) -> Any:
            call: Any = partial(module.apply, mutable=["params"], rngs={"params": key}, **how)
            return call({"params": drawn.get(name, {})}, *args)[1]["params"]

        params = {NAME: weights(self.envelope, NAME, mel)}
        if self.blockwise is not None:
            e = jnp.zeros((len(mel), mel.shape[1] * self.blockwise.hop, 1), mel.dtype)
            params[AUTOREGRESSION] = weights(self.blockwise, AUTOREGRESSION, e, mel, method="forward")
        return params

    def filters(self, params: Any, mel: Array, frames: Array | None) -> tuple[Array, Array]:
        """mel [B, F, M] -> filters (a [B, S, order], log_g [B, S])."""
        assert self.envelope is not None
        out: Any = self.envelope.apply({"params": params[NAME]}, mel, frame_mask(mel, frames))
        return out

    def __call__(self, params: Any, mel: Array, frames: Array | None = None, past: Array | None = None) -> Bijector:
        """audio [B, T, 1] <-> the model's input. past [B, order]: the audio before; None: silence.

        Autoregression over blocks begins with silence in both cases.
        """
        if self.envelope is None:
            return chain()
        mask = frame_mask(mel, frames)
        hop = self.envelope.contract.hop_length
        samples = None if mask is None else jnp.repeat(mask, hop, axis=1)
        excitation = prediction(*self.filters(params, mel, frames), past, samples)
        if self.blockwise is None:
            return excitation
        apply: Any = partial(self.blockwise.apply, {"params": params[AUTOREGRESSION]}, mask=mask)
        return chain(excitation, Bijector(partial(apply, method="forward"), partial(apply, method="inverse")))

    def cooled(self, u: Array, low: Any) -> Array:
        """The model's u [B, T, 1] with the bands of autoregression scaled by the low temperature."""
        return u if self.blockwise is None else self.blockwise.cooled(u, low)

    def start(self, batch: int, dtype: Any) -> Any:
        """State of `window` before the first sample: silence."""
        past = jnp.zeros((batch, self.past), dtype)
        if self.blockwise is None:
            return past
        return past, self.blockwise.start(batch, dtype)

    def window(self, params: Any, mel: Array, u: Array, frames: Array, skip: Any, state: Any) -> tuple[Array, Any]:
        """(audio [B, n · hop], state after it) from the model's u [B, n · hop], for n mel frames from `skip` on."""
        assert self.envelope is not None
        if self.blockwise is None:
            return self._audio(params, mel, u, frames, skip, state)
        past, low = state
        proceed: Any = partial(self.blockwise.apply, {"params": params[AUTOREGRESSION]}, method="proceed")
        low, e = proceed(u[..., None], mel, frame_mask(mel, frames), skip, low)
        audio, past = self._audio(params, mel, e[..., 0], frames, skip, past)
        return audio, (past, low)

    def _audio(self, params: Any, mel: Array, e: Array, frames: Array, skip: Any, past: Array) -> tuple[Array, Array]:
        """(audio, past after it) from excitation e [B, n · hop]."""
        assert self.envelope is not None
        subframe = self.envelope.subframe
        begin, length = skip * (self.envelope.contract.hop_length // subframe), e.shape[1] // subframe
        a, log_g = self.filters(params, mel, frames)
        a, log_g = (lax.dynamic_slice_in_dim(values, begin, length, axis=1) for values in (a, log_g))
        audio = prediction(a, log_g, past).inverse(e[..., None], mel)[0][..., 0]
        return audio, jnp.concatenate([past, audio], axis=1)[:, -self.past :]


def temperatures(temperature: Any, levels: tuple[int, ...], length: int) -> tuple[Any, Any]:
    """(scale of the noise, scalar or [length]; low temperature) from the temperature of System.sample.

    A scalar has the default low temperature.
    """
    temperature = jnp.asarray(temperature)
    if temperature.ndim != 1:
        return temperature, LOW_TEMPERATURE
    if len(temperature) == 2:
        return temperature[0], temperature[1]
    of_level = jnp.asarray(levels)
    return jnp.tile(temperature[of_level], -(-length // len(levels)))[:length], temperature[-1]


def _blockwise(fields: dict[str, Any], hop: int, speakers: SpeakerInput) -> Blockwise:
    source = f"config.model.{AUTOREGRESSION}"
    sizes = checked(fields, Blockwise, source=source, hidden=frozenset({"hop"}), zero=frozenset({"taps"}))
    blockwise = Blockwise(hop, **sizes, speakers=speakers)
    if hop % blockwise.block:
        raise UserError(
            f"{source}: block is {blockwise.block}, which does not divide a mel frame of {hop} samples; give a "
            f"divisor, as {hop // 16 or 1}"
        )
    if blockwise.coefficients > blockwise.block:
        raise UserError(
            f"{source}: coefficients is {blockwise.coefficients}; a block of {blockwise.block} samples has no more "
            "than that"
        )
    return blockwise
