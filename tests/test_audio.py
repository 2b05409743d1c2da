"""Audio files: every format is read as mono float32, invalid files raise UserError, written wavs saturate."""

import errno

import numpy as np
import pytest
import soundfile

from fwn import disk
from fwn.audio import audio_file
from fwn.errors import UserError


def tone(samples=22050, rate=22050, hz=440.0, level=0.5):
    return (level * np.sin(2 * np.pi * hz * np.arange(samples) / rate)).astype(np.float32)


FORMATS = [
    ("wav", "PCM_U8", 2e-2),
    ("wav", "PCM_16", 4e-5),
    ("wav", "PCM_24", 3e-7),
    ("wav", "PCM_32", 1e-7),
    ("wav", "FLOAT", 0),
    ("wav", "DOUBLE", 0),
    ("flac", "PCM_16", 4e-5),
    ("flac", "PCM_24", 3e-7),
    ("ogg", "VORBIS", 5e-2),
    ("mp3", "MPEG_LAYER_III", 5e-2),
]


@pytest.mark.parametrize(("suffix", "subtype", "tolerance"), FORMATS)
def test_reads_every_format(tmp_path, suffix, subtype, tolerance):
    path, wav = tmp_path / f"a.{suffix}", tone()
    soundfile.write(path, wav, 22050, subtype=subtype)
    heard, notes = audio_file.read(path, 22050)
    assert heard.dtype == np.float32
    assert notes == []
    assert abs(heard[2000:20000] - wav[2000:20000]).max() <= tolerance


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"), [(8000, 1, "PCM_16"), (48000, 2, "PCM_24"), (44100, 6, "FLOAT")]
)
def test_resampling_and_mixing_down_are_reported(tmp_path, rate, channels, subtype):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([tone(rate, rate)] * channels, axis=1), rate, subtype=subtype)
    heard, notes = audio_file.read(path, 22050)
    assert heard.shape == (22050,)
    assert abs(heard - tone())[500:-500].max() < 1e-3  # the same tone at the same pitch
    mixed = [f"mixed {channels} channels down"] if channels > 1 else []
    assert notes == [*mixed, f"resampled {rate} -> 22050 Hz"]


def cut_flac(path):
    soundfile.write(path.with_suffix(".flac"), np.random.default_rng(0).uniform(-0.5, 0.5, 50000), 22050)
    whole = path.with_suffix(".flac").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def test_a_truncated_recording_raises(tmp_path):
    path = tmp_path / "a.wav"
    cut_flac(path)
    with pytest.raises(UserError, match=rf"^{path}: (damaged|not an audio file)"):
        audio_file.read(path, 22050)


def test_wavs_saturate_and_never_wrap_around(tmp_path):
    path = tmp_path / "a.wav"
    wav = np.array([0.0, 0.5, -0.5, 1.0, -1.0, 1.5, -1.5, 1e9, -1e9], np.float32)
    assert audio_file.write(path, wav, 22050) == 5
    steps, rate = soundfile.read(path, dtype="int16")
    assert rate == 22050
    np.testing.assert_array_equal(steps, [0, 16384, -16384, 32767, -32768, 32767, -32768, 32767, -32768])
    info = soundfile.info(path)
    assert (info.format, info.subtype, info.channels) == ("WAV", "PCM_16", 1)


def test_reading_and_writing_keeps_16_bit_audio(tmp_path):
    steps = np.random.default_rng(0).integers(-32768, 32768, 5000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", steps, 22050)
    heard, _ = audio_file.read(tmp_path / "a.wav", 22050)
    assert audio_file.write(tmp_path / "b.wav", heard, 22050) == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_audio_that_is_not_finite_is_not_written(tmp_path):
    wav = tone()
    wav[7] = np.nan
    with pytest.raises(UserError, match=r"a.wav: not written, 1 of 22050 samples are NaN or infinite$"):
        audio_file.write(tmp_path / "a.wav", wav, 22050)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.wav"
    audio_file.write(path, tone(), 22050)
    before = path.read_bytes()

    def interrupted():
        with disk.atomic(path) as file:
            file.write(b"half of it")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_while_writing_names_the_file(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        audio_file.write(tmp_path / "none" / "a.wav", tone(), 22050)
    assert error.value.filename == str(tmp_path / "none" / "a.wav")


def test_a_full_disk_is_an_error_and_leaves_nothing(small_disk):
    with pytest.raises(OSError, match="No space left") as error:
        audio_file.write(small_disk / "a.wav", np.tile(tone(), 5), 22050)
    assert error.value.errno == errno.ENOSPC
    assert error.value.filename == str(small_disk / "a.wav")
    assert list(small_disk.iterdir()) == []
