"""Speech in chunks and from streams is that of one pass over all, at every boundary and for every system."""

import dataclasses
import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fwn.errors import UserError
from fwn.mel import PRESETS, fitted
from fwn.synthesis import chunked
from fwn.synthesis.vocoder import Vocoder
from fwn.systems import build
from fwn.systems.base import noise
from fwn.training.checkpoints import Run
from fwn.xla import memory

MELS = 4
NARROW = {"channels": 2, "prior_channels": 2, "prediction": {"order": 0}}
PREDICTION = {"prediction": {"order": 6, "first_order": 2, "subframe": 8, "channels": 3}}
BLOCKWISE = {"autoregression": {"coefficients": 2, "block": 4, "channels": 3, "n_layer": 3, "taps": 6}}
SMALL = NARROW | {"n_block": 4, "n_flow": 3, "upsample_strides": (4, 4)}
LITE = SMALL | {"channels": (3, 2, 2, 2), "conditioner_channels": 3}  # of a frame 8, 4, 2 positions and 1
WAVENET = {"channels": 4, "gate_channels": 4, "skip_channels": 4}
# experiment, what is changed in its model: the paper's depth at small width, and small ones
DEEP = {
    "base": ("base", NARROW),
    "base without split": ("flowavenet_no_split", NARROW),
    "causal base": ("flowavenet_causal", NARROW),
    "lite": ("lite", NARROW | {"channels": (2,) * 8, "conditioner_channels": 3}),
    "lite without split": ("lite", NARROW | {"channels": (2,) * 8, "conditioner_channels": 3, "block_per_split": 8}),
}
SHALLOW = {
    "shallow": ("base", SMALL | {"block_per_split": 2}),
    "shallow, odd": (
        "base",
        SMALL | {"block_per_split": 1, "n_layer": 3, "prior_layer": 1, "upsample_strides": (3, 16)},
    ),
    "shallow without split": ("base", SMALL | {"block_per_split": 4}),
    "causal shallow": ("base", SMALL | {"causal": True, "block_per_split": 2}),
    "shallow lite": ("lite", LITE | {"block_per_split": 2}),
    "shallow lite, odd": (
        "lite",
        LITE | {"block_per_split": 1, "n_block": 3, "n_layer": 1, "channels": (3, 2, 2), "upsample_strides": (3, 16)},
    ),
    "shallow lite without split": ("lite", LITE | {"block_per_split": 4}),
    "causal shallow lite": ("lite", LITE | {"causal": True, "n_flow": 1}),
    "shallow lite, odd in x": ("lite", LITE | {"channels": (4, 2, 2, 2), "odd": True}),
    "shallow lite, prediction": ("lite", LITE | PREDICTION | {"channels": (4, 2, 2, 2), "odd": True}),
    "shallow lite, prediction and autoregression": ("lite", LITE | PREDICTION | BLOCKWISE),
    "prediction and autoregression alone": ("lite", LITE | PREDICTION | BLOCKWISE | {"n_block": 0}),
    "lite of one block": ("lite", LITE | {"channels": (2,), "n_block": 1, "n_flow": 1, "n_layer": 1}),
    "shallow clarinet": ("clarinet", WAVENET | {"n_layer": 4, "upsample_strides": (4, 4)}),
    "parallel_wavenet": ("parallel_wavenet", WAVENET | {"n_layer": 2, "stacks": (1, 2), "upsample_strides": (4, 4)}),
    "wavenet": ("wavenet_gaussian", WAVENET | {"n_layer": 3, "upsample_strides": (4, 4)}),
    "wavenet, prediction": (
        "wavenet_gaussian",
        WAVENET | PREDICTION | {"n_layer": 3, "upsample_strides": (4, 4)},
    ),
    "wavenet_mol": ("wavenet_mol", WAVENET | {"n_layer": 3, "upsample_strides": (4, 2)}),
}
# Positions of 16 samples do not divide a frame: windows begin at multiples of 4 or 16 frames.
ANY_HOP = {
    "hop 12": ("base", SMALL | {"block_per_split": 2, "upsample_strides": (3, 4)}),
    "hop 15": ("base", SMALL | {"block_per_split": 1, "upsample_strides": (3, 5)}),
    "hop 12, lite": ("lite", LITE | {"block_per_split": 2, "upsample_strides": (3, 4)}),
    "hop 5, lite": ("lite", LITE | {"n_flow": 1, "upsample_strides": (1, 5)}),
    "hop 12, lite, prediction and autoregression": (
        "lite",
        LITE | BLOCKWISE | {"upsample_strides": (3, 4), "prediction": PREDICTION["prediction"] | {"subframe": 4}},
    ),
}


