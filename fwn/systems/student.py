"""Shared by the distilled systems: an IAF, the student, learns from a trained autoregressive WaveNet, its teacher.

The teacher's weights are the `frozen` argument of the loss, plain (weight norm folded); no gradient reaches them. The
student conditions on the mel through a copy of the teacher's upsampling, so that its checkpoint is complete.
"""

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from fwn.errors import UserError
from fwn.flows.densities import BASES, Distribution
from fwn.models import autoregressive, iaf
from fwn.models.autoregressive import Autoregressive
from fwn.models.iaf import IAF, to_noise
from fwn.nn.wavenet import WaveNet
from fwn.nn.weight_norm import add_weight_norm, fold_weight_norm
from fwn.systems.base import System, checked, frame_mask, mean_over_audio, noise, per_example, speaker_input
from fwn.systems.losses import signs

Array = jax.Array
HIDDEN = frozenset(
    {"wavenet", "causal", "zero_init", "n_stack", "per_frame"}
)  # WaveNet's fields that an IAF sets itself


def untaught(config: Any) -> UserError:
    """The error of a student that has no teacher."""
    return UserError(f"{config.system} learns from a teacher; give its workdir: --config.teacher=DIR")


def _told(config: Any) -> str:
    """config.speakers in words."""
    fields = config.get("speakers") or {"kind": "none"}
    more = {"id": list(fields.get("names", ())), "embedding": fields.get("size")}.get(fields["kind"], "")
    return f"{fields['kind']} {more}".strip()


class Lesson:
    """Arguments of a loss term: the student's audio, mu and log_s, the recording, all [B, T], and the teacher.

    c, other [B, T, M]: the upsampled mel, and that of another example. keys [B]: random keys for the term.
    """

    def __init__(
        self,
        teacher: Autoregressive,
        params: Any,
        made: tuple[Array, ...],
        recording: Array,
        c: Array,
        other: Array,
        keys: Array,
    ):
        self.audio, self.mu, self.log_s = made
        self.recording, self.c, self.other, self.keys = recording, c, other, keys
        self.teacher, self.params = teacher, stop_gradient(params)

    def heard(self, audio: Array, c: Array) -> tuple[Array, dict[str, Array]]:
        """The teacher's θ [B, T, ·] for audio given c, and the skip output of each of its layers, by name."""
        theta, state = self.teacher.apply(
            {"params": self.params},
            audio[..., None],
            c,
            method="predict",
            capture_intermediates=lambda module, _: (module.name or "").startswith("skip_"),
            mutable=["intermediates"],
        )
        # In float32 also for bfloat16 networks: the losses add up thousands of squares.
        return theta, {
            n: layer["__call__"][0].astype(theta.dtype) for n, layer in state["intermediates"]["net"].items()
        }

    @cached_property
    def of_audio(self) -> tuple[Array, dict[str, Array]]:
        """`heard` for the student's audio."""
        return self.heard(self.audio, self.c)

    @cached_property
    def of_recording(self) -> tuple[Array, dict[str, Array]]:
        """`heard` for the recording."""
        return self.heard(self.recording, self.c)


Terms = Mapping[str, Callable[[Lesson], Array]]


