"""Errors of single recordings. fwn.sample says them of a file that it was given, data_prep.prepare of one left out."""

import os
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import small
import soundfile

from . import PREPARE, SAMPLE, Place, Row, write

WAV = "--ckpt={run} --wav={here}/a.wav --output={here}/out"
AUDIO = small.speech(0, 3000)


def sound(audio: np.ndarray, rate: int = small.RATE, name: str = "a.wav") -> Callable[[Place], None]:
    return lambda place: soundfile.write(place.here / name, audio, rate, subtype="FLOAT" if name == "a.wav" else None)


def spoilt(at: int, value: float) -> np.ndarray:
    audio = AUDIO.copy()
    audio[at] = value
    return audio


def claims(place: Place) -> None:
    """A FLAC file whose header states 2^36 - 1 samples."""
    soundfile.write(place.here / "a.flac", AUDIO, small.RATE)
    content = bytearray((place.here / "a.flac").read_bytes())
    content[21] |= 0x0F
    content[22:26] = b"\xff" * 4
    (place.here / "a.flac").write_bytes(content)


def cut(suffix: str) -> Callable[[Place], None]:
    """A file of which the second half is missing."""

    def make(place: Place) -> None:
        file = place.here / f"a.{suffix}"
        soundfile.write(file, small.speech(0, 60000), small.RATE)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    return make


def phone(place: Place) -> None:
    write("in/phone.m4a", "x")(place)
    sound(AUDIO, name="in/b.wav")(place)


def fails(place: Place) -> Any:
    sound(AUDIO)(place)
    return mock.patch("fwn.audio.audio_file.opened", side_effect=OSError(5, "Input/output error"))


def writes_nan(place: Place) -> None:
    from fwn.audio import audio_file

    audio_file.write(place.here / "a.wav", spoilt(3, np.nan), small.RATE)


FLAC = "--ckpt={run} --wav={here}/a.flac --output={here}/out"
ROWS = [
    Row(
        SAMPLE,
        "--ckpt={run} --wav={here}/a.mp3 --output={here}/out",
        "{here}/a.mp3: damaged, only <number> of its 60000 samples can be read",
        cut("mp3"),
    ),
    Row(SAMPLE, WAV, "{here}/a.wav: no such file"),
    Row(SAMPLE, WAV, "--wav={here}/a.wav: no recording in this folder", write("a.wav/b.txt", "x")),
    Row(
        SAMPLE, WAV, "{here}/a.wav: not a regular file, not a recording", lambda place: os.mkfifo(place.here / "a.wav")
    ),
    Row(
        SAMPLE,
        WAV,
        "{here}/a.wav: not a regular file, not a recording",
        lambda place: (place.here / "a.wav").symlink_to("/dev/zero"),
    ),
    Row(
        SAMPLE,
        WAV,
        "{here}/a.wav: not an audio file that libsndfile can read (Format not recognised)",
        write("a.wav", "hello"),
    ),
    Row(SAMPLE, WAV, "{here}/a.wav: has a sample rate of 7 Hz; 4000 to 384000 Hz can be read", sound(AUDIO, 7)),
    Row(SAMPLE, FLAC, "{here}/a.flac: damaged, claims 68719476735 samples of 1 channels in 3742 bytes", claims),
    Row(
        SAMPLE,
        FLAC,
        "{here}/a.flac: not an audio file that libsndfile can read (Error : flac decoder lost sync)",
        cut("flac"),
    ),
    Row(SAMPLE, WAV, "{here}/a.wav: cannot be read (Input/output error)", fails),
    Row(SAMPLE, WAV, "{here}/a.wav: holds 0 samples", sound(np.zeros(0))),
    Row(SAMPLE, WAV, "{here}/a.wav: 1 of 3000 samples are NaN or infinite, the first at 5", sound(spoilt(5, np.nan))),
    Row(
        SAMPLE,
        WAV,
        "{here}/a.wav: not in the range of audio, its peak is 1e+30 times full scale (over +20 dB)",
        sound(spoilt(5, 1e30)),
    ),
    Row(SAMPLE, WAV, "{here}/a.wav: silent, its peak is 0 (below 0.0001)", sound(0 * AUDIO)),
    Row(
        SAMPLE, WAV, "{here}/a.wav: too short, 1000 samples at 22050 Hz (at least 1024 are needed)", sound(AUDIO[:1000])
    ),
    Row(
        PREPARE,
        "--corpus=folder --input={here}/in --output={here}/out --workers=1",
        "left out phone (phone.m4a): .m4a cannot be read by libsndfile; convert it to flac or wav",
        phone,
        code=3,
        creates=("out", "out/*", "out/.parts/*"),
    ),
    Row(writes_nan, "", "{here}/a.wav: not written, 1 of 3000 samples are NaN or infinite"),
]
