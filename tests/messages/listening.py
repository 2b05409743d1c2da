"""Errors of `fwn.listening build`."""

import shutil
from collections.abc import Callable
from unittest import mock

import numpy as np
import pages
import small
import soundfile

from . import LISTENING, Place, Row, write

BUILD = "build --reference={reference} --output={here}/out "
OF = "build --reference={evaluated} --output={here}/out "


def clip(name: str, audio: np.ndarray, rate: int = small.RATE) -> Callable[[Place], None]:
    def make(place: Place) -> None:
        file = place.here / name
        file.parent.mkdir(exist_ok=True)
        soundfile.write(file, audio, rate)

    return make


def both(place: Place) -> None:
    for suffix in ("wav", "flac"):
        clip(f"A/u00.{suffix}", small.speech(0, pages.SAMPLES))(place)


def without(*patterns: str) -> Callable[[Place], None]:
    """An evaluation that lacks some files."""

    def make(place: Place) -> None:
        folder = place.copy("evaluated")
        for pattern in patterns:
            for file in folder.rglob(pattern):
                file.unlink()

    return make


def mixed(place: Place) -> None:
    book = place.copy("evaluated") / "book"
    shutil.copy(book / "LJ001-0001.T1.0.wav", book / "LJ001-0001.T0.9.wav")


