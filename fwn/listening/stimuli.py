"""The clips of a listening test: finds recordings and copies in folders, reads them and matches their levels."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

from fwn.audio import audio_file
from fwn.errors import UserError, nearest
from fwn.evaluation.measure import evenly_spaced
from fwn.evaluation.metrics import rms
from fwn.terminal import progress

Audio = npt.NDArray[np.float32]

REFERENCE, ANCHOR = "reference", "anchor"  # hidden systems that every test has
LEVEL = -26.0  # dB of full scale, RMS: the usual speech level in ITU-T P.800 tests
CEILING = -1.0  # dB of full scale: highest peak of any clip
ANCHOR_HZ = 3500  # pass band of the low anchor of ITU-R BS.1534 (MUSHRA)
SAME_LENGTH = 0.1  # seconds of tolerance; a copy may be one hop shorter than its recording


class System(NamedTuple):
    """One system's files by utterance. From fwn.evaluate: also all files by temperature, and the folder `evaluated`."""

    name: str
    files: dict[str, Path]
    temperatures: dict[float, dict[str, Path]]
    evaluated: Path | None


class Stimuli(NamedTuple):
    """All clips [T] at one sample rate.

    clips: by (system, utterance), including the reference and the anchor.
    temperatures: for the demo page, by (system, temperature, utterance).
    evaluated: output folder of fwn.evaluate by system.
    notes: messages on changed clips and left-out utterances.
    complete: False if an utterance of some system was left out.
    """

    sample_rate: int
    systems: list[str]
    utterances: list[str]
    clips: dict[tuple[str, str], Audio]
    temperatures: dict[tuple[str, float, str], Audio]
    evaluated: dict[str, Path]
    notes: list[str]
    complete: bool


def parse(spec: str) -> System:
    """Reads NAME=FOLDER, or NAME=FOLDER@TEMPERATURE for an output of fwn.evaluate, and lists the files."""
    name, _, where = (part.strip() for part in spec.partition("="))
    if not name or not where:
        raise UserError(f"--systems={spec}: give a name and a folder: --systems=NAME=FOLDER")
    if name in (REFERENCE, ANCHOR):
        raise UserError(f"--systems={spec}: the name {name!r} is taken by the hidden {name}; choose another")
    folder, temperature = where, ""
    if not Path(where).is_dir() and "@" in where:
        folder, _, temperature = where.rpartition("@")
    copies: dict[float, dict[str, Path]] = {}
    files = _audio_files(folder, f"--systems={spec}")
    if not any(stem.endswith(".recording") for stem in files):
        if temperature:
            raise UserError(f"--systems={spec}: {folder} is not from fwn.evaluate (no *.recording.wav); leave out @")
        return System(name, files, {}, None)
    for stem, path in files.items():
        if match := re.fullmatch(r"(.+)\.T([\d.]+(?:e[-+]?\d+)?)", stem):
            copies.setdefault(float(match[2]), {})[match[1]] = path
    choices = ", ".join(f"{name}={folder}@{t:g}" for t in sorted(copies))
    if not copies:
        raise UserError(f"--systems={spec}: {folder} holds recordings but no copies (UTTERANCE.T0.8.wav)")
    if not temperature and len(copies) > 1:
        raise UserError(f"--systems={spec}: copies at several temperatures; choose one: {choices}")
    try:
        chosen = float(temperature or next(iter(copies)))
    except ValueError as error:
        raise UserError(f"--systems={spec}: {temperature!r} is not a number; choose one: {choices}") from error
    if chosen not in copies:
        raise UserError(f"--systems={spec}: no copies at temperature {chosen:g}; choose one: {choices}")
    return System(name, copies[chosen], copies, Path(folder))


def recordings(folder: str, what: str) -> dict[str, Path]:
    """The reference files by utterance: *.recording.wav in an output of fwn.evaluate, otherwise all audio files."""
    files = _audio_files(folder, what)
    own = {stem.removesuffix(".recording"): path for stem, path in files.items() if stem.endswith(".recording")}
    return own or files


def _audio_files(folder: str, what: str) -> dict[str, Path]:
    """Audio files in a folder and its subfolders, by path without extension."""
    if not Path(folder).is_dir():
        raise UserError(
            f"{what}: {folder}: {'not a' if Path(folder).exists() else 'no such'} folder; give one of recordings"
        )
    found: dict[str, Path] = {}
    for path in sorted(Path(folder).rglob("[!.]*")):
        if path.suffix.lower() not in audio_file.EXTENSIONS or not path.is_file():
            continue
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise UserError(f"{what}: {found[stem]} and {path} are the same utterance; remove one")
        found[stem] = path
    if not found:
        raise UserError(f"{what}: no audio file in {folder}")
    return found


