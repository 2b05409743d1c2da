"""Autoregressive WaveNet, trained by maximum likelihood with teacher forcing.

Its nats per sample compare with FloWaveNet's: both are log p(audio | mel) / T, a log-density of audio in ±1.
- gaussian: log-density of the continuous signal, log_sd with a floor (densities.GAUSSIAN_FLOOR). On 16-bit audio
  without dequantisation only the floor bounds it; FloWaveNet's likelihood has no bound there.
- mixture_of_logistics: log-probability of the 16-bit value minus the log of its bin's width. That is the log-density of
  audio plus noise uniform over one step, at most log 2^15 = 10.4 nats.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fwn.errors import UserError, nearest
from fwn.flows.densities import DISTRIBUTIONS
from fwn.mel import MelContract
from fwn.models.autoregressive import Autoregressive, from_fields, proceed, sample
from fwn.nn import incremental
from fwn.nn.wavenet import WaveNet
from fwn.nn.weight_norm import add_weight_norm, fold_weight_norm
from fwn.systems import predictor
from fwn.systems.base import (
    Recurrence,
    System,
    checked,
    frame_mask,
    mean_over_audio,
    noise,
    real_frames,
    recorded,
    speaker_input,
)

Array = jax.Array
HIDDEN = frozenset({"wavenet", "causal", "zero_init", "per_frame"})  # of WaveNet's fields: what makes it autoregressive


def build(config: Any, mel: MelContract | None = None) -> System:
    """config.model: `distribution` (of densities.DISTRIBUTIONS), upsample_strides, WaveNet's fields, `prediction`.

    config.dequantise: train on audio plus 1-LSB uniform noise. With linear prediction (predictor.Predictor) the model
    is autoregressive in the excitation, as LP-WaveNet is (Hwang et al. 2018). mel: the contract; None: the one that
    config.mel names. There is no roundtrip: the model is no flow.
    """
    fields = checked(config.model, (Autoregressive, WaveNet), frozenset({"distribution", predictor.NAME}), HIDDEN)
    fields.pop(predictor.NAME, None)
    if (name := fields.setdefault("distribution", None)) not in tuple(DISTRIBUTIONS):
        raise UserError(
            f"config.model.distribution is {name!r}; there are: {', '.join(DISTRIBUTIONS)}"
            + nearest(str(name), DISTRIBUTIONS)
        )
    predict = predictor.Predictor(config, mel)
    if predict.past and name == "mixture_of_logistics":
        raise UserError(
            "config.model.prediction: the mixture of logistics is of 16-bit audio, which excitation is not; leave its "
            "order at 0, or choose distribution gaussian"
        )
    distribution, model = from_fields(**fields, speakers=speaker_input(config))

    def init(key: Array, batch: dict[str, Array], drawn: Any, frozen: Any = ()) -> Any:
        del frozen  # there is no teacher
        own = predict.init(key, batch["mel"], drawn)
        drawn = {name: node for name, node in drawn.items() if name not in own}
        call = partial(model.apply, mutable=["params"], rngs={"params": key})
        params = call({"params": drawn}, batch["audio"][..., None], batch["mel"])[1]["params"]
        return add_weight_norm(params) | own

    def log_likelihood(
        params: Any, audio: Array, mel: Array, frames: Array | None = None, past: Array | None = None
    ) -> Array:
        params = fold_weight_norm(params)
        e, _, logdet = predict(params, mel, frames, past).forward(audio[..., None], mel)
        theta: Any = model.apply({"params": params}, e, mel, frame_mask(mel, frames))
        length = model.hop * real_frames(mel, frames)
        return mean_over_audio(distribution.log_prob(theta, e[..., 0]), mel, frames) + logdet / length

    def loss(params: Any, frozen: Any, batch: dict[str, Array], key: Array) -> tuple[Array, dict[str, Array]]:
        del frozen  # there is no teacher
        audio, past = recorded(batch, key, config.dequantise)
        nats = jnp.mean(log_likelihood(params, audio, batch["mel"], past=past))
        return -nats, {"nats_per_sample": nats}

    def by_hop(key: Array) -> Array:
        return distribution.noise(key, (model.hop,))

    def draw(mel: Array, keys: Array, first: Any = 0) -> Array:
        return noise(keys, mel.shape[1], by_hop, mel.dtype, first)

    def decode(params: Any, mel: Array, drawn: Array, temperature: Any, frames: Array | None = None) -> Array:
        params, choose = fold_weight_norm(params), partial(distribution.sample, temperature=temperature)
        e = sample(model, params, mel, drawn, choose, frame_mask(mel, frames))
        return predict(params, mel, frames).inverse(e[..., None], mel)[0][..., 0]

    field = predict.receptive_field(model.receptive_field)

    def start(batch: int, dtype: Any) -> Any:
        net = incremental.start(model.wavenet, batch, dtype)
        return (net, predict.start(batch, dtype)) if predict.past else net

    def draw_more(
        params: Any, mel: Array, keys: Array, temperature: Any, frames: Array, first: Any, skip: Any, state: Any
    ) -> tuple[Array, Any]:
        params, draw = fold_weight_norm(params), partial(distribution.sample, temperature=temperature)
        kept = mel.shape[1] - sum(field)
        mask, drawn = frame_mask(mel, frames), noise(keys, kept, by_hop, mel.dtype, first + skip)
        if not predict.past:
            state, audio = proceed(model, params, mel, drawn, draw, mask, skip, state)
            return audio, state
        net, e = proceed(model, params, mel, drawn, draw, mask, skip, state[0])
        audio, past = predict.window(params, mel, e, frames, skip, state[1])
        return audio, (net, past)

    recurrence = Recurrence(start, draw_more)
    more: Any = {"recurrence": recurrence, "past": predict.past, "integers": distribution.integers}
    before, after = model.receptive_field
    heard = -(-(int(model.wavenet.receptive_field[0][0]) + 1) // model.hop)  # x is delayed by one sample
    more["context"] = predict.context((before + heard, after), model.hop)
    return System(init, loss, draw, decode, log_likelihood, field, **more, speakers=model.speakers)
