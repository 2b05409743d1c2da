"""FloWaveNet, trained by maximum likelihood alone (official code: train.py)."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fwn.errors import UserError
from fwn.flows.bijectors import Bijector, chain
from fwn.flows.densities import normal_log_prob
from fwn.mel import MelContract
from fwn.models.flowavenet import FloWaveNet
from fwn.nn.weight_norm import add_weight_norm, fold_weight_norm, updated
from fwn.systems import predictor
from fwn.systems.base import (
    Recurrence,
    System,
    checked,
    frame_mask,
    given,
    mean_over_audio,
    noise,
    real_frames,
    recorded,
    speaker_input,
    whole,
)

Array = jax.Array
CHOICES = {
    "conditioner": ("squeezed", "frames"),
    "upsample_init": ("random", "linear"),
    "gradient": ("plain", "remat", "invert"),
}


def build(config: Any, mel: MelContract | None = None) -> System:
    """config.model: FloWaveNet's fields, `prediction` and `autoregression` (predictor.Predictor). config.dequantise:
    train on audio plus 1-LSB uniform noise. mel: the contract; None: the one that config.mel names.
    """
    fields = checked(config.model, FloWaveNet, predictor.FIELDS, zero=frozenset({"n_block"}))
    fields = {name: value for name, value in fields.items() if name not in predictor.FIELDS}
    predict = predictor.Predictor(config, mel)
    model = FloWaveNet(**fields, speakers=speaker_input(config))
    for name, choices in CHOICES.items():
        value = getattr(model, name)
        if value not in choices:
            raise UserError(f"config.model: {name} is {value!r}; it is {' or '.join(map(repr, choices))}")
    for name in ("channels", "prior_channels"):
        value = getattr(model, name)
        if isinstance(value, tuple) and model.n_block and len(value) != model.n_block:
            raise UserError(
                f"config.model: {name} is {value!r}; it must be one number, or one for each of the {model.n_block} "
                "blocks"
            )
        if model.odd and any(n % 2 for n in ((value,) if whole(value) else value)):
            raise UserError(f"config.model: {name} is {value!r}; of an odd model half are odd: it must be even")
    if model.n_block >= (crop := config.frames * model.hop).bit_length():
        raise UserError(
            f"config.model: n_block={model.n_block} squeezes time by 2^{model.n_block}, but a crop of config.frames="
            f"{config.frames} has {crop} samples; lower n_block, or raise config.frames"
        )
    if not model.n_block and predict.envelope is None:
        raise UserError(
            "config.model: n_block is 0 and prediction.order is 0, so there is nothing to train; set n_block to 8, or "
            "prediction.order to 256"
        )

    def init(key: Array, batch: dict[str, Array], drawn: Any, frozen: Any = ()) -> Any:
        del frozen  # there is no teacher
        audio, past = recorded(batch, key, config.dequantise)
        own = predict.init(key, batch["mel"], drawn)
        x = predict(own, batch["mel"], past=past).forward(audio[..., None], batch["mel"])[0]
        params = model.init(key, batch["mel"], method="conditioned").get("params", {})
        params = updated(params, {name: node for name, node in drawn.items() if name not in own})
        statistics: Any = model.apply({"params": params}, x, batch["mel"], method="statistics")
        return add_weight_norm(updated(params, statistics)) | own

    def flow(params: Any, frames: Array | None) -> Bijector:
        """The map between excitation (audio, without prediction) and noise. params: plain, weight norm folded."""
        apply = partial(model.apply, {"params": params})

        def forward(x: Array, mel: Array) -> Any:
            return apply(x, mel, frame_mask(mel, frames), method="forward")

        def inverse(z: Array, mel: Array) -> Any:
            return apply(z, mel, frame_mask(mel, frames), method="inverse")

        return Bijector(forward, inverse)

    def bijector(params: Any, mel: Array, frames: Array | None, past: Array | None = None) -> Bijector:
        params = fold_weight_norm(params)
        return chain(predict(params, mel, frames, past), flow(params, frames))

    def log_likelihood(
        params: Any, audio: Array, mel: Array, frames: Array | None = None, past: Array | None = None
    ) -> Array:
        z, _, logdet = bijector(params, mel, frames, past).forward(audio[..., None], mel)
        length = model.hop * real_frames(mel, frames)
        return mean_over_audio(normal_log_prob(z[..., 0]), mel, frames) + logdet / length

    def loss(params: Any, frozen: Any, batch: dict[str, Array], key: Array) -> tuple[Array, dict[str, Array]]:
        del frozen  # there is no teacher
        audio, past = recorded(batch, key, config.dequantise)
        nats = jnp.mean(log_likelihood(params, audio, batch["mel"], past=past))
        return -nats, {"nats_per_sample": nats}

    def encode(params: Any, audio: Array, mel: Array, frames: Array | None = None) -> Array:
        return bijector(params, mel, frames).forward(audio[..., None], mel)[0][..., 0]

    more = 0 if model.unit == 1 else -(-(model.longest - 1) // model.hop)  # frames that `continued` adds

    def continued(mel: Array, frames: Array | None) -> tuple[Array, Array | None]:
        """The mel with its last frame repeated, so that each position with samples of it is whole; and its length."""
        batch, length, _ = mel.shape
        last = length - 1 if frames is None else jnp.maximum(frames[:, None] - 1, 0)
        index = jnp.broadcast_to(jnp.minimum(jnp.arange(length + more), last), (batch, length + more))
        longer = jnp.take_along_axis(mel, index[..., None], axis=1) if more else mel
        return longer, None if frames is None else frames + more

    def draw(mel: Array, keys: Array, first: Any = 0) -> Array:
        return noise(keys, mel.shape[1] + more, lambda key: jax.random.normal(key, (model.hop,)), mel.dtype, first)

    def excitation(params: Any, mel: Array, z: Array, temperature: Any, frames: Array | None) -> Array:
        """Input of the predictor's inverse [B, T, 1]: the flow's inverse of noise z."""
        whole = z.shape[1] != mel.shape[1] * model.hop  # with the noise of frames after the last, as `draw` makes it
        longer, end = continued(mel, frames) if whole else (mel, frames)
        scale, low = predictor.temperatures(temperature, model.levels, z.shape[1])
        u = flow(params, end).inverse((scale * z)[..., None], longer)[0][:, : mel.shape[1] * model.hop]
        return predict.cooled(u, low)

    def decode(params: Any, mel: Array, z: Array, temperature: Any, frames: Array | None = None) -> Array:
        params = fold_weight_norm(params)
        u = excitation(params, mel, z, temperature, frames)
        return predict(params, mel, frames).inverse(u, mel)[0][..., 0]

    def roundtrip(params: Any, audio: Array, mel: Array, frames: Array | None = None) -> Array:
        b = bijector(params, mel, frames)
        return b.inverse(b.forward(audio[..., None], mel)[0], mel)[0][..., 0]

    before, after = predict.receptive_field(model.receptive_field)
    field = -(-before // model.unit) * model.unit, after

    def proceed(
        params: Any, mel: Array, keys: Array, temperature: Any, frames: Array, first: Any, skip: Any, state: Any
    ) -> tuple[Array, Any]:
        params, kept = fold_weight_norm(params), mel.shape[1] - sum(field)
        z = keys if given(keys) else draw(mel, keys, first)
        u = excitation(params, mel, z, temperature, frames)[..., 0]
        u = jax.lax.dynamic_slice_in_dim(u, skip * model.hop, kept * model.hop, axis=1)
        return predict.window(params, mel, u, frames, skip, state)

    # Prediction needs the audio before a window: its state goes from one window to the next.
    recurrence = Recurrence(predict.start, proceed) if predict.past else None
    before, after = predict.context(model.receptive_field, model.hop)
    context = -(-before // model.unit) * model.unit, after
    return System(
        init,
        loss,
        draw,
        decode,
        log_likelihood,
        field,
        roundtrip,
        recurrence,
        predict.past,
        predict.low_temperature,
        unit=model.unit,
        speakers=model.speakers,
        encode=encode,
        context=context,
        levels=model.levels,
    )
