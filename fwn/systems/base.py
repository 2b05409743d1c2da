"""The interface of a system to the training loop, the sampler and the evaluation: a few pure functions.

A batch is {"audio": [B, T] float32 in ±1, "mel": [B, F, M] float32, "index": [B] int32} with T = F · hop. Everywhere
below, the mel of a model that is told the speaker has who speaks in its last channels (nn/speaker.py), and M counts
them. `index` numbers the examples of a run, so that the noise of an example is the same on any number of devices. If
System.past is not 0, the batch has "past" [B, System.past], the audio before the crop. `loss` gets one device's share
of the batch, and "other" [B, F, M], the mel of a different example for each (parallel.paired). `frames` [B] is the
number of real frames of each mel in arrays that are padded to a common length; None: all frames. It may also be float
[B, F]: 0 in padding, else the weight of each frame in `log_likelihood` (nats_by_frame).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from fwn.errors import UserError, nearest, short
from fwn.flows.bijectors import total
from fwn.flows.densities import LSB
from fwn.nn.speaker import UNTOLD, SpeakerInput

Array = jax.Array
DTYPES = None, "bfloat16", "float16", "float32"  # in which a network multiplies


class Recurrence(NamedTuple):
    """Sampling in consecutive windows of mel frames, with a state that goes from one to the next.

    start: (batch size, dtype) -> state before the first sample.
    proceed: (params, mel [B, F, M], keys, temperature, frames, first, skip, state) -> (audio, state). Samples
        F - sum(receptive_field) frames of the window, from frame `skip` on. keys: [B], or the noise of the window,
        [B, T]. Other arguments as in System.sample.
    """

    start: Callable[..., Any]
    proceed: Callable[..., Any]


class System(NamedTuple):
    """A system as pure functions.

    init: (key, batch, drawn, frozen) -> params. The batch is a real one. drawn: weights that are drawn already
        (nn.conv.draw), or {}. frozen: a teacher's plain params, or ().
    loss: (params, frozen, batch, key) -> (scalar to minimise, metrics).
    draw: (mel [B, F, M], keys [B], first) -> standard noise [B, T] or [B, T, n]. One random key for each example.
        first: index of the mel's first frame in its utterance; noise is drawn by frame index.
    decode: (params, mel, noise, temperature, frames) -> audio [B, T]. temperature: scale of the noise; or an array,
        (scale, low_temperature), or (a scale for each level, …, low_temperature).
    log_likelihood: (params, audio [B, T], mel, frames) -> log p(audio | mel) in nats per audio sample, [B].
    receptive_field: mel frames (before, after) its own that a frame of audio depends on. In a window of an utterance,
        `sample` is wrong for this many frames at each cut, and right elsewhere.
    roundtrip: (params, audio, mel, frames) -> inverse(forward(audio)) [B, T]. None if the system is no flow, or if one
        of its directions goes sample by sample.
    encode: (params, audio, mel, frames) -> noise [B, T], of which `decode` at temperature 1 makes the audio again. None
        if the system is no flow.
    recurrence: set for autoregressive systems; None where all samples are made in parallel.
    past: number of real samples before a crop that the loss depends on.
    integers: whether log_likelihood expects 16-bit audio as recorded, without dequantisation noise.
    low_temperature: default scale of the noise in the bands of autoregression over blocks; None without such bands.
    unit: windows of an utterance begin at multiples of so many mel frames, as does what is kept of them.
    context: mel frames (before, after) its own that the likelihood and the noise of a frame depend on, through audio or
        mel; None: on all before it.
    levels: which scale of the temperature is that of each noise sample, 0, 1, …; it repeats after so many samples.
    speakers: how the model is told the speaker.
    """

    init: Callable[..., Any]
    loss: Callable[..., Any]
    draw: Callable[..., Any]
    decode: Callable[..., Any]
    log_likelihood: Callable[..., Any]
    receptive_field: tuple[int, int]
    roundtrip: Callable[..., Any] | None = None
    recurrence: Recurrence | None = None
    past: int = 0
    low_temperature: float | None = None
    integers: bool = False
    unit: int = 1
    speakers: SpeakerInput = UNTOLD
    encode: Callable[..., Any] | None = None
    context: tuple[int, int] | None = None
    levels: tuple[int, ...] = (0,)

    @property
    def nats_by_frame(self) -> Callable[..., Any]:
        """See the function of this name."""
        return nats_by_frame(self.log_likelihood)

    @property
    def temperature(self) -> float:
        """Default scale of the noise: the paper's 0.8; 1 with linear prediction, where less noise is less loud."""
        return 1.0 if self.past else 0.8

    def sample(
        self, params: Any, mel: Array, keys: Array, temperature: Any, frames: Array | None = None, first: Any = 0
    ) -> Any:
        """Audio [B, T] from noise of the keys [B]; arguments as in `draw` and `decode`."""
        return self.decode(params, mel, self.draw(mel, keys, first), temperature, frames)


def speaker_input(config: Any) -> SpeakerInput:
    """How config.speakers tells the speaker. Sizes that follow from a data set, which has not been read yet, are 1."""
    fields = config.get("speakers") or {"kind": "none"}
    size = {"none": 0, "id": len(fields.get("names", ())) or 1, "embedding": fields.get("size", 0) or 1}
    return SpeakerInput(fields["kind"], size[fields["kind"]])


def frame_mask(mel: Array, frames: Array | None) -> Array | None:
    """[B, F, 1], true in the first `frames[b]` frames; or the weights of the frames."""
    if frames is None:
        return None
    if frames.ndim == 2:
        return frames[..., None]
    return (jnp.arange(mel.shape[1]) < frames[:, None])[..., None]


