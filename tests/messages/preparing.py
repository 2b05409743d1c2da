"""Errors of data_prep.prepare and data_prep.speak, but for those of single recordings and of mel contracts."""

import contextlib
import fcntl
import shutil
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any
from unittest import mock

import numpy as np

from data_prep import given_mels, shards
from fwn.mel import PRESETS

from . import PREPARE, SPEAK, Place, Row, table, write

FOLDER = "--corpus=folder --input={recordings} --output={here}/out --workers=1"
LJSPEECH = "--corpus=ljspeech --input={here}/ljspeech --output={here}/out --workers=1"
OUT = ("out", "out/.parts", "out/.parts/lock", "out/.parts/*.json")


def without(name: str) -> Any:
    return lambda place: (place.copy("ljspeech") / name).unlink()


def metadata(content: bytes) -> Any:
    return lambda place: (place.copy("ljspeech") / "metadata.csv").write_bytes(content)


def no_wavs(place: Place) -> None:
    shutil.rmtree(place.copy("ljspeech") / "wavs")


def twice(place: Place) -> None:
    wavs = place.copy("ljspeech") / "wavs"
    shutil.copy(wavs / "u00.wav", wavs / "u00.flac")


def damaged(place: Place) -> None:
    for file in (place.copy("ljspeech") / "wavs").iterdir():
        file.write_bytes(b"no sound")


