"""FloWaveNet, trained by maximum likelihood alone (official code: train.py)."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fwn.densities import normal_log_prob
from fwn.errors import UserError
from fwn.models.flowavenet import FloWaveNet
from fwn.nn.conv import fold_weight_norm
from fwn.systems.base import System, checked, dequantise, frame_mask, mean_over_audio, noise, whole

Array = jax.Array
CHOICES = {
    "conditioner": ("squeezed", "frames"),
    "upsample_init": ("random", "linear"),
    "gradient": ("plain", "remat", "invert"),
}


def build(config: Any) -> System:
    """config.model: FloWaveNet's fields. config.dequantise: train on audio plus 1-LSB uniform noise.

    Weight norm is folded into plain kernels before the network runs: in training inside the gradient, else once.
    """
    fields = checked(config.model, FloWaveNet)
    model, plain = FloWaveNet(**fields), FloWaveNet(**{**fields, "weight_norm": False})
    for name, choices in CHOICES.items():
        value = getattr(model, name)
        if value not in choices:
            raise UserError(f"config.model: {name} is {value!r}; it is {' or '.join(map(repr, choices))}")
    for name in ("channels", "prior_channels"):
        value = getattr(model, name)
        if isinstance(value, tuple) and len(value) != model.n_block:
            raise UserError(
                f"config.model: {name} is {value!r}; it must be one number, or one for each of the {model.n_block} "
                "blocks"
            )
        if model.odd and any(n % 2 for n in ((value,) if whole(value) else value)):
            raise UserError(f"config.model: {name} is {value!r}; of an odd model half are odd: it must be even")
    if model.hop % 2**model.n_block:
        raise UserError(
            f"config.model: n_block={model.n_block} squeezes time by {2**model.n_block}, which does not divide a mel "
            f"frame of {model.hop} samples (the product of upsample_strides); lower n_block"
        )

    def trained_on(batch: dict[str, Array], key: Array) -> Array:
        return dequantise(batch["audio"], key, batch["index"]) if config.dequantise else batch["audio"]

    def init(key: Array, batch: dict[str, Array], drawn: Any, frozen: Any = ()) -> Any:
        del frozen  # there is no teacher
        call = partial(model.apply, method="forward", mutable=["params"], rngs={"params": key})
        drawn = {name: node for name, node in drawn.items() if name != "upsample"}  # which has initialisers to choose
        return call({"params": drawn}, trained_on(batch, key)[..., None], batch["mel"])[1]["params"]

    def forward(params: Any, audio: Array, mel: Array, frames: Array | None) -> tuple[Array, Array]:
        variables = {"params": fold_weight_norm(params)}
        out: Any = plain.apply(variables, audio[..., None], mel, frame_mask(mel, frames), method="forward")
        return out[0], out[2]

    def inverse(params: Any, z: Array, mel: Array, frames: Array | None) -> Array:
        variables = {"params": fold_weight_norm(params)}
        return plain.apply(variables, z, mel, frame_mask(mel, frames), method="inverse")[0][..., 0]

    def log_likelihood(params: Any, audio: Array, mel: Array, frames: Array | None = None) -> Array:
        z, logdet = forward(params, audio, mel, frames)
        length = model.hop * (mel.shape[1] if frames is None else frames)
        return mean_over_audio(normal_log_prob(z[..., 0]), mel, frames) + logdet / length

    def loss(params: Any, frozen: Any, batch: dict[str, Array], key: Array) -> tuple[Array, dict[str, Array]]:
        del frozen  # there is no teacher
        nats = jnp.mean(log_likelihood(params, trained_on(batch, key), batch["mel"]))
        return -nats, {"nats_per_sample": nats}

    def sample(
        params: Any, mel: Array, keys: Array, temperature: Any, frames: Array | None = None, first: Any = 0
    ) -> Array:
        z = noise(keys, mel.shape[1], lambda key: jax.random.normal(key, (model.hop,)), mel.dtype, first)
        return inverse(params, temperature * z[..., None], mel, frames)

    def roundtrip(params: Any, audio: Array, mel: Array, frames: Array | None = None) -> Array:
        return inverse(params, forward(params, audio, mel, frames)[0], mel, frames)

    return System(init, loss, sample, log_likelihood, model.halo, roundtrip)