@cache  # tests of one model share its compiled programs
def vocoder(name: str) -> Vocoder:
    """A model with weights away from every special value, whose audio neither dies out nor grows."""
    experiment, fields = (DEEP | SHALLOW | ANY_HOP)[name]
    config = importlib.import_module(f"experiments.{experiment}").get_config().unlock()
    config.model.update(fields)
    config = fitted(config)
    hop = int(np.prod(config.model.upsample_strides))
    frames = 1 if hop >= 16 else 4  # a whole position of the last block
    batch = {"audio": np.zeros((1, frames * hop)), "mel": np.zeros((1, frames, MELS)), "index": np.zeros(1, np.int32)}
    batch = jax.tree.map(lambda a: a.astype(np.float32) if a.dtype == float else a, batch)
    mel = dataclasses.replace(PRESETS["flowavenet"], hop_length=hop, n_mels=MELS)
    shapes = jax.eval_shape(build(config, mel=mel).init, jax.random.key(0), batch, {})
    rng = np.random.default_rng(0)

    def weight(path: Any, leaf: Any) -> np.ndarray:
        drawn = rng.normal(size=leaf.shape).astype(np.float32)
        name = path[-1].key
        if name == "kernel":
            return drawn / np.sqrt(np.prod(leaf.shape[:-1])) * (0.3 if path[-2].key in ("out", "odd_out") else 1)
        return 1 + 0.05 * drawn if name == "scale" else 0.1 * drawn

    return Vocoder(Run(config, mel, jax.tree_util.tree_map_with_path(weight, shapes), 0))


def mel_of(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (frames, MELS)).astype(np.float32)


def close(a: np.ndarray, b: np.ndarray) -> bool:
    """To 1e-5 of the largest sample, or of full scale: sums of another shape are rounded in another order."""
    assert a.shape == b.shape
    assert 0.05 < b.std() < 20
    return bool(abs(a - b).max() <= 1e-5 * max(1, abs(b).max()))


@pytest.fixture(scope="module")
def shallow() -> Vocoder:
    return vocoder("shallow")


@pytest.mark.parametrize(
    "name", [*DEEP, *(name for name in SHALLOW if "wavenet" not in name and "prediction" not in name)]
)
def test_halo_is_all_that_is_heard_and_no_more(name: str) -> None:
    """NaN in a frame of noise or mel reaches whatever is computed of it, however faint.

    (NaN in a squeezed mel would reach further, through the weights that the upsampling's filters are padded with:
    there another frame of mel is heard.)
    """
    v = vocoder(name)
    before, after = v.system.receptive_field
    at, frames, hop = after + 1, before + after + 3, v.mel.hop_length
    mel, temperature = np.stack([mel_of(frames)] * 3), np.ones((3, frames * hop), np.float32)
    mel[1, at] = np.nan if "encoder" in v.params else 100 * mel[1, at]
    temperature[2, at * hop : (at + 1) * hop] = np.nan
    audio = jax.jit(v.system.sample)(v.params, mel, jnp.stack([jax.random.key(0)] * 3), temperature, None)
    reached = np.flatnonzero((audio != audio[0]).reshape(3, frames, hop).any((0, 2)))
    assert (at - reached[0], reached[-1] - at) == (after, before)


@pytest.mark.parametrize("name", ["base", "base without split", "lite", "lite without split"])
def test_chunks_of_the_papers_depth(name: str) -> None:
    """Every boundary shows a receptive field that is one frame too short. The last chunk is shorter than the others."""
    v = vocoder(name)
    mel = mel_of(sum(v.system.receptive_field) + 6)
    assert close(v(mel, chunk=7), v(mel, chunk=0))


@pytest.mark.parametrize("name", ANY_HOP)
def test_windows_begin_where_positions_do(name: str) -> None:
    """Every chunk size gives the speech of one pass: of a batch, and up to an end in the middle of a position."""
    v = vocoder(name)
    before, after = v.system.receptive_field
    assert v.system.unit > 1
    assert before % v.system.unit == 0
    mels = [mel_of(before + after + n, n) for n in (5 * v.system.unit + 3, 2 * v.system.unit + 2)]
    keys = list(jax.random.split(jax.random.key(1), 2))
    for chunk in (1, v.system.unit, v.system.unit + 1):
        together = list(v.synthesise(mels, keys, 0.8, batch_size=2, chunk=chunk))
        for mel, key, audio in zip(mels, keys, together, strict=True):
            assert close(audio, v(mel, 0.8, key, chunk=0))
    stream = v.stream(iter(mels[0]), 0.8, keys[0], chunk=1)
    assert stream.latency_frames == v.system.unit + after - 1
    assert close(np.concatenate(list(stream)), v(mels[0], 0.8, keys[0], chunk=0))


