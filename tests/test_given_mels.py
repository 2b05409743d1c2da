"""Mels that an acoustic model made of the recordings (data_prep.prepare --mels): paired, compared and stored."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import small

from data_prep import pairs
from data_prep.recordings import Recording
from fwn.audio import audio_file
from fwn.data.corpus import Corpus
from fwn.mel import PRESETS, align

MEL = PRESETS["tacotron2"]
LENGTHS = [14_000 + 700 * i for i in range(6)]


def blurred(mel: np.ndarray) -> np.ndarray:
    """As acoustic models do it: the mean over neighbouring frames and bands."""
    for axis in (0, 1):
        mel = (np.roll(mel, 1, axis) + 2 * mel + np.roll(mel, -1, axis)) / 4
    return mel


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """Six recordings u00 … u05, and a blurred mel of each."""
    recordings = small.record(tmp_path / "in", LENGTHS)
    (tmp_path / "mels").mkdir()
    for file in sorted(recordings.iterdir()):
        audio, _ = audio_file.read(file, MEL.sample_rate)
        np.save(tmp_path / "mels" / f"{file.stem}.npy", blurred(align(audio, MEL)[1]))
    return recordings, tmp_path / "mels"


def prepare(folders, output, *flags):
    recordings, mels = folders
    given = f"--input={recordings}", f"--mels={mels}", f"--mel={MEL.name}", f"--output={output}", "--workers=1"
    return small.program("data_prep.prepare", "--corpus=folder", *given, *flags)


def change(folder: Path, name: str, how) -> None:
    np.save(folder / f"{name}.npy", how(np.load(folder / f"{name}.npy")))


def test_given_mels_are_stored_with_their_recordings(folders, tmp_path):
    result = prepare(folders, tmp_path / "out")
    assert result.code == 0, result.err
    assert "6 of 6 mels that were compared with their recordings agree with tacotron2" in result.out
    corpus = Corpus(tmp_path / "out")
    assert corpus.given_mels
    for i, utterance in enumerate(corpus.utterances):
        audio, _ = audio_file.read(folders[0] / utterance.source, MEL.sample_rate)
        np.testing.assert_array_equal(corpus.mel(i), np.load(folders[1] / f"{utterance.name}.npy"))
        np.testing.assert_allclose(corpus.audio(i), align(audio, MEL)[0], atol=1 / 32768)


def test_lengths_are_reconciled_within_the_tolerance_or_left_out(folders, tmp_path):
    """A longer mel and a longer recording are cut at the end; the third differs too much, the fourth has none."""
    mels = folders[1]
    change(mels, "u00", lambda mel: np.concatenate([mel, mel[-2:]]))
    change(mels, "u01", lambda mel: mel[:-2])
    change(mels, "u02", lambda mel: mel[:-3])
    (mels / "u03.npy").unlink()
    change(mels, "u04", np.transpose)
    result = prepare(folders, tmp_path / "out")
    assert result.code == 3, result.err
    corpus = Corpus(tmp_path / "out")
    frames = {utterance.name: utterance.frames for utterance in corpus.utterances}
    usual = {f"u{i:02d}": 1 + length // 256 for i, length in enumerate(LENGTHS)}
    assert frames == {"u00": usual["u00"], "u01": usual["u01"] - 2, "u04": usual["u04"], "u05": usual["u05"]}
    assert {entry["name"]: entry["reason"] for entry in corpus.left_out} == {
        "u02": f"its mel has {usual['u02'] - 3} frames and it has {usual['u02']}, which differ by more than "
        "--mels_tolerance=2",
        "u03": "not in --mels",
    }
    assert {"mel cut to its recording: 1 recordings", "cut to its mel: 1 recordings"} <= set(result.out.splitlines())
    for i in range(len(corpus)):
        assert len(corpus.audio(i)) == 256 * len(corpus.mel(i))


DAMAGES = {
    "another logarithm": (lambda mel: mel / math.log(10), "it has probably decimal logarithms instead of natural ones"),
    "one frame late": (lambda mel: np.concatenate([mel[:1], mel[:-1]]), "it is 1 frame late"),
    "half a frame early": (lambda mel: (mel[:-1] + mel[1:]) / 2, "it is half a frame early"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_another_convention_is_found_and_said(folders, tmp_path, damage):
    how, said = DAMAGES[damage]
    for i in range(6):
        change(folders[1], f"u{i:02d}", how)
    result = prepare(folders, tmp_path / "out")
    assert result.code == 1
    assert "6 of 6 mels that were compared with their recordings do not agree with tacotron2" in result.err
    assert said in result.err
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert prepare(folders, tmp_path / "out", "--mels_unchecked").code == 0


def test_the_contract_that_they_have_is_named(folders, tmp_path):
    for file in sorted(folders[0].iterdir()):
        audio, _ = audio_file.read(file, 22050)
        np.save(folders[1] / f"{file.stem}.npy", blurred(align(audio, PRESETS["hifigan"])[1]))
    result = prepare(folders, tmp_path / "out")
    assert result.code == 1
    assert "it is half a frame early (6 of 6)" in result.err
    assert "; they agree with hifigan; state their contract by --mel" in result.err


def test_the_axes_of_square_mels_are_found_and_said(tmp_path):
    """80 frames of 80 bands, in both orders."""
    recordings = small.record(tmp_path / "in", [79 * 256 + 10 * i for i in range(1, 7)])
    (tmp_path / "mels").mkdir()
    for i, file in enumerate(sorted(recordings.iterdir())):
        audio, _ = audio_file.read(file, MEL.sample_rate)
        mel = blurred(align(audio, MEL)[1])
        assert mel.shape == (80, 80)
        np.save(tmp_path / "mels" / f"{file.stem}.npy", mel.T if i % 2 else mel)
    result = prepare((recordings, tmp_path / "mels"), tmp_path / "out")
    assert result.code == 0, result.err
    assert "mel given as [bands, frames]: 3 recordings" in result.out
    corpus = Corpus(tmp_path / "out")
    for i in range(6):
        mel = np.load(tmp_path / "mels" / f"u{i:02d}.npy")
        np.testing.assert_array_equal(corpus.mel(i), mel.T if i % 2 else mel)


def test_a_changed_mel_is_prepared_again_and_settings_stay(folders, tmp_path):
    output = tmp_path / "out"
    assert prepare(folders, output).code == 0
    assert "nothing to do" in prepare(folders, output).out
    change(folders[1], "u01", lambda mel: mel - 0.5)
    assert prepare(folders, output).code == 0
    corpus = Corpus(output)
    np.testing.assert_array_equal(corpus.mel(1), np.load(folders[1] / "u01.npy"))
    without = small.program(
        "data_prep.prepare", "--corpus=folder", f"--input={folders[0]}", f"--mel={MEL.name}", f"--output={output}"
    )
    assert without.code == 1
    assert "was prepared with mels given instead of None" in without.err


def test_a_dump_of_parallelwavegan_is_paired(folders, tmp_path):
    """NAME-feats.npy, in a subfolder."""
    (folders[1] / "train").mkdir()
    for file in list(folders[1].glob("*.npy")):
        shutil.move(file, folders[1] / "train" / f"{file.stem}-feats.npy")
    assert prepare(folders, tmp_path / "out").code == 0
    assert len(Corpus(tmp_path / "out")) == 6


def named(*sources: str) -> list[Recording]:
    return [Recording(Path(source).with_suffix("").as_posix(), source) for source in sources]


def pairs_of(recordings, tmp_path, *mels: str):
    """({recording: mel}, {recording: reason})."""
    for name in mels:
        (tmp_path / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / name).write_bytes(b"")
    found, missing = pairs.paired(recordings, tmp_path / "m")
    return {one.name: one.mel for one in found}, {one["name"]: one["reason"] for one in missing}


def test_a_mel_is_never_paired_with_the_recording_of_another(tmp_path):
    """Two speakers have a recording x; the mel is one speaker's, or it does not say whose."""
    two = named("a/x.wav", "b/x.wav", "b/y.wav")
    found, missing = pairs_of(two, tmp_path, "a/x.npy", "x.npy", "y-feats.npy")
    assert found == {"a/x": "a/x.npy", "b/y": "y-feats.npy"}
    assert missing == {"b/x": "not in --mels"}


