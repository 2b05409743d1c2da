"""Audio files: reads every format of libsndfile as mono float32 at a given rate, writes 16-bit wav."""

import io
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from fwn.audio.quiet import quiet
from fwn.disk import atomic
from fwn.errors import UserError

# File name extensions of the formats that libsndfile can read.
EXTENSIONS = {f".{name.lower()}" for name in soundfile.available_formats()} | {".aif", ".oga", ".opus", ".mp2", ".snd"}
EXTENSIONS -= {".raw", ".txt", ".sd2"}  # whose headers are elsewhere
RATES = 4_000, 384_000  # Hz
MOST_SAMPLES = 1024  # per byte of a file; silence in FLAC, the densest format, has 300 with usual blocks
LOUDEST = 10.0  # times full scale, +20 dB
SILENCE = 1e-4  # peak of -80 dB, 3 steps of 16-bit audio; below it a recording is silent


def read(path: str | os.PathLike[str], sample_rate: int, min_samples: int = 1024) -> tuple[np.ndarray, list[str]]:
    """A recording -> (mono float32 [T] at `sample_rate`, changes such as "resampled 8000 -> 22050 Hz").

    Raises UserError, starting with the path, if the file is missing, not audio, damaged, empty, not finite, of another
    rate than 4 to 384 kHz, louder than +20 dB, silent, or shorter than `min_samples` samples (a contract's n_fft).
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if not path.is_file():
        raise UserError(f"{path}: {'a folder' if path.is_dir() else 'not a regular file'}, not a recording")
    try:
        with quiet(), path.open("rb") as file, opened(file) as sound:
            expected, rate, count = sound.frames, sound.samplerate, sound.channels
            if not RATES[0] <= rate <= RATES[1]:
                raise UserError(f"{path}: has a sample rate of {rate} Hz; {RATES[0]} to {RATES[1]} Hz can be read")
            if expected * count > (size := path.stat().st_size) * MOST_SAMPLES:
                raise UserError(f"{path}: damaged, claims {expected} samples of {count} channels in {size} bytes")
            audio, finite = _mono(sound)
    except soundfile.LibsndfileError as error:
        why = error.error_string.rstrip(".")
        raise UserError(f"{path}: not an audio file that libsndfile can read ({why})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if len(audio) == 0:
        raise UserError(f"{path}: holds 0 samples")
    if len(audio) != expected:
        raise UserError(f"{path}: damaged, only {len(audio)} of its {expected} samples can be read")
    if not finite.all():
        raise UserError(
            f"{path}: {np.sum(~finite)} of {len(finite)} samples are NaN or infinite, the first at {finite.argmin()}"
        )
    if (peak := np.abs(audio).max()) > LOUDEST:
        raise UserError(f"{path}: not in the range of audio, its peak is {peak:.3g} times full scale (over +20 dB)")
    notes = [f"mixed {count} channels down"] if count > 1 else []
    if rate != sample_rate:
        audio = _resample(audio, rate, sample_rate)
        notes.append(f"resampled {rate} -> {sample_rate} Hz")
    peak = np.abs(audio).max()
    if peak < SILENCE:
        raise UserError(f"{path}: silent, its peak is {peak:.1g} (below {SILENCE:g})")
    if len(audio) < min_samples:
        raise UserError(
            f"{path}: too short, {len(audio)} samples at {sample_rate} Hz (at least {min_samples} are needed)"
        )
    return np.ascontiguousarray(audio), notes


def opened(file: BinaryIO) -> soundfile.SoundFile:
    """The recording in an open file. By its descriptor: errors inside callbacks of a file object are tracebacks."""
    return soundfile.SoundFile(os.dup(file.fileno()))  # which it closes


def _mono(sound: soundfile.SoundFile) -> tuple[np.ndarray, np.ndarray]:
    """(the mean of all channels float32 [T], whether all of them are finite [T]), read in pieces to save memory."""
    audio, finite = [np.zeros(0, np.float32)], [np.zeros(0, bool)]
    while len(piece := sound.read(2**16, dtype="float32", always_2d=True)):
        finite.append(np.isfinite(piece).all(axis=1))
        with np.errstate(invalid="ignore", over="ignore"):  # infinite samples are reported
            audio.append(piece[:, 0] if piece.shape[1] == 1 else piece.mean(axis=1))
    return np.concatenate(audio), np.concatenate(finite)


def _resample(audio: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    import librosa  # here, so that librosa is only needed for resampling

    return librosa.resample(audio, orig_sr=rate, target_sr=sample_rate, res_type="soxr_hq")


def flac(audio: np.ndarray, sample_rate: int) -> bytes:
    """Audio [T] in ±1 as a 16-bit FLAC file, at libsndfile's usual level (5 of 8)."""
    file = io.BytesIO()
    soundfile.write(file, pcm16(audio)[0], sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def pcm16(audio: np.ndarray) -> tuple[np.ndarray, int]:
    """Float audio -> (int16, scaled by 32768, number of saturated samples)."""
    steps = np.rint(np.asarray(audio, np.float32) * np.float32(32768))
    saturated = int(np.count_nonzero((steps > 32767) | (steps < -32768)))
    return np.clip(steps, -32768, 32767).astype(np.int16), saturated


def write(path: str | os.PathLike[str], audio: np.ndarray, sample_rate: int) -> int:
    """Writes float audio [T] atomically as 16-bit PCM wav; returns the number of saturated samples.

    Raises UserError if samples are NaN or infinite, and OSError if the file cannot be written.
    """
    audio = np.asarray(audio)
    if audio.ndim != 1:
        raise ValueError(f"audio must be [T], got {audio.shape}")
    wrong = ~np.isfinite(audio)
    if wrong.any():
        raise UserError(f"{path}: not written, {wrong.sum()} of {audio.size} samples are NaN or infinite")
    steps, saturated = pcm16(audio)
    wav = io.BytesIO()  # libsndfile does not report a full disk; Python's own write does
    soundfile.write(wav, steps, sample_rate, format="WAV", subtype="PCM_16")
    with atomic(path) as file:
        file.write(wav.getbuffer())
    return saturated