def locked(place: Place) -> Any:
    """As another process would."""
    lock = (place.copy("corpus") / ".parts" / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def die(_: Place) -> None:
    broken: Future[int] = Future()
    broken.set_exception(BrokenProcessPool())
    list(shards.in_order(lambda item: broken, [1], 1))


def silent_espeak(_: Place) -> contextlib.ExitStack:
    """An eSpeak NG whose data is not where it should be."""
    stack = contextlib.ExitStack()
    loader = mock.Mock(get_library_path=lambda: "libespeak", get_data_path=lambda: "/espeak-data")
    stack.enter_context(mock.patch.dict("sys.modules", espeakng_loader=loader))
    stack.enter_context(mock.patch("ctypes.CDLL", **{"return_value.espeak_Initialize.return_value": -1}))
    return stack


MELS = FOLDER + " --mel=tacotron2 --mels={here}/mels"


def mels(**arrays: Any) -> Any:
    """Arrays by name in the folder of given mels."""

    def make(place: Place) -> None:
        (place.here / "mels").mkdir()
        for name, array in arrays.items():
            np.save(place.here / "mels" / f"{name}.npy", array)

    return make


ROWS = [
    *(
        Row(
            PREPARE,
            f"--corpus={corpus} --input={{recordings}} --output={{here}}/out",
            f"--input={{recordings}}: no recordings in {where}, where {layout} has them; give the folder that has "
            "this, or use --corpus=folder",
        )
        for corpus, layout, where in [
            ("vctk", "VCTK", "wav48_silence_trimmed/ or wav48/"),
            ("libritts", "LibriTTS", "SPEAKER/CHAPTER/SPEAKER_CHAPTER_….wav"),
            ("arctic", "CMU ARCTIC", "cmu_us_SPEAKER_arctic/wav/"),
            ("jsut", "JSUT", "SUBSET/wav/"),
            ("csmsc", "CSMSC", "Wave/"),
        ]
    ),
    Row(
        PREPARE,
        LJSPEECH + " --speaker_column=9",
        "{here}/ljspeech/metadata.csv: row 1 ('u00') has no speaker in column 9 (--speaker_column); columns are "
        "counted from 1",
        lambda place: place.copy("ljspeech"),
    ),
    Row(
        PREPARE,
        FOLDER + " --speaker_folders",
        "<reason>/u0<number>.wav: is in no speaker's folder; --speaker_folders needs {recordings}/SPEAKER/…",
    ),
    Row(
        PREPARE,
        FOLDER + " --speaker_column=2",
        "--speaker_column: is for --corpus=ljspeech, and this is --corpus=folder",
    ),
    Row(PREPARE, MELS, "--mels={here}/mels: no such folder; give that of the files"),
    Row(
        PREPARE,
        MELS,
        "--mels={here}/mels: no file of arrays (.h5, .npy, .npz, .pt, .pth, .safetensors) in this folder",
        mels(),
    ),
    Row(
        PREPARE,
        MELS,
        "--mels={here}/mels: none of its 1 files is that of a recording; the first is a.npy; of the first recording: "
        "u00: not in --mels",
        mels(a=np.zeros((9, 80))),
    ),
    Row(
        PREPARE,
        MELS,
        "--mels={here}/mels: 1 of 1 mels that were compared with their recordings do not agree with tacotron2 "
        "(<hash>): typical correlation 0.00, values <reason> × those of the recording; it does not follow the "
        "recording (1 of 1); state their contract by --mel, or give --mels_unchecked if they are right",
        mels(u00=np.full((17, 80), -5.0)),
        creates=OUT,
    ),
    Row(
        PREPARE,
        MELS + " --mels_unchecked",
        "--input={recordings}: no usable recording among <number> (<reason>; u00: {here}/mels/u00.npy: has 2 mels; "
        "give a file for each recording)",
        mels(u00=np.zeros((2, 17, 80))),
        creates=OUT,
    ),
    Row(
        PREPARE,
        MELS + " --mels_unchecked",
        "--input={recordings}: no usable recording among <number> (<reason>; u00: its mel has 7 frames and it has "
        "<number>, which differ by more than --mels_tolerance=2)",
        mels(u00=np.full((7, 80), -5.0)),
        creates=OUT,
    ),
    Row(
        lambda _: given_mels.fitted(np.zeros(12 * 256), np.zeros((7, 80)), 256, 2),
        "",
        "its mel has 7 frames and it has 12, which differ by more than --mels_tolerance=2",
    ),
    Row(
        lambda place: given_mels.mel_of(place.here / "mels" / "a.npy", np.zeros(9000), PRESETS["tacotron2"]),
        "",
        "{here}/mels/a.npy: has 2 mels; give a file for each recording",
        mels(a=np.zeros((2, 17, 80))),
    ),
    Row(PREPARE, FOLDER + " --mels_unchecked", "--mels_unchecked: needs --mels, the folder of given mels"),
    Row(
        PREPARE,
        "--corpus=folder --input={recordings}",
        "--output is missing; give it (--help lists the flags)",
        code=2,
    ),
    Row(
        PREPARE,
        "--corpus=tapes --input={recordings} --output={here}/out",
        "flag --corpus=tapes: value should be one of <ljspeech|folder|vctk|libritts|arctic|jsut|csmsc> (--help lists "
        "the flags)",
        code=2,
    ),
    Row(
        PREPARE,
        FOLDER + " --test_share=0.95",
        "flag --test_share=0.95: 0.95 is not a number in the range [0.0, 0.9] (--help lists the flags)",
        code=2,
    ),
    Row(
        PREPARE,
        FOLDER + " --seed=x",
        "flag --seed=x: invalid literal for int() with base 10: 'x' (--help lists the flags)",
        code=2,
    ),
    Row(
        PREPARE,
        FOLDER + " --workers=0",
        "flag --workers=0: 0 is not a positive integer (--help lists the flags)",
        code=2,
    ),
    Row(PREPARE, FOLDER + " more", "unexpected argument 'more'; give the recordings with --input=DIR"),
    Row(
        PREPARE,
        "--corpus=folder --input={here}/no --output={here}/out",
        "--input={here}/no: no such folder; give that of the recordings",
    ),
    Row(
        PREPARE,
        "--corpus=folder --input={here}/file --output={here}/out",
        "--input={here}/file: not a folder; give that of the recordings",
        write("file", "x"),
    ),
    Row(
        PREPARE,
        "--corpus=folder --input={recordings} --output={here}/file",
        "--output={here}/file: is a file; give a folder",
        write("file", "x"),
    ),
    Row(
        PREPARE,
        "--corpus=folder --input={recordings} --output={here}/file/out",
        "Not a directory: {here}/file/out/.parts",
        write("file", "x"),
    ),
    Row(
        PREPARE,
        FOLDER,
        "--output={here}/out: not empty and not a prepared data set; give a new folder",
        write("out/notes.txt", "mine"),
    ),
    Row(
        PREPARE,
        "--corpus=folder --input={recordings} --output={here}/corpus",
        "--output={here}/corpus: was prepared with test_share 0.2 instead of 0.1; give another --output",
        lambda place: place.copy("corpus"),
    ),
    Row(
        PREPARE,
        "--corpus=folder --input={recordings} --output={here}/corpus --test_share=0.2 --mel=hifigan",
        (
            (
                "--output={here}/corpus: was prepared with mel_hash a13bd5d9b250 instead of 3c96768fd3c8; give "
                "another --output\n"
            )
            + table("flowavenet", "hifigan")
        ),
        lambda place: place.copy("corpus"),
    ),
    Row(
        PREPARE,
        "--corpus=folder --input={reference} --output={here}/corpus --test_share=0.2 --workers=1",
        ("--output={here}/corpus: holds another corpus (none of its recordings is in --input); give another --output"),
        lambda place: place.copy("corpus"),
    ),
    Row(
        PREPARE,
        "--corpus=folder --input={recordings} --output={here}/corpus",
        "--output={here}/corpus: another data_prep.prepare is running there; wait for it, or stop it",
        locked,
    ),
    Row(
        PREPARE,
        LJSPEECH,
        "{here}/ljspeech/metadata.csv: no such file; for recordings without it use --corpus=folder",
        without("metadata.csv"),
    ),
    Row(
        PREPARE,
        LJSPEECH,
        "{here}/ljspeech/metadata.csv: not UTF-8 text (invalid continuation byte at byte 7)",
        metadata(b"u00|caf\xe9|caf\xe9\n"),
    ),
    Row(
        PREPARE, LJSPEECH, "{here}/ljspeech/wavs: no such folder; the LJSpeech layout has its recordings there", no_wavs
    ),
    Row(
        PREPARE,
        LJSPEECH,
        ("--input={here}/ljspeech: 2 recordings have the name 'u00' (wavs/u00.flac, wavs/u00.wav); keep one of them"),
        twice,
    ),
    Row(
        PREPARE,
        LJSPEECH,
        "--input={here}/ljspeech: no usable recording among 3 (u00: not an audio file that libsndfile "
        "can read (Format not recognised); u01: not an audio file that libsndfile can read (Format not "
        "recognised); u02: not an audio file that libsndfile can read (Format not recognised))",
        damaged,
        creates=OUT,
    ),
    Row(
        PREPARE,
        LJSPEECH,
        "--input={here}/ljspeech: no usable recording among 0 (none found)",
        metadata(b"\n"),
        creates=OUT,
    ),
    Row(
        PREPARE,
        LJSPEECH,
        "left out u01 (wavs/u01.*): listed in metadata.csv, but there is no such file",
        without("wavs/u01.wav"),
        code=3,
        creates=(*OUT, "out/*"),
    ),
    Row(die, "", "a worker process died (out of memory?); run again with fewer --workers"),
    Row(SPEAK, "more --output={here}/out", "unexpected argument 'more'; give the folder with --output=DIR"),
    Row(
        SPEAK,
        "--output={here}/out --sentences=0",
        "flag --sentences=0: 0 is not an integer in the range [1, 60] (--help lists the flags)",
        code=2,
    ),
    Row(SPEAK, "--output={ljspeech} --sentences=3", "--output={ljspeech}: holds another corpus; give a new folder"),
    Row(
        SPEAK,
        "--output={here}/out --voice=nonsense",
        "--voice=nonsense: eSpeak NG has no such voice (for example en, en-us, de, fr)",
        needs="espeakng_loader",
    ),
    Row(
        SPEAK,
        "--output={here}/out",
        "eSpeak NG is missing; install it with: pip install fwn[demo]",
        lambda _: mock.patch.dict("sys.modules", espeakng_loader=None),
    ),
    Row(
        SPEAK,
        "--output={here}/out",
        "eSpeak NG cannot start with its data in /espeak-data; reinstall it: pip install fwn[demo]",
        silent_espeak,
    ),
]
