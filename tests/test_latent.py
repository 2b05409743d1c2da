"""Noise of recordings and back, between two noises, by level; likelihood by frame; in windows as in one pass."""

from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from test_chunked import SHALLOW, mel_of, vocoder

from fwn.errors import UserError

FLOWS = [
    "shallow",
    "shallow lite, odd",
    "shallow lite, prediction and autoregression",
    "parallel_wavenet",
    "hop 12",
    "hop 12, lite, prediction and autoregression",
]
ALL = [*FLOWS, "wavenet, prediction", "wavenet_mol"]
IN_WINDOWS = [name for name in ALL if name != "parallel_wavenet"]


def recording(model, frames, seed=0):
    """Audio of the model itself, and its mel: any other has noise that float32 cannot hold for random weights."""
    mel = mel_of(frames, seed)
    return model(mel, 1.0, jax.random.key(seed)), mel


def scaled(found, expected, most):
    assert found.shape == expected.shape
    assert abs(found - expected).max() <= most * max(1, abs(expected).max())


@pytest.mark.parametrize("name", FLOWS)
def test_decode_is_the_inverse_of_encode(name):
    model = vocoder(name)
    audio, mel = recording(model, 21)
    noise = model.encode(audio, mel)
    assert noise.shape == audio.shape
    scaled(model.decode(noise, mel), audio, 2e-4)


@pytest.mark.parametrize("name", FLOWS)
def test_the_noise_of_a_key_decodes_to_the_audio_of_the_key(name):
    """At the end of an utterance whose hop no position divides, a call has noise for the rest of the last position."""
    model = vocoder(name)
    frames = 21 if name in SHALLOW else 90
    mel, key = mel_of(frames), jax.random.key(7)
    expected = model(mel, 0.7, key)
    noise = model.noise(frames, key)
    found = model.decode(noise, mel, 0.7, 1.0 if model.low_temperature is None else model.low_temperature)
    end = len(expected) - (0 if name in SHALLOW else (1 + sum(model.system.receptive_field)) * model.mel.hop_length)
    assert end > 0
    scaled(found[:end], expected[:end], 2e-5)


@pytest.mark.parametrize("name", ALL)
def test_the_nats_of_frames_are_the_likelihood(name):
    model = vocoder(name)
    audio, mel = recording(model, 21)
    nats = model.log_likelihood(audio, mel, per_frame=True)
    assert nats.shape == (21,)
    whole = model.log_likelihood(audio, mel)
    assert nats.mean() == pytest.approx(float(whole), abs=2e-6 * max(1, float(abs(nats).max())))
    assert nats.std() > 1e-3


@pytest.mark.parametrize(
    "name", ["shallow", "shallow lite, odd", "shallow lite, prediction and autoregression", "wavenet"]
)
def test_a_change_of_a_frame_changes_nats_only_within_the_context(name):
    """A frame's nats are what its samples add: one changed sample is seen where the model sees it, and nowhere else."""
    model = vocoder(name)
    (before, after), hop = model.system.context, model.mel.hop_length
    frames = before + after + 6
    audio, mel = recording(model, frames)
    changed = audio.copy()
    changed[(after + 2) * hop + 3] += 0.1
    one, two = (model.log_likelihood(a, mel, per_frame=True) for a in (audio, changed))
    at = after + 2
    moved = np.flatnonzero(abs(one - two) > 1e-4)
    assert at in moved
    assert at - after <= moved.min() <= moved.max() <= at + before


@pytest.mark.parametrize(
    ("name", "what"),
    [
        (name, what)
        for name in IN_WINDOWS
        for what in ("encode", "decode", "nats", "mean")
        if name in FLOWS or what in ("nats", "mean")
    ],
)
def test_windows_are_one_pass(name, what):
    model = vocoder(name)
    frames = sum(model.system.context) + 3 * model.system.unit + 7
    audio, mel = recording(model, frames)
    call = {
        "encode": lambda chunk: model.encode(audio, mel, chunk=chunk),
        "decode": lambda chunk: model.decode(model.noise(frames, jax.random.key(3)), mel, 0.8, chunk=chunk),
        "nats": lambda chunk: model.log_likelihood(audio, mel, per_frame=True, chunk=chunk),
        "mean": lambda chunk: model.log_likelihood(audio, mel, chunk=chunk),
    }[what]
    scaled(call(2), call(0), 2e-5)


def test_several_are_each():
    model = vocoder("shallow lite, prediction and autoregression")
    pairs = [recording(model, 9, 0), recording(model, 9, 1), recording(model, 12, 2)]
    audios, mels = zip(*pairs, strict=True)
    listed = model.encode(list(audios), list(mels))
    assert isinstance(listed, list)
    for found, audio, mel in zip(listed, audios, mels, strict=True):
        np.testing.assert_array_equal(found, model.encode(audio, mel))
    batch = model.encode(np.stack(audios[:2]), np.stack(mels[:2]))
    np.testing.assert_array_equal(batch, np.stack(listed[:2]))
    np.testing.assert_array_equal(model.decode(batch, np.stack(mels[:2]))[1], model.decode(listed[1], mels[1]))
    by_frame = model.log_likelihood(list(audios), list(mels), per_frame=True)
    assert [nats.shape for nats in by_frame] == [(9,), (9,), (12,)]


