"""The recordings of a corpus, with transcripts and speakers, as its layout has them."""

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fwn.audio.audio_file import EXTENSIONS
from fwn.cli import say
from fwn.errors import UserError

from .recordings import UNREADABLE, Recording

AUDIO = EXTENSIONS | UNREADABLE
Missing = list[dict[str, str]]  # {name, source, reason} of what is listed and not there


class Options(NamedTuple):
    """What the flags say of speakers. column: of metadata.csv, from 1; 0: none. folders: whether they have folders."""

    column: int = 0
    folders: bool = False


UNSAID = Options()


def find(corpus: str, folder: Path, options: Options = UNSAID) -> tuple[list[Recording], Missing]:
    """The recordings of a corpus (a name of LAYOUTS) in order, and the missing ones.

    Raises UserError if the folder has not this layout, or if two recordings have the same name.
    """
    if not folder.is_dir():
        raise UserError(
            f"--input={folder}: {'not a' if folder.exists() else 'no such'} folder; give that of the recordings"
        )
    recordings, missing = LAYOUTS[corpus](folder, options)
    name, count = Counter(recording.name for recording in recordings).most_common(1)[0] if recordings else ("", 0)
    if count > 1:
        files = ", ".join(recording.source for recording in recordings if recording.name == name)
        raise UserError(f"--input={folder}: {count} recordings have the name {name!r} ({files}); keep one of them")
    return recordings, missing


def _ljspeech(folder: Path, options: Options) -> tuple[list[Recording], Missing]:
    """metadata.csv has lines `name|text|…`; wavs/ has the files name.wav (or another extension)."""
    metadata = folder / "metadata.csv"
    if not metadata.is_file():
        raise UserError(f"{metadata}: no such file; for recordings without it use --corpus=folder")
    rows = [[cell.strip() for cell in f"{line}|".split("|")] for line in _lines(metadata) if line.strip()]
    if not (folder / "wavs").is_dir():
        raise UserError(f"{folder / 'wavs'}: no such folder; the LJSpeech layout has its recordings there")
    files: dict[str, list[str]] = {}
    for file in sorted((folder / "wavs").iterdir()):
        if file.suffix.lower() in AUDIO and not file.is_dir():
            files.setdefault(file.stem, []).append(f"wavs/{file.name}")
    missing = [
        {"name": name, "source": f"wavs/{name}.*", "reason": "listed in metadata.csv, but there is no such file"}
        for name, *_ in rows
        if name not in files
    ]
    unlisted = len(files.keys() - {name for name, *_ in rows})
    if unlisted:
        say(f"{unlisted} recordings in wavs/ are not used: they are not in metadata.csv")
    found = []
    for number, row in enumerate(rows, 1):
        speaker = row[options.column - 1] if 0 < options.column < len(row) else ""
        if options.column and not speaker:
            raise UserError(
                f"{metadata}: row {number} ({row[0]!r}) has no speaker in column {options.column} "
                "(--speaker_column); columns are counted from 1"
            )
        found += [Recording(row[0], source, text=row[1], speaker=speaker) for source in files.get(row[0], [])]
    return found, missing


def _folder(folder: Path, options: Options) -> tuple[list[Recording], Missing]:
    """All recordings in the folder and its subfolders, sorted by path. A name is the path without its extension."""
    found, others = [], Counter[str]()
    for path, _, files in os.walk(folder):
        for file in (Path(path, name) for name in files if not name.startswith(".")):
            if file.suffix.lower() not in AUDIO:
                others[file.suffix.lower() or "no extension"] += 1
                continue
            source = file.relative_to(folder)
            if options.folders and len(source.parts) < 2:
                raise UserError(f"{file}: is in no speaker's folder; --speaker_folders needs {folder}/SPEAKER/…")
            speaker = source.parts[0] if options.folders else ""
            found.append(Recording(source.with_suffix("").as_posix(), source.as_posix(), speaker=speaker))
    if others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5))
        say(f"{others.total()} files in {folder} are not used: their extensions are not of audio files ({kinds})")
    return sorted(found, key=lambda recording: recording.source), []


def _vctk(folder: Path, options: Options) -> tuple[list[Recording], Missing]:
    """VCTK 0.92: wav48_silence_trimmed/p225/p225_001_mic1.flac; 0.80: wav48/p225/p225_001.wav; txt/p225/p225_001.txt.

    Of two microphones the first is used.
    """
    del options
    audio = next((folder / name for name in ("wav48_silence_trimmed", "wav48") if (folder / name).is_dir()), None)
    if audio is None:
        raise _not_there(folder, "VCTK", "wav48_silence_trimmed/ or wav48/")
    found, second = [], 0
    for file in sorted(audio.glob("*/*")):
        if file.suffix.lower() not in AUDIO:
            continue
        if file.stem.endswith("_mic2"):
            second += 1
            continue
        name, speaker = file.stem.removesuffix("_mic1"), file.parent.name
        text = _text(folder / "txt" / speaker / f"{name}.txt")
        found.append(Recording(name, file.relative_to(folder).as_posix(), text=text, speaker=speaker))
    if second:
        say(f"{second} recordings of the second microphone are not used")
    return found, []


