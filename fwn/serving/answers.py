"""Speech as the body of a response."""

import io
import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fwn.audio import audio_file


class Format(NamedTuple):
    """Content type, and (audio [T] in ±1, sample rate) -> the bytes. streams: whether pieces of it can be sent."""

    content_type: str
    encode: Callable[[np.ndarray, int], bytes]
    streams: bool


def pcm(audio: np.ndarray, sample_rate: int = 0) -> bytes:
    """16 bit, little-endian, mono, without a header."""
    return audio_file.pcm16(audio)[0].astype("<i2").tobytes()


def wav_header(samples: int, sample_rate: int) -> bytes:
    """The 44 bytes before so many samples of `pcm`."""
    size = 2 * samples
    form = struct.pack("<HHIIHH", 1, 1, sample_rate, 2 * sample_rate, 2, 16)
    return (
        b"RIFF"
        + struct.pack("<I", 36 + size)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + form
        + struct.pack("<4sI", b"data", size)
    )


def _wav(audio: np.ndarray, sample_rate: int) -> bytes:
    return wav_header(len(audio), sample_rate) + pcm(audio)


def _npy(audio: np.ndarray, sample_rate: int) -> bytes:
    """float32 [T], not saturated."""
    file = io.BytesIO()
    np.save(file, np.asarray(audio, np.float32))
    return file.getvalue()


FORMATS = {
    "wav": Format("audio/wav", _wav, True),
    "flac": Format("audio/flac", audio_file.flac, False),
    "pcm": Format("application/octet-stream", pcm, True),
    "npy": Format("application/x-npy", _npy, False),
}
