"""FloWaveNet, trained by maximum likelihood alone (paper, section 3; official code: train.py)."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fwn.bijectors import total
from fwn.densities import normal_log_prob
from fwn.models.flowavenet import FloWaveNet
from fwn.nn.conv import fold_weight_norm
from fwn.systems.base import System, checked, dequantise, frame_mask, noise

Array = jax.Array


def model_of(config: Any, **overrides: Any) -> FloWaveNet:
    """The network that `config.model` describes."""
    known = set(FloWaveNet.__dataclass_fields__) - {"parent", "name"}
    fields = checked(config.model, known, "config.model")
    return FloWaveNet(**{**fields, **overrides})


def build(config: Any) -> System:
    """config.model: FloWaveNet's fields. config.dequantise: train on audio plus 1-LSB uniform noise."""
    model = model_of(config)
    folded = model_of(config, weight_norm=False)

    def init(key: Array, batch: dict[str, Array], drawn: Any) -> Any:
        call = partial(model.apply, method="forward", mutable=["params"], rngs={"params": key})
        _, variables = call({"params": drawn}, batch["audio"][..., None], batch["mel"])
        return variables["params"]

    def log_likelihood(params: Any, audio: Array, mel: Array, frames: Array | None = None) -> Array:
        mask = frame_mask(mel, frames)
        z, _, logdet = model.apply({"params": params}, audio[..., None], mel, mask, method="forward")
        samples = None if mask is None else jnp.repeat(mask, model.hop, axis=1)
        length = model.hop * (mel.shape[1] if frames is None else frames)
        return (total(normal_log_prob(z), samples) + logdet) / length

    def loss(params: Any, frozen: Any, batch: dict[str, Array], key: Array) -> tuple[Array, dict[str, Array]]:
        del frozen  # there is no teacher
        audio = dequantise(batch["audio"], key, batch["index"]) if config.dequantise else batch["audio"]
        nats = jnp.mean(log_likelihood(params, audio, batch["mel"]))
        return -nats, {"nats_per_sample": nats}

    def inverse(params: Any, z: Array, mel: Array, frames: Array | None) -> Array:
        variables = {"params": fold_weight_norm(params)}
        return folded.apply(variables, z, mel, frame_mask(mel, frames), method="inverse")[0][..., 0]

    def sample(params: Any, mel: Array, keys: Array, temperature: Any, frames: Array | None = None) -> Array:
        z = jax.vmap(lambda key: noise(key, mel.shape[1], model.hop))(keys).astype(mel.dtype)
        return inverse(params, temperature * z[..., None], mel, frames)

    def roundtrip(params: Any, audio: Array, mel: Array, frames: Array | None = None) -> Array:
        z, _, _ = model.apply({"params": params}, audio[..., None], mel, frame_mask(mel, frames), method="forward")
        return inverse(params, z, mel, frames)

    return System(init, loss, sample, log_likelihood, roundtrip)
