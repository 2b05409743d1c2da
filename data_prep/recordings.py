"""A recording of a corpus, and its conversion. `fingerprint` and `convert` run in worker processes."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import soundfile

from fwn.audio import audio_file
from fwn.audio.quiet import quiet
from fwn.errors import UserError
from fwn.mel import MelContract, align

from . import given_mels

UNREADABLE = {".m4a", ".aac", ".mp4", ".wma", ".amr", ".webm"}  # audio formats that libsndfile cannot read


@dataclasses.dataclass(frozen=True)
class Recording:
    name: str
    source: str  # path relative to the input folder, with slashes
    sha256: str = ""  # of the file; with a given mel, of the checksums of both files
    seconds: float = 0.0  # from the file's header; 0 if it is unreadable
    text: str = ""  # transcript; empty if the corpus has none
    speaker: str = ""  # empty if the corpus does not say
    mel: str = ""  # path of its given mel relative to Kind.mels; empty: the mel is computed


@dataclasses.dataclass(frozen=True)
class Kind:
    """The settings that determine the stored arrays of a recording.

    mels: folder of given mels (given_mels.py); None: they are computed. tolerance: frames by which a given mel may be
    longer or shorter than its recording.
    """

    contract: MelContract
    audio_dtype: str
    mel_dtype: str
    mels: Path | None = None
    tolerance: int = 0


@dataclasses.dataclass(frozen=True)
class Converted:
    audio: np.ndarray  # [frames · hop] int16 or float16
    mel: np.ndarray  # [frames, n_mels] float16 or float32
    samples: int  # at the contract's sample rate, before alignment
    notes: list[str]


def fingerprint(folder: Path, recording: Recording, mels: Path | None = None) -> Recording:
    """The recording with its checksum and length, as far as the file can be read (`convert` reports why not)."""
    path = folder / recording.source
    if not path.is_file():  # opening a pipe would wait for ever, a device would never end
        return recording
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            if mels is not None:
                with (mels / recording.mel).open("rb") as mel:
                    both = sha256 + hashlib.file_digest(mel, "sha256").hexdigest()
                sha256 = hashlib.sha256(both.encode()).hexdigest()
            file.seek(0)
            with quiet(), audio_file.opened(file) as sound:
                seconds = sound.frames / sound.samplerate
    except soundfile.LibsndfileError:
        return dataclasses.replace(recording, sha256=sha256)
    except OSError:
        return recording
    return dataclasses.replace(recording, sha256=sha256, seconds=seconds)


def convert(folder: Path, recording: Recording, kind: Kind) -> Converted | str:
    """The stored arrays of a recording, or the reason why it is left out."""
    path = folder / recording.source
    if path.suffix.lower() in UNREADABLE:
        return f"{path.suffix} cannot be read by libsndfile; convert it to flac or wav"
    try:
        recorded, notes = audio_file.read(path, kind.contract.sample_rate, kind.contract.n_fft)
    except UserError as error:
        return str(error).removeprefix(f"{path}: ")
    if kind.mels is None:
        aligned, mel = align(recorded, kind.contract)
    else:
        try:
            aligned, mel, cut = given_mels.arrays(recorded, kind.mels / recording.mel, kind.contract, kind.tolerance)
        except UserError as error:
            return str(error)
        notes += cut
    if kind.audio_dtype == "int16":
        aligned, saturated = audio_file.pcm16(aligned)
        notes += ["saturated at full scale"] * (saturated > 0)
    return Converted(aligned.astype(kind.audio_dtype), mel.astype(kind.mel_dtype), len(recorded), notes)