def student(
    config: Any, teacher: Any, base_name: str, distribution: str, terms: Callable[[Distribution], Terms]
) -> System:
    """The system of an IAF with `base_name` noise (densities.BASES).

    config.model: stacks, upsample_strides, WaveNet's fields. teacher: config of the trained model, which must have this
    distribution; None: the system samples and evaluates, but cannot be trained. terms: the loss is their sum, weighted
    by the fields of config.loss with the same names; terms of weight 0 are not computed.
    """
    speakers, base = speaker_input(config), BASES[base_name]
    model = iaf.from_fields(**checked(config.model, (IAF, WaveNet), hidden=HIDDEN), speakers=speakers)
    if teacher is not None:
        fields = dict(teacher.model)
        if teacher.system != "wavenet" or fields["distribution"] != distribution:
            what = f"{teacher.system} ({fields['distribution']})" if teacher.system == "wavenet" else teacher.system
            raise UserError(
                f"config.teacher={config.teacher} is a {what}; {config.system} learns from a wavenet ({distribution})"
            )
        if tuple(fields["upsample_strides"]) != tuple(model.upsample_strides):
            raise UserError(
                f"config.model: upsample_strides={tuple(model.upsample_strides)}, but those of the teacher, whose "
                f"upsampling the student uses, are {tuple(fields['upsample_strides'])} ({config.teacher}); give these"
            )
        if fields.pop("prediction", {}).get("order"):
            raise UserError(
                f"config.teacher={config.teacher} has linear prediction, which students do not support; give a "
                "teacher with config.model.prediction.order=0"
            )
        if (here := _told(config)) != (there := _told(teacher)):
            raise UserError(
                f"config.speakers: {here}, but the teacher, whose upsampling the student uses, has {there} "
                f"({config.teacher}); leave config.speakers out, or give the same"
            )
        said, teacher_model = autoregressive.from_fields(**fields, speakers=speakers)
        taught = terms(said)
        if not any(config.loss[name] for name in taught):
            raise UserError(
                f"config.loss: {', '.join(taught)} are all 0: there is nothing to minimise; give one of them a weight"
            )

    def init(key: Array, batch: dict[str, Array], drawn: Any, frozen: Any = ()) -> Any:
        def whole(module: IAF, z: Array, mel: Array) -> Any:
            return module(z, module.condition(mel))

        call = partial(model.apply, mutable=["params"], rngs={"params": key}, method=whole)
        params = call({"params": drawn}, batch["audio"][..., None], batch["mel"])[1]["params"]
        upsample = {"upsample": params.pop("upsample") if frozen == () else frozen["upsample"]}
        return add_weight_norm(params) | upsample

    def make(params: Any, z: Array, c: Array) -> tuple[Array, ...]:
        out: Any = model.apply({"params": params}, z[..., None], c)
        return tuple(a[..., 0] for a in out)

    def condition(params: Any, mel: Array, frames: Array | None) -> Array:
        out: Any = model.apply({"params": params}, mel, frame_mask(mel, frames), method="condition")
        return out

    def draw(mel: Array, keys: Array, first: Any = 0) -> Array:
        return noise(keys, mel.shape[1], lambda key: base.draw(key, (model.hop,)), mel.dtype, first)

    def loss(params: Any, frozen: Any, batch: dict[str, Array], key: Array) -> tuple[Array, dict[str, Array]]:
        if teacher is None:
            raise untaught(config)
        params = fold_weight_norm(params)
        keys, more = (per_example(k, batch["index"]) for k in jax.random.split(key))
        c, other = (condition(params, batch[name], None) for name in ("mel", "other"))
        made = make(params, draw(batch["mel"], keys), c)
        lesson = Lesson(teacher_model, frozen, made, batch["audio"], c, other, more)
        values = {name: term(lesson) for name, term in taught.items() if config.loss[name]}
        total = sum((config.loss[name] * value for name, value in values.items()), jnp.zeros(()))
        return total, values | signs(stop_gradient(lesson.audio), batch["audio"])

    def decode(params: Any, mel: Array, z: Array, temperature: Any, frames: Array | None = None) -> Array:
        params = fold_weight_norm(params)
        return make(params, temperature * z, condition(params, mel, frames))[0]

    def encode(params: Any, audio: Array, mel: Array, frames: Array | None = None) -> Array:
        params = fold_weight_norm(params)
        return to_noise(model, params, audio, condition(params, mel, frames))

    def log_likelihood(params: Any, audio: Array, mel: Array, frames: Array | None = None) -> Array:
        params = fold_weight_norm(params)
        c = condition(params, mel, frames)
        z = to_noise(model, params, audio, c)
        exactly = model.clone(wavenet=model.wavenet.clone(dtype=None))  # in float32, as to_noise is
        exact: Any = exactly.apply({"params": params}, z[..., None], c)
        return mean_over_audio(base.log_prob(z) - exact[2][..., 0], mel, frames)

    more: Any = {"speakers": speakers, "encode": encode}
    return System(init, loss, draw, decode, log_likelihood, model.receptive_field, **more)