@pytest.mark.parametrize("name", ANY_HOP)
def test_the_last_samples_go_through_all_blocks(name: str) -> None:
    """Sampling continues the mel by its last frame, so that its last positions are whole."""
    v, mel = vocoder(name), mel_of(7)
    sample = jax.jit(v.system.sample)
    keys = jax.random.key(0)[None]
    flows = v.params["block_3"]
    other = v.params | {"block_3": jax.tree.map(lambda a: 1.5 * a, flows)}
    one, another = (np.asarray(sample(params, mel[None], keys, 1.0, None))[0] for params in (v.params, other))
    assert len(one) == 7 * v.mel.hop_length
    assert (one[-15:] != another[-15:]).mean() > 0.9


@pytest.mark.parametrize("name", SHALLOW)
def test_chunks(name: str) -> None:
    v, mel = vocoder(name), mel_of(70)
    whole = v(mel, chunk=0)
    assert close(v(mel, chunk=1), whole)
    np.testing.assert_array_equal(v(mel, chunk=96), whole)  # nothing is cut that need not be


@pytest.mark.parametrize("name", ["shallow", "shallow lite", "shallow clarinet", "wavenet"])
def test_chunks_of_a_batch(name: str) -> None:
    """Examples end in different chunks."""
    v = vocoder(name)
    mels, keys = [mel_of(n, n) for n in (95, 66, 80)], list(jax.random.split(jax.random.key(1), 3))
    together = list(v.synthesise(mels, keys, 0.8, batch_size=3, chunk=13))
    for mel, key, audio in zip(mels, keys, together, strict=True):
        assert close(audio, v(mel, 0.8, key, chunk=0))


LUMPS = {"frame by frame": [1] * 70, "all at once": [70], "in lumps": [3, 1, 40, 2, 24]}


@pytest.mark.parametrize("lumps", LUMPS.values(), ids=LUMPS)
@pytest.mark.parametrize("name", ["shallow", "causal shallow", "shallow lite", "parallel_wavenet", "wavenet"])
def test_stream(name: str, lumps: list[int]) -> None:
    """It is the speech of the whole mel, in chunks, each as early as the latency says, whatever the lumps."""
    v = vocoder(name)
    mel, given, pieces, arrived = mel_of(70), [0], [], []

    def come() -> Iterator[np.ndarray]:
        for n in lumps:
            given[0] += n
            lump = mel[given[0] - n : given[0]]
            yield lump[0] if n == 1 else lump

    stream = v.stream(come(), 0.7, jax.random.key(3), chunk=13)
    for audio in stream:
        pieces.append(audio)
        arrived.append(given[0])
    assert [len(audio) for audio in pieces] == [13 * v.mel.hop_length] * 5 + [5 * v.mel.hop_length]
    np.testing.assert_array_equal(np.concatenate(pieces), v(mel, 0.7, jax.random.key(3), chunk=13))
    assert close(np.concatenate(pieces), v(mel, 0.7, jax.random.key(3), chunk=0))
    assert stream.latency == pytest.approx(stream.latency_frames * v.mel.hop_length / v.mel.sample_rate)
    assert stream.latency_frames == 13 + v.system.receptive_field[1] - 1
    if lumps[0] == 1:  # the first frame of each chunk waits longest, and no chunk waits for longer than it must
        assert arrived == [min(13 * i + 1 + stream.latency_frames, 70) for i in range(6)]


@pytest.mark.parametrize("frames", [1, 5, 16])
def test_stream_of_a_few_frames(shallow: Vocoder, frames: int) -> None:
    mel = mel_of(frames)
    stream = shallow.stream(mel)
    assert close(np.concatenate(list(stream)), shallow(mel))
    assert stream.latency_frames == sum(shallow.system.receptive_field) + shallow.system.receptive_field[1] - 1


def bad(value: float) -> np.ndarray:
    return np.full((2, MELS), value, np.float32)


