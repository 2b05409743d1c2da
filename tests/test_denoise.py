"""--denoise removes the lines of the model's own silence and no more; temperatures by level; edges and silence."""

import jax
import numpy as np
import pytest
import small
import test_speakers as speakers
from test_chunked import ANY_HOP
from test_chunked import vocoder as of_any_hop

import fwn
from fwn import shipped
from fwn.audio.spectral import line_excess
from fwn.synthesis import tones
from fwn.synthesis.vocoder import Vocoder

HOP = small.HOP
MEL = np.random.default_rng(2).uniform(0, 0.5, (70, 80)).astype(np.float32)
VOICES = ["lj-mini", "lj-mini-predictor"]


@pytest.fixture(scope="module")
def humming(run):
    """A model with tones: its couplings are not odd, and its weights are random."""
    return small.shaken(run)


@pytest.fixture
def denoising(humming):
    yield humming
    humming.denoise, humming.level_temperatures = 0.0, None


def test_lines_are_what_repeats(rng):
    """To the error of a mean over periods; white noise has none, and neither has a tone between two lines."""
    time, noise = np.arange(tones.FRAMES * HOP), 0.01 * rng.normal(size=tones.FRAMES * HOP)
    given = 0.1 * np.sin(2 * np.pi * time / 16 + 1) + 0.02 * np.cos(2 * np.pi * time * 3 / 32)
    found = tones.stationary(given + noise + 0.005, HOP)
    np.testing.assert_allclose(found, given[:HOP], atol=4 * 0.01 / np.sqrt(tones.FRAMES))
    assert np.count_nonzero(abs(np.fft.rfft(found)) > 1e-9) == 2
    between = 0.1 * np.sin(2 * np.pi * time * 4.5 / HOP)
    for other in (noise, between, noise * (1 + between)):
        assert not tones.stationary(other, HOP).any()


def test_the_tones_of_silence_are_removed_and_nothing_else(denoising):
    """The same samples leave every frame, whole or in a stream, alone or in a batch. Silence has no tone then."""
    key, silence = jax.random.key(1), denoising.silence(400)
    np.testing.assert_array_equal(silence, np.zeros((400, 80)))
    with_tones, quiet = denoising(MEL, 0.5, key), denoising(silence, 0.5, key)
    both = denoising(np.stack([MEL, MEL]), 0.5, key)
    denoising.denoise = 1.0
    removed = (with_tones - denoising(MEL, 0.5, key)).reshape(-1, HOP)
    scale = abs(removed).max()
    assert scale > 0.05 * abs(quiet).max()
    np.testing.assert_allclose(removed, np.broadcast_to(removed[0], removed.shape), atol=1e-5 * abs(with_tones).max())
    streamed = np.concatenate(list(denoising.stream([MEL], 0.5, key, chunk=32)))
    np.testing.assert_allclose(streamed, with_tones - removed.ravel(), atol=1e-4 * abs(with_tones).max())
    np.testing.assert_allclose(
        both - denoising(np.stack([MEL, MEL]), 0.5, key), np.tile(removed.ravel(), (2, 1)), atol=1e-5
    )
    middle = slice(50 * HOP, 350 * HOP)
    assert line_excess(quiet[middle])[3] > 5  # period 4: two blocks
    assert line_excess(denoising(silence, 0.5, key)[middle])[3] < 2
    denoising.denoise = 0.5
    half = (with_tones - denoising(MEL, 0.5, key)).reshape(-1, HOP)
    np.testing.assert_allclose(half, removed / 2, atol=1e-5 * abs(with_tones).max())


