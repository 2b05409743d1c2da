"""Mel contracts: golden values of the three presets, and errors for invalid contracts and mels."""

import dataclasses
import json
from pathlib import Path

import librosa
import numpy as np
import pytest

from fwn.audio import audio_file
from fwn.errors import UserError
from fwn.mel import PRESETS, MelContract, align, check_mel, contract, difference, mel_spectrogram
from fwn.mel.spectrogram import band_weights

GOLDEN = Path(__file__).parent / "golden"
FIRST = ["flowavenet", "tacotron2", "hifigan"]  # whose golden values are in mel_golden.npz


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "mel_golden.npz") as arrays:
        return {name: arrays[name] for name in arrays.files if arrays[name].dtype.kind != "U"}


def official(golden, name):
    return golden["official_mel" if name == "flowavenet" else f"{name}_mel"]


@pytest.mark.parametrize("name", FIRST)
def test_mels_equal_the_official_codes(golden, name):
    _, mel = align(golden["wav"] / np.float32(32768), PRESETS[name])
    assert mel.dtype == np.float32
    np.testing.assert_allclose(mel, official(golden, name), rtol=0, atol=5e-4)


def test_alignment_equals_the_official_code(golden):
    aligned, mel = align(golden["wav"] / np.float32(32768), PRESETS["flowavenet"])
    np.testing.assert_allclose(aligned, golden["official_audio"], rtol=0, atol=1e-7)
    assert len(aligned) == 256 * len(mel)


@pytest.mark.parametrize("clip", ["LJ001-0015", "LJ001-0051", "LJ001-0063", "LJ001-0072", "LJ001-0079"])
def test_tacotron2_equals_the_published_waveglow_mels(clip, shared):
    wav, _ = audio_file.read(shared / "data" / "ljspeech-mini" / "wavs" / f"{clip}.flac", 22050)
    published = np.load(shared / "golden" / "nvidia_waveglow_mels" / f"{clip}.npy")
    np.testing.assert_allclose(mel_spectrogram(wav, PRESETS["tacotron2"]).T, published, rtol=0, atol=5e-4)


def test_a_published_waveglow_mel_is_valid_for_tacotron2():
    mel = check_mel(np.load(GOLDEN / "nvidia_waveglow_LJ001-0079.npy"), PRESETS["tacotron2"], "LJ001-0079.npy")
    assert mel.shape == (381, 80)