def test_names_of_mels(tmp_path):
    """A name that ends in the suffix itself, and two mels of one name."""
    found, missing = pairs_of(named("song-feats.wav", "z.wav"), tmp_path, "song-feats.npy", "a/z.npy", "b/z.npy")
    assert found == {"song-feats": "song-feats.npy"}
    assert missing == {"z": "2 files in --mels have its name (a/z.npy, b/z.npy)"}


def test_a_folder_without_recordings_says_so(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    result = prepare((tmp_path / "empty", folders[1]), tmp_path / "out")
    assert result.code == 1
    assert "no usable recording among 0" in result.err


@pytest.mark.parametrize("name", ["flowavenet", "hifigan", "pwg_16k_200"])
def test_the_doctor_has_nothing_against_perfect_mels(tmp_path, name):
    """Of recordings of any length, which alignment "half" pads at their beginning."""
    recordings, contract = small.record(tmp_path / "in", [30 * 256 + n for n in (0, 20, 64, 100, 200)]), PRESETS[name]
    (tmp_path / "mels").mkdir()
    for file in recordings.iterdir():
        audio, _ = audio_file.read(file, contract.sample_rate)
        np.save(tmp_path / "mels" / f"{file.stem}.npy", align(audio, contract)[1])
    given = f"--input={recordings}", f"--mels={tmp_path / 'mels'}", f"--mel={name}", f"--output={tmp_path / 'out'}"
    assert small.program("data_prep.prepare", "--corpus=folder", *given, "--workers=1").code == 0
    found = small.program("fwn.doctor", f"--data={tmp_path / 'out'}")
    assert f"mels are given ones: 4 of 4 agree with {name}" in found.out


def test_the_doctor_compares_given_mels(folders, tmp_path):
    for i in range(6):
        change(folders[1], f"u{i:02d}", lambda mel: np.concatenate([mel[:1], mel[:-1]]))
    assert prepare(folders, tmp_path / "late", "--mels_unchecked").code == 0
    found = small.program("fwn.doctor", f"--data={tmp_path / 'late'}")
    assert "mels are given ones: 0 of 4 agree with tacotron2" in found.out
    assert "given mels do not agree with their audio" in found.out
