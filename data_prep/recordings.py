"""Finds the recordings of a corpus and converts them. `fingerprint` and `convert` run in worker processes."""

import dataclasses
import hashlib
import os
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile

from fwn.audio import audio_file
from fwn.audio.audio_file import EXTENSIONS
from fwn.audio.quiet import quiet
from fwn.cli import say
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


def find(corpus: str, folder: Path) -> tuple[list[Recording], list[dict[str, str]]]:
    """The recordings of a corpus ("ljspeech" or "folder") in order, and {name, source, reason} of the missing ones.

    Raises UserError if the folder has not this layout, or if two recordings have the same name.
    """
    if not folder.is_dir():
        raise UserError(
            f"--input={folder}: {'not a' if folder.exists() else 'no such'} folder; give that of the recordings"
        )
    recordings, missing = _ljspeech(folder) if corpus == "ljspeech" else (_folder(folder), [])
    name, count = Counter(recording.name for recording in recordings).most_common(1)[0] if recordings else ("", 0)
    if count > 1:
        files = ", ".join(recording.source for recording in recordings if recording.name == name)
        raise UserError(f"--input={folder}: {count} recordings have the name {name!r} ({files}); keep one of them")
    return recordings, missing


def _ljspeech(folder: Path) -> tuple[list[Recording], list[dict[str, str]]]:
    """metadata.csv has lines `name|text|…`; wavs/ has the files name.wav (or another extension)."""
    metadata = folder / "metadata.csv"
    if not metadata.is_file():
        raise UserError(f"{metadata}: no such file; for recordings without it use --corpus=folder")
    try:
        lines = metadata.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{metadata}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    rows = [[cell.strip() for cell in f"{line}|".split("|")] for line in lines if line.strip()]
    if not (folder / "wavs").is_dir():
        raise UserError(f"{folder / 'wavs'}: no such folder; the LJSpeech layout has its recordings there")
    files: dict[str, list[str]] = {}
    for file in sorted((folder / "wavs").iterdir()):
        if file.suffix.lower() in EXTENSIONS | UNREADABLE and not file.is_dir():
            files.setdefault(file.stem, []).append(f"wavs/{file.name}")
    missing = [
        {"name": name, "source": f"wavs/{name}.*", "reason": "listed in metadata.csv, but there is no such file"}
        for name, *_ in rows
        if name not in files
    ]
    unlisted = len(files.keys() - {name for name, *_ in rows})
    if unlisted:
        say(f"{unlisted} recordings in wavs/ are not used: they are not in metadata.csv")
    found = [(name, source, text) for name, text, *_ in rows if name in files for source in files[name]]
    return [Recording(name, source, text=text) for name, source, text in found], missing


def _folder(folder: Path) -> list[Recording]:
    """All recordings in the folder and its subfolders, sorted by path. A name is the path without its extension."""
    found, others = [], Counter[str]()
    for path, _, files in os.walk(folder):
        for file in (Path(path, name) for name in files if not name.startswith(".")):
            if file.suffix.lower() in EXTENSIONS | UNREADABLE:
                source = file.relative_to(folder)
                found.append(Recording(source.with_suffix("").as_posix(), source.as_posix()))
            else:
                others[file.suffix.lower() or "no extension"] += 1
    if others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5))
        say(f"{others.total()} files in {folder} are not used: their extensions are not of audio files ({kinds})")
    return sorted(found, key=lambda recording: recording.source)


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