def test_levels_are_the_splits():
    """Of four blocks with a split after each two: half of the noise leaves at the first, the rest at the end."""
    model = vocoder("shallow")
    levels = model.levels(3)
    assert levels.shape == (3 * 16,)
    assert (np.bincount(levels) == [24, 24]).all()
    weights = model.params
    audio, mel = recording(model, 3)
    noise = model.encode(audio, mel)
    # The first level is ε of the prior after block 1; nothing of it reaches the blocks inside: of another prior it
    # alone changes.
    prior = weights["block_1"]["prior"]
    other = jax.tree.map(lambda a: a + 0.1, prior)
    weights["block_1"]["prior"] = other
    try:
        moved = abs(type(model).encode(fresh(model), audio, mel) - noise) > 1e-6
    finally:
        weights["block_1"]["prior"] = prior
    assert moved[levels == 0].any()
    assert not moved[levels == 1].any()


def fresh(model):
    """The same model, with nothing compiled: a compiled program has the weights as arguments, by value."""
    from fwn.training.checkpoints import Run

    return type(model)(Run(model.config, model.mel, model.params, 0))


def test_temperatures_by_level_scale_the_noise_of_the_level():
    model = vocoder("shallow")
    mel, key = mel_of(11), jax.random.key(2)
    noise, levels = model.noise(11, key), model.levels(11)
    expected = model.decode(noise * np.array([0.3, 0.9], np.float32)[levels], mel)
    scaled(model(mel, [0.3, 0.9], key), expected, 2e-5)
    scaled(model(mel, [0.3, 0.9], key, chunk=2), expected, 2e-5)
    scaled(model(mel, [0.6, 0.6], key), model(mel, 0.6, key), 2e-5)
    scaled(np.concatenate(list(model.stream(mel, [0.3, 0.9], key, chunk=3))), expected, 2e-5)
    low = vocoder("shallow lite, prediction and autoregression")
    scaled(low(mel, [0.6], key), low(mel, 0.6, key), 2e-5)


def test_between_two_noises():
    model = vocoder("shallow")
    a, b = (model.noise(40, jax.random.key(i)) for i in (0, 1))
    np.testing.assert_allclose(model.interpolate(a, b, 0), a, atol=1e-6)
    np.testing.assert_allclose(model.interpolate(a, b, 1), b, atol=1e-6)
    assert model.interpolate(a, b, 0.5).std() == pytest.approx(1, abs=0.1)  # normal again, where a mean has 0.71
    levels, mixed = model.levels(40), model.interpolate(a, b, [0, 1])
    np.testing.assert_allclose(mixed, np.where(levels == 0, a, b), atol=1e-6)


def test_a_model_that_is_no_flow_is_refused():
    model = vocoder("wavenet")
    audio, mel = np.zeros(5 * 16, np.float32), mel_of(5)
    for call in (model.encode, model.decode):
        with pytest.raises(UserError, match="wavenet is not a flow"):
            call(audio, mel)
    with pytest.raises(UserError, match=r"temperature is .*give a finite number, 0 or more, or 2, one for each level"):
        vocoder("shallow")(mel, [0.1, 0.2, 0.3])


def test_threads_share_a_model():
    """Each program is compiled once, by whoever needs it first, and no thread sees another's state."""
    model = fresh(vocoder("shallow lite, prediction and autoregression"))
    mels = [mel_of(n, n) for n in (3, 9, 30, 70)] * 4

    def one(mel):
        audio = model(mel, 1.0, jax.random.key(1), chunk=0)
        return audio, np.concatenate(list(model.stream(mel, 1.0, jax.random.key(1), chunk=8)))

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(one, mels))
    for (audio, streamed), mel in zip(together, mels, strict=True):
        again, also = one(mel)
        np.testing.assert_array_equal(audio, again)
        np.testing.assert_array_equal(streamed, also)
    seconds = sum(len(mel) for mel in mels) * 4 * model.mel.hop_length / model.mel.sample_rate
    assert model.sampled_seconds == pytest.approx(seconds)


def test_warming_up_compiles_what_a_call_needs():
    model = fresh(vocoder("shallow"))
    assert model.warm_up([10, 20, 70]) > 0
    compiled = model.compile_seconds
    for frames in (1, 64, 65, 96):
        model(mel_of(frames))
    assert model.compile_seconds == compiled
    model(mel_of(97))
    assert model.compile_seconds > compiled
