"""fwn.score: curves that add up, typicality instead of likelihood, splices; bits per sample."""

import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import small
import soundfile

from data_prep.prepare import Kind, prepare
from fwn import shipped
from fwn.audio import audio_file
from fwn.evaluation import bits, measure, splices, typical_file
from fwn.evaluation.scored import Scored, by_frame, scored, statistics, surprise, usual
from fwn.evaluation.typicality import judge, reference
from fwn.flows.densities import LSB
from fwn.mel import PRESETS, align
from fwn.synthesis import exported
from fwn.synthesis.vocoder import Vocoder
from fwn.training import checkpoints

RATE = small.RATE / small.HOP  # mel frames per second
BANDS = 5


def spoken(rng: np.random.Generator, frames: int, scale: float = 1.0, smooth: float = 0.0) -> Scored:
    """What an ideal model would say of speech: normal noise, nats by the mel. scale, smooth: of its noise."""
    mel = rng.uniform(0, 1, (frames, BANDS))
    white = rng.normal(size=frames * small.HOP + 1)
    noise = scale * (white[1:] + smooth * white[:-1]) / math.hypot(1, smooth)
    squares = np.square(noise.reshape(frames, -1)).mean(axis=1)
    nats = 6 - mel @ np.arange(BANDS) - 0.5 * squares
    return Scored(np.zeros(frames * small.HOP, np.float32), mel, nats, noise.reshape(frames, -1))


@pytest.fixture(scope="module")
def heard():
    """The reference of sixty ideal utterances of 0.7 to 9 s."""
    rng = np.random.default_rng(0)
    return reference([spoken(rng, 60 + 12 * i) for i in range(60)], RATE)


def test_the_mel_explains_what_it_can():
    """Weights are those by which nats were made, and the surprise is the rest."""
    clips = [spoken(np.random.default_rng(i), 300) for i in range(10)]
    weights = usual(clips)
    np.testing.assert_allclose(weights[:-1], -np.arange(BANDS), atol=0.02)
    assert abs(np.concatenate([surprise(s, weights) for s in clips]).mean()) < 1e-9


def test_stretches_are_judged_by_their_length(heard):
    """Shorter ones vary more: their standard deviations fall as the square root of the length."""
    assert [length.frames for length in heard.lengths] == [round(seconds * RATE) for seconds in (0.5, 1, 2, 4)]
    power = [length.sd[3] * math.sqrt(length.frames) for length in heard.lengths]
    assert max(power) < 1.4 * min(power)
    for frames, stretch in ((5, None), (60, None), (61, 0.5), (110, 1), (362, 2), (363, 4), (2000, 4)):
        found = judge(spoken(np.random.default_rng(1), frames), heard, RATE).stretch
        assert found == (None if stretch is None else pytest.approx(stretch, abs=0.01))


def test_as_many_are_atypical_as_is_said(heard):
    p = np.array([judge(spoken(np.random.default_rng(100 + i), 86 + 18), heard, RATE).p for i in range(200)])
    assert 0.01 <= (p <= 0.05).mean() <= 0.10
    assert 0.40 <= (p <= 0.5).mean() <= 0.60


@pytest.mark.parametrize(
    ("changes", "furthest", "sign"),
    [
        ({"scale": 1.2}, "noise_power", 1),
        ({"scale": 0.8}, "noise_power", -1),  # more likely than speech, and no speech
        ({"smooth": 0.5}, "noise_correlation", 1),
    ],
)
def test_both_tails_and_the_whiteness_count(heard, changes, furthest, sign):
    of_speech = judge(spoken(np.random.default_rng(1), 400), heard, RATE)
    found = judge(spoken(np.random.default_rng(1), 400, **changes), heard, RATE)
    assert of_speech.typical
    assert not found.typical
    assert found.furthest == furthest
    assert found.deviations[furthest] * sign > 4
    if sign < 0:
        assert found.statistics["nats"] > of_speech.statistics["nats"]


def test_the_statistics_are_what_they_are_called(rng):
    s = spoken(rng, 50, smooth=1.0)
    nats, below, spread, power, peak, correlation = statistics(by_frame(s, np.zeros(BANDS + 1)))
    assert nats == pytest.approx(s.nats.mean())
    assert below == pytest.approx(-s.nats.mean())  # nothing is usual
    assert spread == pytest.approx(s.nats.std())
    assert power == pytest.approx(np.square(s.noise).mean())
    assert peak == pytest.approx(np.abs(s.noise).max(axis=1).mean())
    assert correlation * math.sqrt(16) == pytest.approx(0.5, abs=0.05)  # of lag 1; none of the others


