"""What a system is to the training loop, the sampler and the evaluation: pure functions, and nothing else.

A batch is {"audio": [B, T] float32 in ±1, "mel": [B, F, M] float32, "index": [B] int32}, T = F · hop; index numbers
every example of a run, so that noise drawn per example is the same on any number of devices. Where System.past is not
0, it has "past" [B, System.past] too: the audio before. `loss` is given one device's share of it, and "other"
[B, F, M], the mel of another example for each (parallel.paired).
`frames` [B] says how many frames of each mel are real, where arrays are padded to a common length; None: all.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from fwn.errors import UserError, nearest
from fwn.flows.bijectors import total
from fwn.flows.densities import LSB

Array = jax.Array
DTYPES = None, "bfloat16", "float16", "float32"  # of a network's products


class Recurrence(NamedTuple):
    """Sampling that is continued: windows must follow one another.

    start: (batch size, dtype) -> state before the first sample.
    proceed: (params, mel [B, F, M], keys, temperature, frames, first, skip, state) -> (audio, state) of the frames of
        the window from `skip` on, as many as F without the receptive field; the other arguments as of System.sample.
    """

    start: Callable[..., Any]
    proceed: Callable[..., Any]


class System(NamedTuple):
    """
    init: (key, batch, drawn, frozen) -> params. drawn: weights already drawn (nn.conv.draw), or {}; the batch is real;
        frozen: a teacher's plain params, or ().
    loss: (params, frozen, batch, key) -> (scalar to minimise, metrics).
    sample: (params, mel [B, F, M], keys [B], temperature, frames, first) -> audio [B, T], with one random key an
        example. temperature: of the noise, or [2], where there is a low_temperature: both. first: the mel's first frame
        is this one of its utterance: frames of noise are drawn by their index.
    log_likelihood: (params, audio [B, T], mel, frames) -> log p(audio | mel) in nats per audio sample, [B].
    receptive_field: mel frames before and after its own that a frame of audio depends on. In a window cut out of an
        utterance `sample` is right but for so many frames at the cut ends; it may be cut between any two frames.
    roundtrip: (params, audio, mel, frames) -> inverse(forward(audio)) [B, T]; None: the system is no flow, or one whose
        forward goes sample by sample.
    recurrence: set for autoregressive systems; None where all samples are made in parallel, from the receptive field.
    past: samples of real audio before a crop that the loss depends on.
    integers: log_likelihood is of 16-bit audio as recorded; dequantisation noise would be out of its distribution.
    low_temperature: of what autoregression over blocks adds in its bands, where none is asked for; None: it has none.
    """

    init: Callable[..., Any]
    loss: Callable[..., Any]
    sample: Callable[..., Any]
    log_likelihood: Callable[..., Any]
    receptive_field: tuple[int, int]
    roundtrip: Callable[..., Any] | None = None
    recurrence: Recurrence | None = None
    past: int = 0
    low_temperature: float | None = None
    integers: bool = False

    @property
    def temperature(self) -> float:
        """Of the noise, where none is asked for: the paper's 0.8; 1 with linear prediction, where less is less loud."""
        return 1.0 if self.past else 0.8


def frame_mask(mel: Array, frames: Array | None) -> Array | None:
    """[B, F, 1], true in the first `frames[b]` frames."""
    return None if frames is None else (jnp.arange(mel.shape[1]) < frames[:, None])[..., None]


def per_example(key: Array, index: Array) -> Array:
    """One key an example, from its global index: the same for any batch size and number of devices."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(index)


def dequantise(audio: Array, key: Array, index: Array) -> Array:
    """Adds noise uniform over one 16-bit step: a density needs it on 16-bit data (Theis et al. 2016, section 3.1)."""
    noise = jax.vmap(lambda k: jax.random.uniform(k, audio.shape[1:], audio.dtype, -0.5, 0.5))(per_example(key, index))
    return audio + LSB * noise


def recorded(batch: dict[str, Array], key: Array, dequantised: bool) -> tuple[Array, Array | None]:
    """(audio [B, T], past [B, P] or None) of a batch, as the loss hears them."""
    audio, past = batch["audio"], batch.get("past")
    if not dequantised:
        return audio, past
    if past is None:
        return dequantise(audio, key, batch["index"]), None
    both = dequantise(jnp.concatenate([past, audio], axis=1), key, batch["index"])
    return both[:, past.shape[1] :], both[:, : past.shape[1]]


def by_frame(key: Array, frames: int, draw: Callable[[Array], Array], first: Any = 0) -> Array:
    """draw(key) [hop, …] of the frames from `first` on -> [frames · hop, …]: each frame's numbers are its own."""
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(frames))
    drawn = jax.vmap(draw)(keys)
    return drawn.reshape(-1, *drawn.shape[2:])


def noise(keys: Array, frames: int, draw: Callable[[Array], Array], dtype: Any, first: Any = 0) -> Array:
    """What is sampled from, drawn by frame for each of the keys [B] -> [B, frames · hop, …]; draw as in `by_frame`."""
    return jax.vmap(lambda key: by_frame(key, frames, draw, first))(keys).astype(dtype)


def updated(params: Any, others: Any) -> Any:
    """A tree of weights with those of another in their places."""
    return unflatten_dict(flatten_dict(params) | flatten_dict(others))


def mean_over_audio(values: Array, mel: Array, frames: Array | None) -> Array:
    """The mean of [B, T] over the real samples of each example, [B], at least in float32."""
    mask, hop = frame_mask(mel, frames), values.shape[1] // mel.shape[1]
    samples = None if mask is None else jnp.repeat(mask, hop, axis=1)
    return total(values[..., None], samples) / (hop * (mel.shape[1] if frames is None else frames))


def checked(
    fields: Any,
    modules: type[nn.Module] | tuple[type[nn.Module], ...],
    also: frozenset[str] = frozenset(),
    hidden: frozenset[str] = frozenset(),
    source: str = "config.model",
    zero: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """Fields of a config as a plain dict: those of the modules and what is known `also`, without what is `hidden`.

    zero: numbers that may be 0. Raises UserError for any other name, and for sizes and types that no network can have.
    """
    modules = modules if isinstance(modules, tuple) else (modules,)
    types = {name: field.type for module in modules for name, field in module.__dataclass_fields__.items()}
    known = types.keys() - {"parent", "name", "features"} - hidden | also
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in dict(fields).items()}
    for name, value in values.items():
        if name not in known:
            raise UserError(f"{source}: no such field: {name!r}{nearest(name, known)}")
        kind = types.get(name)
        least = 0 if name in zero else 1
        if kind is int and not whole(value, least):
            raise UserError(f"{source}: {name} is {value!r}; it must be a whole number, at least {least}")
        if kind == int | tuple[int, ...] and not (whole(value) or wholes(value)):
            raise UserError(
                f"{source}: {name} is {value!r}; it must be a whole number, at least 1, or one such number "
                "for each block, as in (64,96)"
            )
        if kind == tuple[int, ...] and not wholes(value):
            raise UserError(f"{source}: {name} is {value!r}; it must be whole numbers, each at least 1, as in (1,1)")
        if name == "dtype" and value not in DTYPES:
            raise UserError(
                f"{source}: dtype is {value!r}; there are: {', '.join(filter(None, DTYPES))}, or none for float32"
            )
    return values


def whole(value: Any, least: int = 1) -> bool:
    """Whether it is a whole number, at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def wholes(value: Any) -> bool:
    """Whether it is a tuple of them, and not empty."""
    return isinstance(value, tuple) and len(value) > 0 and all(map(whole, value))