STREAMS = [
    ([], "mel_frames is empty; give at least one frame"),
    ([mel_of(40), mel_of(0)], "mel_frames, from frame 40 on: the mel is empty, its shape is [0, 4]"),
    ([mel_of(40)[:, :3]], "mel_frames, from frame 0 on: the mel has the shape [40, 3], but {} has 4 bands"),
    ([mel_of(40), mel_of(9).T], "mel_frames, from frame 40 on: the mel has 9 bands, but {} has 4"),
    ([np.zeros(5, np.float32)], "mel_frames, from frame 0 on: the mel has the shape [1, 5], but {} has 4 bands"),
    (
        [*mel_of(7), bad(np.nan)],
        "mel_frames, from frame 7 on: 8 of 8 values are NaN or infinite, the first in frame 0, band 0",
    ),
    ([1.0], "mel_frames, from frame 0 on: a mel has the shape [frames, 4] or [4, frames], this has []"),
]


@pytest.mark.parametrize(("lumps", "message"), STREAMS)
def test_mistakes_in_a_stream(shallow: Vocoder, lumps: list[Any], message: str) -> None:
    """What was good before is heard."""
    heard = []
    with pytest.raises(UserError) as error:
        heard.extend(shallow.stream(iter(lumps), chunk=13))
    assert str(error.value) == message.format(shallow.mel.title)
    good = 40 if len(lumps) == 2 else 0
    assert len(heard) == (good - shallow.system.receptive_field[1]) // 13 if good else not heard


@pytest.mark.parametrize("chunk", [0, -1, 2.5, True])
def test_chunk_is_a_number_of_frames(shallow: Vocoder, chunk: Any) -> None:
    message = f"chunk is {chunk!r}; it must be a whole number of mel frames, at least "
    with pytest.raises(UserError) as error:
        shallow.stream([], chunk=chunk)
    assert str(error.value) == message + "1"
    if chunk != 0:
        with pytest.raises(UserError) as error:
            shallow(mel_of(20), chunk=chunk)
        assert str(error.value) == message + "0, 0 for all at once"


def test_noise_is_of_the_frame() -> None:
    keys = jax.random.key(2)[None]

    def normal(key: jax.Array) -> jax.Array:
        return jax.random.normal(key, (16,))

    later, whole = noise(keys, 9, normal, "float32", np.int32(5)), noise(keys, 14, normal, "float32")
    np.testing.assert_array_equal(later, whole[:, 5 * 16 :])


MIB = 2**20
WINDOWS = [  # padded length, receptive field, MiB a frame, MiB free, frames at a time
    (64, (0, 0), 1, 1000, 64),
    (64, (49, 49), 1, 1000, 256),  # all of it fits, and never a window of receptive field alone
    (1024, (49, 49), 1, 2048, 1024),
    (1536, (49, 49), 1, 1e6, 1024),
    (98304, (3, 3), 1, 2047, 768),
    (98304, (3, 3), 1, 1000, 384),
    (512, (49, 49), 1, 1, 256),
]


@pytest.mark.parametrize(("size", "receptive_field", "needs", "free", "expected"), WINDOWS)
def test_window_is_what_fits_half_of_the_free_memory(
    size: int,
    receptive_field: tuple[int, int],
    needs: float,
    free: float,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "device", lambda: memory.Memory(2**50, free * MIB))
    assert chunked.window(size, receptive_field, lambda frames: int(frames * needs * MIB)) == expected


@pytest.mark.parametrize("free", [None, 100_000])
def test_chunks_are_chosen(shallow: Vocoder, free: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    mel = mel_of(300)
    whole = shallow(mel)
    np.testing.assert_array_equal(whole, shallow(mel, chunk=0))
    windows = []
    run = shallow._sample
    monkeypatch.setattr(shallow, "_sample", lambda mel, *rest: windows.append(mel.shape[1]) or run(mel, *rest))
    if free is None:
        monkeypatch.setattr(chunked, "LONGEST", 96)
    else:
        monkeypatch.setattr(memory, "device", lambda: memory.Memory(2**50, free))
    assert close(shallow(mel), whole)
    assert windows == [96] * 7  # twice the receptive field of 48, so 48 are kept of each


def test_free_memory_is_that_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A control group that allows less is what counts; one that allows more is not."""
    monkeypatch.setattr(memory, "GROUPS", {})
    machine = memory.machine()
    assert 2**30 < machine.free <= machine.total < 2**50
    limit, use = tmp_path / "memory.max", tmp_path / "memory.stat"
    monkeypatch.setattr(memory, "GROUPS", {limit: (use, "anon")})
    use.write_text("anon 1000000\nfile 5\n")
    limit.write_text("3000000\n")
    assert memory.machine() == (3_000_000, 2_000_000)
    for text in ("max\n", f"{2**60}\n"):
        limit.write_text(text)
        assert memory.machine().total == machine.total