def gather(specs: Sequence[str], reference: str | None, limit: int) -> Stimuli:
    """Reads all clips, resampled to the rate of the first recording. specs: --systems; limit: --utterances."""
    if not specs:
        raise UserError("no system; give --systems=NAME=FOLDER, once for each system")
    systems = [parse(spec) for spec in specs]
    names = [system.name for system in systems]
    if again := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"--systems: the name {again[0]!r} is given twice; each system needs its own name")
    notes: list[str] = []
    if reference is None:
        reference = next((str(system.evaluated) for system in systems if system.evaluated), None)
        if reference is None:
            raise UserError("no recordings to compare with; give their folder: --reference=FOLDER")
        notes.append(f"reference: the recordings in {reference}")
    truth = recordings(reference, f"--reference={reference}")
    chosen, complete = _choose(truth, systems, limit, notes)
    rate = _rate(truth[chosen[0]])
    todo = [((REFERENCE, u), truth[u]) for u in chosen]
    todo += [((system.name, u), system.files[u]) for system in systems for u in chosen]
    changed: Counter[tuple[str, str]] = Counter()
    clips: dict[tuple[str, str], Audio] = {}
    by_temperature: dict[tuple[str, float, str], Audio] = {}

    def read(path: Path, name: str) -> Audio:
        clip, changes = audio_file.read(path, rate)
        changed.update((name, change) for change in changes)
        if np.abs(clip).max() >= 32767 / 32768:
            changed[name, "at or beyond full scale in the file (a 16-bit file is then clipped)"] += 1
        return clip

    for key, path in progress(todo, "reading"):
        clips[key] = read(path, key[0])
        if abs(len(clips[key]) - len(clips[REFERENCE, key[1]])) > SAME_LENGTH * rate:
            changed[key[0], f"more than {SAME_LENGTH} s longer or shorter than the recording"] += 1
    for system in systems:
        for t, files in sorted(system.temperatures.items()):
            for u in (u for u in chosen if u in files):
                same = files[u] == system.files[u]
                by_temperature[system.name, t, u] = (
                    clips[system.name, u] if same else read(files[u], f"{system.name} at T = {t:g}")
                )
    clips |= {(ANCHOR, u): anchor(clips[REFERENCE, u], rate) for u in chosen}
    notes += [f"{name}: {count} clip{'s' * (count > 1)} {change}" for (name, change), count in changed.items()]
    evaluated = {system.name: system.evaluated for system in systems if system.evaluated}
    return Stimuli(rate, names, chosen, clips, by_temperature, evaluated, notes, complete)


def _choose(truth: dict[str, Path], systems: Sequence[System], limit: int, notes: list[str]) -> tuple[list[str], bool]:
    """(utterances that all systems have: `limit`, evenly spaced, or all if it is 0; whether none was left out)."""
    everywhere = sorted(u for u in truth if all(u in system.files for system in systems))
    if not everywhere:
        some, other = sorted(truth)[0], sorted(systems[0].files)[0]
        raise UserError(
            f"no utterance is in the reference and in every system: the reference has {some!r}, {systems[0].name} "
            f"{other!r}{nearest(some, systems[0].files)} (the files of an utterance must have the same name)"
        )
    missing = False
    for system in systems:
        others = {u for o in systems for u in o.files if u in truth}
        if lacking := sorted(others - set(system.files)):
            missing = True
            notes.append(f"{system.name}: lacks {_names(lacking)}; left out of the test for all systems")
        if extra := sorted(set(system.files) - set(truth)):
            notes.append(f"{system.name}: not in the reference and not used: {_names(extra)}")
    if unheard := sorted(u for u in truth if not any(u in system.files for system in systems)):
        notes.append(f"{REFERENCE}: in no system and not used: {_names(unheard)}")
    if limit > len(everywhere):
        notes.append(f"--utterances={limit}: there are only {len(everywhere)}")
    return evenly_spaced(everywhere, limit), not missing


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _rate(path: Path) -> int:
    try:
        rate = int(soundfile.info(str(path)).samplerate)
    except soundfile.LibsndfileError as error:
        raise UserError(f"{path}: not an audio file that libsndfile can read") from error
    if rate < 2.5 * ANCHOR_HZ:
        raise UserError(
            f"{path}: {rate} Hz is too low: the anchor, low-passed at {ANCHOR_HZ} Hz, would sound the same; use "
            "recordings of a higher rate"
        )
    return rate


def anchor(recording: Audio, sample_rate: int) -> Audio:
    """The hidden anchor: the recording low-passed at 3.5 kHz, 50 dB down at 4 kHz (ITU-R BS.1534-3, 5.1: 25 dB)."""
    from scipy.signal import fftconvolve, firwin, kaiserord

    taps, beta = kaiserord(55, 500 / (sample_rate / 2))
    kernel = firwin(taps | 1, ANCHOR_HZ + 250, window=("kaiser", beta), fs=sample_rate)  # odd: a whole delay
    return fftconvolve(recording, kernel, mode="full")[len(kernel) // 2 :][: len(recording)].astype(np.float32)


def match_levels(stimuli: Stimuli) -> tuple[Stimuli, float]:
    """(all clips scaled to one RMS level, that level in dB): LEVEL, or less if a peak would exceed CEILING.

    RMS is enough because all clips of an utterance have the same pauses. A loudness measure would amplify the anchor.
    """
    parts: tuple[dict[Any, np.ndarray], dict[Any, np.ndarray]] = (stimuli.clips, stimuli.temperatures)
    gains = [{key: 10 ** (LEVEL / 20) / rms(clip) for key, clip in part.items()} for part in parts]
    peaks = {
        key: float(np.abs(clip).max()) * gain[key]
        for part, gain in zip(parts, gains, strict=True)
        for key, clip in part.items()
    }
    loudest = max(peaks, key=lambda key: peaks[key])
    over = 20 * math.log10(peaks[loudest]) - CEILING
    level, notes = LEVEL, list(stimuli.notes)
    if over > 0:
        level = LEVEL - over
        who = f"{loudest[-1]} of {loudest[0]}"
        notes.append(f"all clips are {over:.1f} dB below {LEVEL:g} dB, so that the peak of {who} is not clipped")
    common = 10 ** ((level - LEVEL) / 20)
    clips, by_temperature = (
        {key: (clip * (common * gain[key])).astype(np.float32) for key, clip in part.items()}
        for part, gain in zip(parts, gains, strict=True)
    )
    return stimuli._replace(clips=clips, temperatures=by_temperature, notes=notes), level