@pytest.mark.parametrize("name", PRESETS)
def test_an_impulse_is_loudest_in_the_frame_that_covers_it(name):
    contract = PRESETS[name]
    hop = contract.hop_length
    for position in (5000, 7777, 20000):
        wav = np.full(30001, 1e-4, np.float32)
        wav[position] = 1
        aligned, mel = align(wav, contract)
        assert len(aligned) == hop * len(mel)
        frame = np.argmax(aligned) // hop
        # A frame covers n_fft samples around its hop. With padding "centre" its centre is half a hop earlier.
        assert abs(mel.sum(axis=1).argmax() - frame) <= 1, (position, frame)
        assert (
            abs(np.argmax(mel.sum(axis=1)) * hop + (hop // 2 if contract.padding == "same" else 0) - position)
            <= hop // 2
        )


def test_long_audio_in_blocks_has_no_seams():
    wav = np.random.default_rng(0).normal(size=256 * 2500).astype(np.float32) * np.float32(0.1)
    whole = mel_spectrogram(wav, PRESETS["tacotron2"])
    part = mel_spectrogram(wav[256 * 1000 :], PRESETS["tacotron2"])
    np.testing.assert_allclose(whole[1010:1100], part[10:100], atol=1e-5)


@pytest.mark.parametrize("name", PRESETS)
def test_a_contract_survives_json_and_its_hash_excludes_the_name(name):
    preset = PRESETS[name]
    again = MelContract.from_dict(json.loads(json.dumps(preset.to_dict())))
    assert again == preset == contract(name) == contract(preset.to_dict())
    assert dataclasses.replace(preset, name="mine").hash() == preset.hash()
    assert MelContract.from_dict(preset.to_dict() | {"fmin": int(preset.fmin)}).hash() == preset.hash()
    hashes = {other.hash() for other in PRESETS.values()}
    assert len(hashes) == len(PRESETS)


CHANGES = {
    "sample_rate": 24000,
    "n_fft": 2048,
    "win_length": 800,
    "hop_length": 300,
    "n_mels": 100,
    "fmin": 20.0,
    "fmax": 7000.0,
    "power": 1,
    "power_epsilon": 1e-8,
    "filter_scale": "htk",
    "filter_norm": "none",
    "padding": "same",
    "floor": 1e-3,
    "reference_db": 16.0,
    "min_db": -80.0,
    "peak": None,
    "alignment": "start",
}


@pytest.mark.parametrize("field", CHANGES)
def test_every_parameter_changes_the_hash_and_the_mel_or_the_alignment(field):
    preset = PRESETS["flowavenet"]
    changed = dataclasses.replace(preset, **{field: CHANGES[field]})
    assert changed.hash() != preset.hash()
    marked = [line for line in difference(preset, changed).splitlines() if "<- differs" in line]
    assert [line.split()[0] for line in marked] == [field]
    wav = np.random.default_rng(0).normal(size=8001).astype(np.float32) * np.float32(0.01)
    wav[5000:] *= 1e-2
    before, after = align(wav, preset), align(wav, changed)
    assert not all(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_ln_and_db_are_both_hashed():
    values = PRESETS["flowavenet"].to_dict() | {"compression": "ln", "reference_db": None, "min_db": None}
    assert MelContract.from_dict(values).hash() != PRESETS["flowavenet"].hash()


@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("norm", ["slaney", "none"])
@pytest.mark.parametrize(
    ("rate", "n_fft", "bands", "fmin", "fmax"), [(22050, 1024, 80, 0, 8000), (48000, 2048, 100, 80, 24000)]
)
def test_filters_equal_librosa(scale, norm, rate, n_fft, bands, fmin, fmax):
    of = {"sample_rate": rate, "n_fft": n_fft, "n_mels": bands, "fmin": fmin, "fmax": fmax}
    ours = band_weights(dataclasses.replace(PRESETS["tacotron2"], **of, filter_scale=scale, filter_norm=norm))
    theirs = librosa.filters.mel(
        sr=rate,
        n_fft=n_fft,
        n_mels=bands,
        fmin=fmin,
        fmax=fmax,
        htk=scale == "htk",
        norm=None if norm == "none" else norm,
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-9)


def noisy(frames=20, bands=80, low=-9.0, high=1.0):
    return np.random.default_rng(0).uniform(low, high, (frames, bands)).astype(np.float32)


@pytest.mark.parametrize("model", FIRST)
@pytest.mark.parametrize("given", FIRST)
def test_the_error_for_another_convention_shows_both_contracts(golden, model, given):
    mel = official(golden, given)
    if PRESETS[model].compression == PRESETS[given].compression:  # tacotron2 and hifigan have similar values
        np.testing.assert_array_equal(check_mel(mel, PRESETS[model], "m.npy"), mel)
        return
    with pytest.raises(UserError) as error:
        check_mel(mel, PRESETS[model], "m.npy")
    first, _, table = str(error.value).partition("\n")
    looks = "flowavenet" if given == "flowavenet" else "tacotron2 or hifigan"
    assert first.startswith(
        f"m.npy: values {mel.min():.4g} … {mel.max():.4g} are not a mel of {PRESETS[model].title}, "
    )
    assert first.endswith(f"it looks like {looks}. Compute the mel with the convention of the model, {model}")
    assert PRESETS[model].title in table
    assert looks.split()[0] in table
    assert "<- differs" in table


def test_mels_may_be_transposed():
    mel = noisy(low=0.0)
    for given in (mel, mel.T, mel.astype(np.float64)):
        checked = check_mel(given, PRESETS["flowavenet"], "m.npy")
        assert checked.dtype == np.float32
        np.testing.assert_array_equal(checked, mel)
    square = noisy(frames=80, low=0.0)
    np.testing.assert_array_equal(check_mel(square, PRESETS["flowavenet"], "m", bands_last=False), square.T)


@pytest.mark.parametrize("name", PRESETS)
def test_the_loudest_and_the_quietest_audio_are_within_the_value_range(name):
    low, high = PRESETS[name].value_range
    rng = np.random.default_rng(0)
    sounds = [np.sign(rng.normal(size=8192)), np.sign(np.sin(np.arange(8192) * 0.05)), 1e-4 * np.eye(1, 8192, 4000)[0]]
    for wav in [*sounds, np.ones(8192)]:
        _, mel = align(wav.astype(np.float32), PRESETS[name])
        assert low - 1e-5 <= mel.min() <= mel.max() <= high + 0.05 * (high - low)
        check_mel(mel, PRESETS[name], "extreme")