def test_a_click_is_found_but_not_at_an_end(rng):
    s = spoken(rng, 100)
    for frame, found in ((2, 0.0), (50, 50), (97, 0.0)):
        clicked = s.noise.copy()
        clicked[frame, 100:103] = 20
        scores = splices.score(s._replace(noise=clicked), RATE)
        level = splices.score(s, RATE).max()
        assert [round(m.seconds * RATE - 0.5) for m in splices.moments(scores, RATE, level)] == [found][: bool(found)]


def test_moments_are_apart_and_the_alarm_is_rare(rng):
    scores = rng.exponential(size=3000)
    found = splices.moments(scores, RATE, 2.0)
    at = np.array([m.seconds for m in found])
    assert np.diff(np.sort(at)).min() >= splices.APART
    assert [m.score for m in found] == sorted((m.score for m in found), reverse=True)
    assert found[0].score == scores.max()
    clips = [rng.exponential(size=1000) for _ in range(20)]
    level, minutes = splices.alarm(clips, RATE), 20000 / RATE / 60
    assert 0 < sum(len(splices.moments(clip, RATE, level)) for clip in clips) < minutes


# -- with models


@pytest.fixture(scope="module")
def spoken_data(tmp_path_factory):
    """Twenty-six held-out recordings of 0.9 s."""
    folder = tmp_path_factory.mktemp("spoken")
    small.record(folder / "in", [20000] * 27)
    kind = Kind(PRESETS["flowavenet"], "int16", "float32")
    assert prepare("folder", folder / "in", folder / "data", kind, 0.97, None, 1) == []
    return folder / "data"


@pytest.fixture(scope="module")
def referred(run, spoken_data, tmp_path_factory):
    """A voice with its reference, made by the program, and what that printed."""
    voice = tmp_path_factory.mktemp("referred") / "voice"
    exported.write_voice(voice, checkpoints.read(run))
    result = small.program("fwn.score", f"--ckpt={voice}", f"--data={spoken_data}", "--save_reference")
    assert (result.code, result.err) == (0, "")
    return voice, result.out


def test_a_reference_is_kept_with_the_model(referred, spoken_data):
    voice, printed = referred
    assert f"written: {voice / 'typical.json'}\n" in printed
    assert "compared with 26 held-out utterances, 23.9 s" in printed
    values = json.loads((voice / "typical.json").read_text())
    assert (values["step"], values["data"]) == (8, str(spoken_data))
    run = exported.read_run(voice)
    assert values["sha256"] == typical_file.fingerprint(run.params)
    assert typical_file.read(voice, run).utterances == 26