def real_frames(mel: Array, frames: Array | None) -> Any:
    """Number of real frames: of all examples, or [B]."""
    if frames is None or frames.ndim == 1:
        return mel.shape[1] if frames is None else frames
    return jax.lax.stop_gradient(jnp.sum(frames != 0, axis=1))


def nats_by_frame(log_likelihood: Callable[..., Array]) -> Callable[..., Array]:
    """(params, audio, mel, frames [B]) -> nats per audio sample in each frame, [B, F]; their mean is log_likelihood's.

    A frame's share is the derivative of log p by the frame's weight, in which log p is linear: what its noise and the
    log-determinants at its positions add. A position with samples of two frames counts for the later one.
    """

    def by_frame(params: Any, audio: Array, mel: Array, frames: Array) -> Array:
        def nats(weights: Array) -> Array:
            return jnp.sum(log_likelihood(params, audio, mel, weights))

        mask: Any = frame_mask(mel, frames)
        return jax.grad(nats)(mask[..., 0].astype(audio.dtype)) * frames[:, None]

    return by_frame


def per_example(key: Array, index: Array) -> Array:
    """One key for each example, from its global index: the same for any batch size and number of devices."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(index)


def dequantise(audio: Array, key: Array, index: Array) -> Array:
    """Adds noise uniform over one 16-bit step: a density needs it on 16-bit data (Theis et al. 2016, section 3.1)."""
    noise = jax.vmap(lambda k: jax.random.uniform(k, audio.shape[1:], audio.dtype, -0.5, 0.5))(per_example(key, index))
    return audio + LSB * noise


def recorded(batch: dict[str, Array], key: Array, dequantised: bool) -> tuple[Array, Array | None]:
    """(audio [B, T], past [B, P] or None) of a batch, with dequantisation noise if asked for."""
    audio, past = batch["audio"], batch.get("past")
    if not dequantised:
        return audio, past
    if past is None:
        return dequantise(audio, key, batch["index"]), None
    both = dequantise(jnp.concatenate([past, audio], axis=1), key, batch["index"])
    return both[:, past.shape[1] :], both[:, : past.shape[1]]


def by_frame(key: Array, frames: int, draw: Callable[[Array], Array], first: Any = 0) -> Array:
    """draw(key) [hop, …] for each frame -> [frames · hop, …]. A frame's key is folded with its index, `first` + i."""
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(frames))
    drawn = jax.vmap(draw)(keys)
    return drawn.reshape(-1, *drawn.shape[2:])


def noise(keys: Array, frames: int, draw: Callable[[Array], Array], dtype: Any, first: Any = 0) -> Array:
    """Noise to sample from, drawn by frame (`by_frame`) for each of the keys [B] -> [B, frames · hop, …]."""
    return jax.vmap(lambda key: by_frame(key, frames, draw, first))(keys).astype(dtype)


def given(keys: Array) -> bool:
    """Whether the keys of Recurrence.proceed are the noise itself."""
    return not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)


def mean_over_audio(values: Array, mel: Array, frames: Array | None) -> Array:
    """The mean of [B, T] over the real samples of each example, [B], at least in float32."""
    mask, hop = frame_mask(mel, frames), values.shape[1] // mel.shape[1]
    samples = None if mask is None else jnp.repeat(mask, hop, axis=1)
    return total(values[..., None], samples) / (hop * real_frames(mel, frames))


def checked(
    fields: Any,
    modules: type[nn.Module] | tuple[type[nn.Module], ...],
    also: frozenset[str] = frozenset(),
    hidden: frozenset[str] = frozenset(),
    source: str = "config.model",
    zero: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """Fields of a config as a plain dict. Valid names: fields of the modules, without `hidden`, and `also`.

    zero: names of numbers that may be 0. Raises UserError for any other name, and for invalid sizes and types.
    """
    modules = modules if isinstance(modules, tuple) else (modules,)
    types = {name: field.type for module in modules for name, field in module.__dataclass_fields__.items()}
    known = types.keys() - {"parent", "name", "features", "speakers"} - hidden | also
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in dict(fields).items()}
    for name, value in values.items():
        if name not in known:
            raise UserError(f"{source}: no such field: {name!r}{nearest(name, known)}")
        kind = types.get(name)
        least = 0 if name in zero else 1
        if (kind is int or (kind == int | None and value is not None)) and not whole(value, least):
            raise UserError(f"{source}: {name} is {short(value)}; it must be a whole number, at least {least}")
        if kind == int | tuple[int, ...] and not (whole(value) or wholes(value)):
            raise UserError(
                f"{source}: {name} is {short(value)}; it must be a whole number, at least 1, or one such number "
                "for each block, as in (64,96)"
            )
        if kind == tuple[int, ...] and not wholes(value):
            raise UserError(
                f"{source}: {name} is {short(value)}; it must be whole numbers, each at least 1, as in (1,1)"
            )
        if kind == float | None and value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
            raise UserError(f"{source}: {name} is {short(value)}; it must be a positive number, or none")
        if kind is bool and type(value) is not bool:
            raise UserError(f"{source}: {name} is {short(value)}; it must be True or False")
        if name == "dtype" and value not in DTYPES:
            raise UserError(
                f"{source}: dtype is {short(value)}; there are: {', '.join(filter(None, DTYPES))}, or none for float32"
            )
    return values


def whole(value: Any, least: int = 1) -> bool:
    """Whether value is an integer of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def wholes(value: Any) -> bool:
    """Whether value is a tuple, not empty, of integers of at least 1."""
    return isinstance(value, tuple) and len(value) > 0 and all(map(whole, value))
