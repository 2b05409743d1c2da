"""A system's functions as artifacts of jax.export: StableHLO for several platforms, for any batch and length.

The weights are arguments, by name, and are not in the programs. Shapes in which b and f stand are those of the call.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from fwn.models.weight_forms import tree
from fwn.systems import System

PLATFORMS = "cpu", "cuda", "tpu"
SAMPLE, DECODE = "sample.stablehlo", "decode.stablehlo"
ARGUMENTS = {
    SAMPLE: ("weights", "mel", "frames", "keys", "temperature"),
    DECODE: ("weights", "mel", "frames", "noise", "temperature"),
}
Array = jax.Array


def exported(system: System, weights: dict[str, Any], channels: int) -> dict[str, export.Exported]:
    """By file name: sample (weights, mel, frames, keys, temperature), decode (…, noise instead of keys, …) -> audio.

    weights: by name, as models.weight_forms.named gives them. channels: of the mel, with those of the speaker. mel
    [b, f, channels] float32, frames [b] int32, keys [b, 2] uint32, the data of threefry keys, of which [0, seed] is
    jax.random.key(seed). noise: as System.draw makes it. temperature: [] or [2] (System.decode). audio [b, f · hop].
    """

    def typed(keys: Array) -> Any:
        return jax.random.wrap_key_data(keys, impl="threefry2x32")

    def sample(weights: Any, mel: Array, frames: Array, keys: Array, temperature: Array) -> Any:
        return system.sample(tree(weights), mel, typed(keys), temperature, frames)

    def decode(weights: Any, mel: Array, frames: Array, noise: Array, temperature: Array) -> Any:
        return system.decode(tree(weights), mel, noise, temperature, frames)

    b, f = export.symbolic_shape("b, f")
    shaped = jax.ShapeDtypeStruct
    mel, frames, keys = shaped((b, f, channels), jnp.float32), shaped((b,), jnp.int32), shaped((b, 2), jnp.uint32)
    temperature = shaped(() if system.low_temperature is None else (2,), jnp.float32)
    stored = jax.tree.map(lambda a: shaped(a.shape, a.dtype), weights)
    of_noise = {
        SAMPLE: (sample, keys),
        DECODE: (decode, jax.eval_shape(lambda mel, keys: system.draw(mel, typed(keys)), mel, keys)),
    }

    def one(function: Any, noise: Any) -> export.Exported:
        # Unused arguments stay, so that what contract.json lists are the arguments of the StableHLO.
        jitted = jax.jit(function, keep_unused=True)
        return export.export(jitted, platforms=PLATFORMS)(stored, mel, frames, noise, temperature)

    return {name: one(*what) for name, what in of_noise.items()}