def test_files_are_scored_and_bad_ones_left_out(referred, tmp_path):
    """The mean of the curve is the likelihood that the API gives; the figures of a file do not depend on the others."""
    voice, _ = referred
    (tmp_path / "in").mkdir()
    audio_file.write(tmp_path / "in" / "a.wav", small.speech(3, 20000), small.RATE)
    soundfile.write(tmp_path / "in" / "b.flac", small.speech(4, 30000), 32000)
    (tmp_path / "in" / "c.wav").write_text("no audio")
    result = small.program("fwn.score", tmp_path / "in", f"--ckpt={voice}", f"--output={tmp_path / 'out'}")
    assert (result.code, result.err) == (3, ""), result
    assert f"left out {tmp_path / 'in' / 'c.wav'}: not an audio file" in result.out
    assert "b.flac: resampled 32000 -> 22050 Hz" in result.out
    assert re.search(r"a\.wav: -?[\d.]+ nats/sample, (not )?typical: [\d.]+% of held-out speech is as far", result.out)
    names = {"scores.json", "a.png", "a.csv", "b.png", "b.csv"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    found = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert found["left_out"][0].startswith(str(tmp_path / "in" / "c.wav"))
    first = found["recordings"][0]
    curve = np.loadtxt(tmp_path / "out" / "a.csv", delimiter=",", skiprows=1)
    assert curve[:, 1].mean() == pytest.approx(first["nats_per_sample"], abs=1e-5)
    vocoder = Vocoder(exported.read_run(voice))
    audio, mel = align(audio_file.read(tmp_path / "in" / "a.wav", small.RATE)[0], vocoder.mel)
    steps = np.round(audio / LSB).astype(np.float32) * np.float32(LSB)
    noisy = measure.dequantised(steps, np.random.default_rng(0))
    assert first["nats_per_sample"] == pytest.approx(float(vocoder.log_likelihood(noisy, mel)), abs=1e-4)
    alone = small.program("fwn.score", f"--wav={tmp_path / 'in' / 'a.wav'}", f"--ckpt={voice}")
    assert alone.code == 0
    assert next(line for line in alone.out.splitlines() if "a.wav" in line) in result.out


def test_white_noise_is_not_the_models_speech(referred, tmp_path, rng):
    voice, _ = referred
    audio_file.write(tmp_path / "noise.wav", 0.2 * rng.uniform(-1, 1, 20000), small.RATE)
    result = small.program("fwn.score", tmp_path / "noise.wav", f"--ckpt={voice}")
    assert result.code == 0
    assert "not typical" in result.out


@pytest.fixture(scope="module")
def lj_mini():
    """(the vocoder of the voice, its reference as it ships)"""
    folder = Path(shipped.voice())
    run = exported.read_run(folder)
    found = typical_file.read(folder, run)
    assert found
    return Vocoder(run), found


def of_voice(lj_mini, audio):
    """(what the voice says of audio, its verdict)"""
    audio, mel = align(audio.astype(np.float32), lj_mini[0].mel)
    s = scored(lj_mini[0], audio_file.pcm16(audio)[0].astype(np.float32) / 32768, mel, np.random.default_rng(0))
    return s, judge(s, lj_mini[1], RATE)


FRAMES = 120  # of the clips below, 1.4 s, padded to 128


def test_a_higher_likelihood_is_no_better_recording(lj_mini, shared):
    """A blip in silence has twice the nats of the held-out recording, and is not typical; the recording is."""
    file = shared / "data" / "ljspeech-mini" / "wavs" / "LJ002-0173.flac"
    recording = audio_file.read(file, small.RATE)[0][: FRAMES * small.HOP]
    blip = np.zeros(FRAMES * small.HOP)
    blip[15000:15400] = np.sin(np.arange(400) / 10)
    of_speech, of_blip = (of_voice(lj_mini, audio)[1] for audio in (recording, blip))
    assert of_blip.statistics["nats"] > of_speech.statistics["nats"] + 2
    assert of_speech.typical
    assert not of_blip.typical


def test_a_splice_is_found(lj_mini):
    """A clip of the voice's own, a piece cut out of its loudest vowel: one moment, there. Without the cut, none."""
    file = Path(shipped.voice()) / "samples" / "LJ002-0173.voice.flac"
    clip = audio_file.read(file, small.RATE)[0][50000 : 50000 + FRAMES * small.HOP + 9000]
    whole = clip[: FRAMES * small.HOP]
    loud = np.convolve(np.square(whole[:-9000]), np.ones(2000), mode="same")
    cut = int(loud[8000:-3000].argmax()) + 8000
    spliced = np.concatenate([clip[:cut], clip[cut + 3001 :]])[: len(whole)]
    found = [
        splices.moments(splices.score(of_voice(lj_mini, a)[0], RATE), RATE, lj_mini[1].alarm) for a in (whole, spliced)
    ]
    assert found[0] == []
    assert [abs(m.seconds - cut / small.RATE) < 0.03 for m in found[1]] == [True]


def test_voices_come_with_their_reference():
    for folder in sorted(shipped.folder("voices").iterdir()):
        found = typical_file.read(folder, exported.read_run(folder))
        assert found, folder
        assert (found.utterances, len(found.lengths)) == (36, 4)


# -- bits


def test_bits_are_those_of_the_density(rng):
    """Uniform on ±1: 16 bits. Normal: what its discrete entropy is, which is at most the bound by the density."""
    assert bits.by_model(math.log(0.5)) == pytest.approx(16)
    assert bits.by_model(-math.log(2**9 * LSB)) == pytest.approx(9)  # uniform on 512 steps
    sd = 20.0  # steps
    values = np.arange(-200, 201)
    edges = (values[:, None] + np.linspace(-0.5, 0.5, 101)) / sd
    log_density = -0.5 * edges**2 - math.log(sd * LSB * math.sqrt(2 * math.pi))
    density = np.exp(log_density)
    p = LSB * (density[:, 1:] + density[:, :-1]).mean(axis=1) / 2
    entropy = -(p * np.log2(p)).sum()
    dequantised = ((log_density[:, 1:] + log_density[:, :-1]).mean(axis=1) / 2 * p).sum()
    assert entropy < bits.by_model(dequantised) < entropy + 1e-3


def test_the_histogram_counts_values():
    assert bits.histogram([np.arange(256) * LSB, (256 + np.arange(256)) * LSB]) == pytest.approx(9)
    assert bits.histogram([np.zeros(100)]) == 0


def test_flac_is_the_size_of_the_file(rng, tmp_path):
    audio = small.speech(0, 30000)
    soundfile.write(tmp_path / "a.flac", audio_file.pcm16(audio)[0], small.RATE)
    assert bits.by_flac(audio, small.RATE) == pytest.approx(8 * (tmp_path / "a.flac").stat().st_size / 30000)
    decoded = soundfile.read(io.BytesIO((tmp_path / "a.flac").read_bytes()), dtype="int16")[0]
    np.testing.assert_array_equal(decoded, audio_file.pcm16(audio)[0])  # lossless
    noise = rng.uniform(-1, 1, 30000)
    assert 16 <= bits.by_flac(noise, small.RATE) < 16.2


def test_bits_of_the_mel():
    assert bits.of_mel(PRESETS["flowavenet"]) == 16 * 80 / 256