@pytest.mark.parametrize("name", ANY_HOP)
def test_tones_whose_period_is_no_divisor_of_the_hop(name, monkeypatch):
    """Positions of the last block begin with a mel frame only every few frames: so long is the period."""
    vocoder = of_any_hop(name)
    key, unit, hop = jax.random.key(3), vocoder.system.unit, vocoder.mel.hop_length
    silence = vocoder.silence(128 * unit)
    assert unit > 1
    before = vocoder(silence, 0.2, key)
    monkeypatch.setattr(vocoder, "denoise", 1.0)
    after = vocoder(silence, 0.2, key)
    streamed = np.concatenate(list(vocoder.stream([silence], 0.2, key, chunk=64)))
    removed = (before - after).reshape(-1, unit * hop)
    np.testing.assert_allclose(removed, np.broadcast_to(removed[0], removed.shape), atol=1e-5 * abs(before).max())
    np.testing.assert_allclose(streamed, after, atol=1e-4 * abs(before).max())
    middle = slice(32 * unit * hop, 96 * unit * hop)
    found, left = (np.square(tones.stationary(audio[middle], unit * hop)).sum() for audio in (before, after))
    assert left < 0.05 * found


def test_every_speaker_has_tones_of_her_own():
    vocoder = Vocoder(speakers.model("flowavenet, squeezed", "id", np.random.default_rng(3)))
    before = [vocoder(MEL, 0.5, speaker=who) for who in ("ann", "bob")]
    vocoder.denoise = 1.0
    removed = [audio - vocoder(MEL, 0.5, speaker=who) for audio, who in zip(before, ("ann", "bob"), strict=True)]
    streamed = np.concatenate(list(vocoder.stream([MEL], 0.5, chunk=32, speaker="bob")))
    np.testing.assert_allclose(streamed, before[1] - removed[1], atol=1e-4 * abs(before[1]).max())
    assert abs(removed[0] - removed[1]).max() > 0.05 * abs(removed[0]).max() > 0


def test_noise_and_back_know_no_denoising(denoising):
    noise = denoising.noise(len(MEL))
    before = denoising.decode(noise, MEL)
    denoising.denoise = 1.0
    np.testing.assert_array_equal(denoising.decode(noise, MEL), before)


@pytest.mark.parametrize("voice", VOICES)
def test_odd_couplings_leave_nothing_to_remove(voice):
    """The voices that come with fwn are odd: --denoise changes no sample of them."""
    vocoder = fwn.load(shipped.folder("voices") / voice)
    before = vocoder(MEL[:60])
    vocoder.denoise = 1.0
    np.testing.assert_array_equal(vocoder(MEL[:60]), before)


def test_factors_by_level_are_temperatures_by_level(denoising):
    expected = denoising(MEL, [0.4, 0.8])
    streamed = np.concatenate(list(denoising.stream([MEL], [0.4, 0.8], chunk=32)))
    denoising.level_temperatures = [0.5, 1.0]
    np.testing.assert_array_equal(denoising(MEL, 0.8), expected)
    np.testing.assert_array_equal(np.concatenate(list(denoising.stream([MEL], 0.8, chunk=32))), streamed)
    assert abs(denoising(MEL, 0.4) - expected).max() > 1e-3


@pytest.mark.parametrize("voice", VOICES)
def test_silence_is_silent_and_edges_do_not_click(voice):
    """Of a mel at its floor the audio is below -60 dBFS. Speech cut in the midst begins and ends as it is inside."""
    vocoder = fwn.load(shipped.folder("voices") / voice)
    silence = vocoder(vocoder.silence(200))
    assert 10 * np.log10(np.square(silence).mean()) < -60
    assert abs(silence).max() < 10 ** (-50 / 20)
    mel = np.load(shipped.folder("voices") / "lj-mini" / "mels" / "LJ002-0173.npy")
    for first in (40, 120, 200):
        whole = vocoder(mel[: first + 100])[first * HOP :]
        cut = vocoder(mel[first : first + 60])
        for inside, edge in ((whole[: 60 * HOP], cut), (whole[: 60 * HOP][::-1], cut[::-1])):
            level = np.square(inside[: 4 * HOP]).mean()
            assert np.square(edge[:64]).mean() < 4 * level, (first, "louder by 6 dB than the speech around")
            assert abs(edge[0]) < 4 * np.sqrt(level)