def _libritts(folder: Path, options: Options) -> tuple[list[Recording], Missing]:
    """LibriTTS and LibriTTS-R: [SUBSET/]SPEAKER/CHAPTER/SPEAKER_CHAPTER_x_y.wav, with .normalized.txt beside it."""
    del options
    files = [file for file in sorted(folder.rglob("*")) if file.suffix.lower() in AUDIO]
    found = [
        Recording(
            file.stem,
            file.relative_to(folder).as_posix(),
            text=_text(file.with_name(f"{file.stem}.normalized.txt")),
            speaker=file.parts[-3],
        )
        for file in files
        if len(file.relative_to(folder).parts) >= 3 and file.stem.startswith(f"{file.parts[-3]}_{file.parts[-2]}_")
    ]
    if not found:
        raise _not_there(folder, "LibriTTS", "SPEAKER/CHAPTER/SPEAKER_CHAPTER_….wav")
    if unused := len(files) - len(found):
        say(f"{unused} recordings in {folder} are not used: they are not called SPEAKER_CHAPTER_…")
    return found, []


def _arctic(folder: Path, options: Options) -> tuple[list[Recording], Missing]:
    """CMU ARCTIC: cmu_us_bdl_arctic/wav/arctic_a0001.wav, transcripts in etc/txt.done.data; one such folder or more."""
    del options
    voices = [path for path in (folder, *sorted(folder.iterdir())) if re.match("cmu_us_.+_arctic", path.name)]
    found = []
    for voice in voices:
        speaker = re.sub("^cmu_us_(.+?)_arctic.*$", r"\1", voice.name)
        listed = voice / "etc" / "txt.done.data"
        texts = dict(re.findall(r'\(\s*(\S+)\s+"(.*)"', "\n".join(_lines(listed)))) if listed.is_file() else {}
        for file in sorted((voice / "wav").glob("*")):
            if file.suffix.lower() in AUDIO:
                source, text = file.relative_to(folder).as_posix(), texts.get(file.stem, "")
                found.append(Recording(f"{speaker}/{file.stem}", source, text=text, speaker=speaker))
    if not found:
        raise _not_there(folder, "CMU ARCTIC", "cmu_us_SPEAKER_arctic/wav/")
    return found, []


def _jsut(folder: Path, options: Options) -> tuple[list[Recording], Missing]:
    """JSUT: SUBSET/wav/NAME.wav, transcripts `NAME:text` in SUBSET/transcript_utf8.txt."""
    del options
    found = []
    for subset in sorted(path for path in folder.iterdir() if (path / "wav").is_dir()):
        listed = subset / "transcript_utf8.txt"
        texts = dict(line.split(":", 1) for line in _lines(listed) if ":" in line) if listed.is_file() else {}
        for file in sorted((subset / "wav").iterdir()):
            if file.suffix.lower() in AUDIO:
                found.append(Recording(file.stem, file.relative_to(folder).as_posix(), text=texts.get(file.stem, "")))
    if not found:
        raise _not_there(folder, "JSUT", "SUBSET/wav/")
    return found, []


def _csmsc(folder: Path, options: Options) -> tuple[list[Recording], Missing]:
    """CSMSC (BZNSYP): Wave/000001.wav; ProsodyLabeling/*.txt has `000001 text`, with marks #1 … #4, and pinyin."""
    del options
    texts: dict[str, str] = {}
    for listed in sorted((folder / "ProsodyLabeling").glob("*.txt")):
        for line in _lines(listed):
            if match := re.match(r"(\d{6})\s+(.*)", line):
                texts[match[1]] = re.sub(r"#\d", "", match[2])
    files = [file for file in sorted((folder / "Wave").glob("*")) if file.suffix.lower() in AUDIO]
    if not files:
        raise _not_there(folder, "CSMSC", "Wave/")
    found = [Recording(f.stem, f.relative_to(folder).as_posix(), text=texts.get(f.stem, "")) for f in files]
    return found, []


def _not_there(folder: Path, layout: str, where: str) -> UserError:
    return UserError(
        f"--input={folder}: no recordings in {where}, where {layout} has them; give the folder that has this, or use "
        "--corpus=folder"
    )


def _text(file: Path) -> str:
    """The transcript in a file of its own; "" if there is none."""
    return " ".join(" ".join(_lines(file)).split()) if file.is_file() else ""


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start})") from error


LAYOUTS: dict[str, Callable[[Path, Options], tuple[list[Recording], Missing]]] = {
    "ljspeech": _ljspeech,
    "folder": _folder,
    "vctk": _vctk,
    "libritts": _libritts,
    "arctic": _arctic,
    "jsut": _jsut,
    "csmsc": _csmsc,
}