ROWS = [
    Row(LISTENING, "", "no command; give build or analyse"),
    Row(LISTENING, "biuld", "unknown command 'biuld'; did you mean 'build'?; give build or analyse"),
    Row(
        LISTENING,
        "build more --output={here}/out",
        "build: unexpected argument 'more': all settings are flags (--help lists them)",
    ),
    Row(LISTENING, "build", "build: name a new folder for the test: --output=FOLDER"),
    Row(
        LISTENING,
        "build --utterances=-1",
        "flag --utterances=-1: -1 is not a non-negative integer (--help lists the flags)",
        code=2,
    ),
    Row(LISTENING, BUILD, "no system; give --systems=NAME=FOLDER, once for each system"),
    Row(
        LISTENING,
        "build --systems=A={clips} --output={here}/out",
        "no recordings to compare with; give their folder: --reference=FOLDER",
    ),
    Row(
        LISTENING,
        "build --systems=A={clips} --reference={reference} --output={clips}",
        "--output={clips}: exists already; name a new folder (the key of a test is never overwritten)",
    ),
    Row(LISTENING, BUILD + "--systems={clips}", "--systems={clips}: give a name and a folder: --systems=NAME=FOLDER"),
    Row(
        LISTENING,
        BUILD + "--systems=A={here}/none",
        "--systems=A={here}/none: {here}/none: no such folder; give one of recordings",
    ),
    Row(
        LISTENING,
        BUILD + "--systems=A={here}/file",
        "--systems=A={here}/file: {here}/file: not a folder; give one of recordings",
        write("file", "x"),
    ),
    Row(
        LISTENING,
        "build --systems=A={clips} --reference={here}/none --output={here}/out",
        "--reference={here}/none: {here}/none: no such folder; give one of recordings",
    ),
    Row(
        LISTENING,
        BUILD + "--systems=anchor={clips}",
        "--systems=anchor={clips}: the name 'anchor' is taken by the hidden anchor; choose another",
    ),
    Row(
        LISTENING,
        BUILD + "--systems=A={clips} --systems=A={reference}",
        "--systems: the name 'A' is given twice; each system needs its own name",
    ),
    Row(LISTENING, BUILD + "--systems=A={here}", "--systems=A={here}: no audio file in {here}"),
    Row(
        LISTENING,
        BUILD + "--systems=A={here}",
        "no utterance is in the reference and in every system: the reference has 'u00', A 'x00'; did "
        "you mean 'x00'? (the files of an utterance must have the same name)",
        clip("x00.wav", small.speech(0, pages.SAMPLES)),
    ),
    Row(
        LISTENING,
        BUILD + "--systems=A={here}",
        "{here}/u00.wav: silent, its peak is 0 (below 0.0001)",
        clip("u00.wav", np.zeros(pages.SAMPLES)),
    ),
    Row(
        LISTENING,
        BUILD + "--systems=A={here}/A",
        "--systems=A={here}/A: {here}/A/u00.flac and {here}/A/u00.wav are the same utterance; remove one",
        both,
    ),
    Row(
        LISTENING,
        BUILD + "--systems=A={clips} --pairs=A,Betta",
        "--pairs=A,Betta: no system is named 'Betta'; give NAME,NAME",
    ),
    Row(LISTENING, BUILD + "--systems=A={clips} --pairs=A", "--pairs=A: no system is named ''; give NAME,NAME"),
    Row(LISTENING, BUILD + "--systems=A={clips} --pairs=A,A", "--pairs=A,A: a pair needs two systems"),
    Row(
        LISTENING,
        BUILD + "--systems=A={clips} --pairs=A,reference --pairs=reference,A",
        "--pairs=reference,A: given twice",
    ),
    Row(
        LISTENING,
        BUILD + "--systems=A={clips}@0.8",
        "--systems=A={clips}@0.8: {clips} is not from fwn.evaluate (no *.recording.wav); leave out @",
    ),
    Row(
        LISTENING,
        OF + "--systems=A={evaluated}",
        ("--systems=A={evaluated}: copies at several temperatures; choose one: A={evaluated}@0.6, A={evaluated}@1"),
    ),
    Row(
        LISTENING,
        OF + "--systems=A={evaluated}@0.7",
        ("--systems=A={evaluated}@0.7: no copies at temperature 0.7; choose one: A={evaluated}@0.6, A={evaluated}@1"),
    ),
    Row(
        LISTENING,
        OF + "--systems=A={evaluated}@warm",
        ("--systems=A={evaluated}@warm: 'warm' is not a number; choose one: A={evaluated}@0.6, A={evaluated}@1"),
    ),
    Row(
        LISTENING,
        OF + "--systems=A={here}/evaluated",
        ("--systems=A={here}/evaluated: {here}/evaluated holds recordings but no copies (UTTERANCE.T0.8.wav)"),
        without("*.T*.wav"),
    ),
    Row(
        LISTENING,
        OF + "--systems=A={here}/evaluated@1",
        "{here}/evaluated/results.json: no such file, so the evaluation did not finish; run "
        "fwn.evaluate again, into a new folder",
        without("results.json"),
    ),
    Row(
        LISTENING,
        OF + "--systems=A={here}/evaluated@1",
        "{here}/evaluated/results.json: damaged, or written by an older version "
        "(KeyError('utterances')); run fwn.evaluate again, into a new folder",
        lambda place: (place.copy("evaluated") / "results.json").write_text("{}"),
    ),
    Row(
        LISTENING,
        OF + "--systems=A={here}/evaluated@1",
        "{here}/evaluated/results.json: book/LJ001-0001 at T = 0.9 is missing, its clip is from another "
        "run; run fwn.evaluate again, into a new folder",
        mixed,
    ),
    Row(
        LISTENING,
        "build --systems=A={here} --reference={here} --output={here}/out",
        "{here}/u00.wav: 8000 Hz is too low: the anchor, low-passed at 3500 Hz, would sound the same; use "
        "recordings of a higher rate",
        clip("u00.wav", small.speech(0, pages.SAMPLES), 8000),
    ),
    Row(
        LISTENING,
        "build --systems=A={here} --reference={here} --output={here}/out",
        "{here}/u00.wav: not an audio file that libsndfile can read",
        write("u00.wav", "x"),
    ),
    Row(
        LISTENING,
        BUILD + "--systems=A={clips}",
        "--seed=0: two clips have the same hash; use another seed",
        lambda _: mock.patch("fwn.listening.blind_test.clip_id", return_value="0123456789abcdef"),
    ),
]
