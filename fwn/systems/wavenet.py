"""Autoregressive WaveNet, trained by maximum likelihood on audio that it is shown one sample late (teacher forcing).

Its nats per sample compare with FloWaveNet's: both are log p(audio | mel) / T with audio in ±1, in log-density.
- gaussian: the log-density of the continuous signal, with log_sd floored (densities.GAUSSIAN_FLOOR); on 16-bit audio
  as stored it has no bound but the floor's, as FloWaveNet's has none.
- mixture_of_logistics: the log-probability of the 16-bit value minus the log of its bin's width, which is the
  log-density of the audio plus noise uniform over one step; at most log 2^15 = 10.4 nats.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fwn.densities import DISTRIBUTIONS
from fwn.errors import UserError, nearest
from fwn.models.autoregressive import Autoregressive, from_fields, proceed, sample
from fwn.nn import incremental
from fwn.nn.conv import fold_weight_norm
from fwn.systems.base import Recurrence, System, checked, dequantise, frame_mask, mean_over_audio, noise

Array = jax.Array


def build(config: Any) -> System:
    """config.model: `distribution`, a name of densities.DISTRIBUTIONS, and Autoregressive's fields.

    config.dequantise: train on audio plus 1-LSB uniform noise. There is no roundtrip: the model is no flow.
    """
    fields = checked(config.model, Autoregressive, frozenset({"distribution"}))
    if (name := fields.setdefault("distribution", None)) not in DISTRIBUTIONS:
        raise UserError(
            f"config.model.distribution is {name!r}; there are: {', '.join(DISTRIBUTIONS)}"
            + nearest(str(name), DISTRIBUTIONS)
        )
    distribution, model = from_fields(fields)
    plain = model.clone(weight_norm=False)

    def init(key: Array, batch: dict[str, Array], drawn: Any, frozen: Any = ()) -> Any:
        del frozen  # there is no teacher
        call = partial(model.apply, mutable=["params"], rngs={"params": key})
        return call({"params": drawn}, batch["audio"][..., None], batch["mel"])[1]["params"]

    def log_likelihood(params: Any, audio: Array, mel: Array, frames: Array | None = None) -> Array:
        variables = {"params": fold_weight_norm(params)}
        theta: Any = plain.apply(variables, audio[..., None], mel, frame_mask(mel, frames))
        return mean_over_audio(distribution.log_prob(theta, audio), mel, frames)

    def loss(params: Any, frozen: Any, batch: dict[str, Array], key: Array) -> tuple[Array, dict[str, Array]]:
        del frozen  # there is no teacher
        audio = dequantise(batch["audio"], key, batch["index"]) if config.dequantise else batch["audio"]
        nats = jnp.mean(log_likelihood(params, audio, batch["mel"]))
        return -nats, {"nats_per_sample": nats}

    def by_hop(key: Array) -> Array:
        return distribution.noise(key, (model.hop,))

    def draw_audio(
        params: Any, mel: Array, keys: Array, temperature: Any, frames: Array | None = None, first: Any = 0
    ) -> Array:
        draw = partial(distribution.sample, temperature=temperature)
        drawn = noise(keys, mel.shape[1], by_hop, mel.dtype, first)
        return sample(model, params, mel, drawn, draw, frame_mask(mel, frames))

    def start(batch: int, dtype: Any) -> Any:
        return incremental.start(model.wavenet, batch, dtype)

    def draw_more(
        params: Any, mel: Array, keys: Array, temperature: Any, frames: Array, first: Any, skip: Any, state: Any
    ) -> tuple[Array, Any]:
        draw, kept = partial(distribution.sample, temperature=temperature), mel.shape[1] - sum(model.halo)
        mask, drawn = frame_mask(mel, frames), noise(keys, kept, by_hop, mel.dtype, first + skip)
        state, audio = proceed(model, params, mel, drawn, draw, mask, skip, state)
        return audio, state

    return System(init, loss, draw_audio, log_likelihood, model.halo, recurrence=Recurrence(start, draw_more))
