"""data_prep.prepare: reproducible bytes, no partial files after a kill, and a reason for every recording left out."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep.prepare import prepare
from data_prep.recordings import Kind, Recording
from data_prep.shards import plan
from fwn.data.corpus import Corpus
from fwn.errors import UserError
from fwn.mel import PRESETS, align

ROOT = Path(__file__).resolve().parents[1]
KIND = Kind(PRESETS["flowavenet"], "int16", "float32")
SHARD = 60_000  # bytes of audio per shard: two or three of the recordings below


def speech(i, seconds=0.5, rate=22050):
    """Bursts of noise, different for each i."""
    rng = np.random.default_rng(i)
    samples = int(rate * seconds) + 100 * i
    return (rng.normal(size=samples) * 0.1 * (1.1 + np.sin(np.arange(samples) / 700))).astype(np.float32)


@pytest.fixture
def ljspeech(tmp_path):
    """Twelve valid recordings in LJSpeech layout."""
    folder = tmp_path / "in"
    (folder / "wavs").mkdir(parents=True)
    names = [f"LJ{i:03d}" for i in (3, 1, 2, *range(4, 13))]
    for i, name in enumerate(names):
        soundfile.write(folder / "wavs" / f"{name}.{('wav', 'flac')[i % 2]}", speech(i), 22050)
    (folder / "metadata.csv").write_text("".join(f"{name}|Text.|Text.\n" for name in names))
    return folder


def run(source, output, corpus="ljspeech", kind=KIND, test_share=0.1, seed=None, workers=1):
    return prepare(corpus, source, output, kind, test_share, seed, workers, shard_bytes=SHARD)


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def program(*flags):
    """Runs the program: (exit code, stdout, stderr)."""
    done = subprocess.run(
        [sys.executable, "-m", "data_prep.prepare", *map(str, flags)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_data_set_has_the_aligned_audio_and_mels(ljspeech, tmp_path):
    assert run(ljspeech, tmp_path / "out") == []
    corpus = Corpus(tmp_path / "out")
    listed = [line.split("|")[0] for line in (ljspeech / "metadata.csv").read_text().splitlines()]
    assert [utterance.name for utterance in corpus.utterances] == listed
    assert [utterance.split for utterance in corpus.utterances] == ["train"] * 11 + ["test"]
    assert len({utterance.shard for utterance in corpus.utterances}) > 3
    for i, utterance in enumerate(corpus.utterances):
        recorded, _ = soundfile.read(ljspeech / utterance.source, dtype="float32")
        audio, mel = align(recorded, corpus.contract)
        assert utterance.samples == len(recorded)
        np.testing.assert_array_equal(corpus.mel(i), mel)
        assert abs(corpus.audio(i) - audio).max() <= 0.5 / 32768


@pytest.mark.parametrize(("audio", "mel", "audio_step", "mel_step"), [("float16", "float16", 3e-4, 3e-4)])
def test_half_precision(ljspeech, tmp_path, audio, mel, audio_step, mel_step):
    run(ljspeech, tmp_path / "full")
    run(ljspeech, tmp_path / "half", kind=Kind(KIND.contract, audio, mel))
    full, half = Corpus(tmp_path / "full"), Corpus(tmp_path / "half")
    assert half[0]["audio"].dtype == half[0]["mel"].dtype == np.float16
    assert abs(full.audio(3) - half.audio(3)).max() < audio_step
    assert abs(full.mel(3) - half.mel(3)).max() < mel_step


def test_the_number_of_workers_changes_no_byte(ljspeech, tmp_path):
    run(ljspeech, tmp_path / "one", workers=1)
    run(ljspeech, tmp_path / "three", workers=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")


KILLED = """
import contextlib, os, signal, sys
from pathlib import Path
from data_prep import prepare, shards
from fwn import disk
from fwn.audio import audio_file

calls = 0

@contextlib.contextmanager
def dies(path):
    global calls
    calls += 1
    with disk.atomic(path) as file:
        if calls == int(sys.argv[3]):
            file.write(b"half of it")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        yield file

shards.atomic = prepare.atomic = dies
from fwn.mel import PRESETS
kind = prepare.Kind(PRESETS["flowavenet"], "int16", "float32")
prepare.prepare("ljspeech", Path(sys.argv[1]), Path(sys.argv[2]), kind, 0.1, None, 2, shard_bytes=60_000)
"""


def killed(source, output, write):
    """Runs prepare in a process that kills itself in the middle of write number `write`. Its workers must exit too."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, source, output, str(write)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_after_a_kill_the_set_is_incomplete_and_can_be_resumed(ljspeech, tmp_path):
    run(ljspeech, tmp_path / "whole")
    writes = len(contents(tmp_path / "whole")) - 1  # all files except the lock
    output = tmp_path / "out"
    for write in (1, 2, 5):  # audio and mel of the first shard, then a write of the second
        killed(ljspeech, output, write)
        with pytest.raises(UserError, match="did not finish"):
            Corpus(output)
    finished = {file: file.stat().st_mtime_ns for file in output.glob("*.npy")}
    assert len(finished) >= 2
    killed(ljspeech, tmp_path / "last", writes)
    assert not (tmp_path / "last" / "manifest.json").exists()
    for folder in (output, tmp_path / "last"):
        run(ljspeech, folder)
        assert contents(folder) == contents(tmp_path / "whole")
    done_before = [file for file, time in finished.items() if file.stat().st_mtime_ns == time]
    assert len(done_before) >= 2


def test_a_kill_during_an_update_keeps_the_old_set(ljspeech, tmp_path):
    output = tmp_path / "out"
    run(ljspeech, output)
    old = contents(output)
    soundfile.write(ljspeech / "wavs" / "LJ001.flac", speech(99), 22050)
    killed(ljspeech, output, 2)
    assert {name: data for name, data in contents(output).items() if name in old} == old
    assert len(Corpus(output)) == 12
    run(ljspeech, output)
    run(ljspeech, tmp_path / "fresh")
    assert contents(output) == contents(tmp_path / "fresh") != old


def test_a_second_run_converts_only_what_changed(ljspeech, tmp_path, capsys):
    output = tmp_path / "out"
    run(ljspeech, output)
    before = {file: file.stat().st_mtime_ns for file in output.glob("*")}
    run(ljspeech, output)
    assert "nothing to do" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in output.glob("*")} == before
    (ljspeech / "wavs" / "LJ003.wav").unlink()  # the first recording, so all later shards change
    soundfile.write(ljspeech / "wavs" / "LJ013.ogg", speech(13), 22050)
    metadata = (ljspeech / "metadata.csv").read_text().splitlines(keepends=True)
    (ljspeech / "metadata.csv").write_text("".join(metadata[1:]) + "LJ013|More.|More.\n")
    run(ljspeech, output)
    run(ljspeech, tmp_path / "fresh")
    assert contents(output) == contents(tmp_path / "fresh")
    assert [u.name for u in Corpus(output).utterances][::11] == ["LJ001", "LJ013"]


def test_transcripts_are_stored_and_brought_up_to_date(ljspeech, tmp_path):
    """The second column of metadata.csv. A set without them gets them without converting a recording again."""
    output, metadata = tmp_path / "out", ljspeech / "metadata.csv"
    names = [line.split("|")[0] for line in metadata.read_text().splitlines()]
    metadata.write_text("".join(f"{name}\n" for name in names))
    run(ljspeech, output)
    assert {utterance.text for utterance in Corpus(output).utterances} == {""}
    assert "text" not in json.loads((output / "manifest.json").read_text())["utterances"][0]
    arrays = {file: file.stat().st_mtime_ns for file in output.glob("*.npy")}
    metadata.write_text("".join(f"{name}| Dr. {name} said: “Öl”. |Doctor {name}\n" for name in names), "utf-8")
    run(ljspeech, output)
    assert [utterance.text for utterance in Corpus(output).utterances] == [f"Dr. {name} said: “Öl”." for name in names]
    assert {file: file.stat().st_mtime_ns for file in output.glob("*.npy")} == arrays


def test_damaged_shards_are_made_again(ljspeech, tmp_path):
    output = tmp_path / "out"
    run(ljspeech, output)
    whole = contents(output)
    audio, *_, mel = sorted(output.glob("*.npy"))
    audio.write_bytes(audio.read_bytes()[:1000])
    mel.unlink()
    run(ljspeech, output)
    assert contents(output) == whole


def odd_folder(folder):
    """Writes one recording of every valid and every invalid kind; returns the reasons for the invalid ones."""
    (folder / "deep" / "er").mkdir(parents=True)
    soundfile.write(folder / "b.wav", speech(1), 22050)
    soundfile.write(folder / "deep" / "mp3.mp3", speech(2), 22050)
    soundfile.write(folder / "deep" / "er" / "8k.wav", speech(3, rate=8000), 8000)
    soundfile.write(folder / "48k.wav", np.stack([speech(4, rate=48000)] * 2, 1), 48000, subtype="PCM_24")
    soundfile.write(folder / "C.OGG", speech(5), 22050)
    (folder / "notes.txt").write_text("notes")
    (folder / ".hidden.wav").write_text("no")
    (folder / "text.wav").write_text("hello")
    (folder / "phone.m4a").write_text("hello")
    os.mkfifo(folder / "pipe.wav")
    (folder / "zeros.wav").symlink_to("/dev/zero")
    (folder / "gone.wav").symlink_to("nowhere")
    (folder / "a\x1b[31m.wav").write_text("hello")
    soundfile.write(folder / "loud.wav", 1e30 * speech(8), 22050, subtype="FLOAT")
    loudest = np.abs(np.float32(1e30 * speech(8))).max()
    soundfile.write(folder / "claims.flac", speech(9), 22050)
    flac = bytearray((folder / "claims.flac").read_bytes())
    flac[21] |= 0x0F
    flac[22:26] = b"\xff" * 4  # the lowest 36 bits of STREAMINFO's second number: samples
    (folder / "claims.flac").write_bytes(flac)
    soundfile.write(folder / "slow.wav", speech(10), 7)
    soundfile.write(folder / "empty.wav", np.zeros(0), 22050)
    soundfile.write(folder / "silent.flac", np.zeros(22050), 22050)
    soundfile.write(folder / "short.wav", speech(6)[:1000], 22050)
    nan = speech(7)
    nan[5] = np.nan
    soundfile.write(folder / "nan.wav", nan, 22050, subtype="FLOAT")
    return {
        "a\x1b[31m": "not an audio file that libsndfile can read (Format not recognised)",
        "claims": f"damaged, claims 68719476735 samples of 1 channels in {len(flac)} bytes",
        "gone": "no such file",
        "loud": f"not in the range of audio, its peak is {loudest:.3g} times full scale (over +20 dB)",
        "pipe": "not a regular file, not a recording",
        "slow": "has a sample rate of 7 Hz; 4000 to 384000 Hz can be read",
        "zeros": "not a regular file, not a recording",
        "empty": "holds 0 samples",
        "nan": "1 of 11725 samples are NaN or infinite, the first at 5",
        "phone": ".m4a cannot be read by libsndfile; convert it to flac or wav",
        "short": "too short, 1000 samples at 22050 Hz (at least 1024 are needed)",
        "silent": "silent, its peak is 0 (below 0.0001)",
        "text": "not an audio file that libsndfile can read (Format not recognised)",
    }


def test_invalid_recordings_are_left_out_and_change_the_exit_code(tmp_path):
    reasons = odd_folder(tmp_path / "in")
    for again in (False, True):
        code, out, err = program(
            "--corpus=folder", f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'out'}", "--workers=2"
        )
        assert (code, err) == (3, "")
        assert ("nothing to do" in out) == again
        assert "1 files in" in out
        assert "resampled 8000 -> 22050 Hz: 1 recordings" in out
        assert "resampled 48000 -> 22050 Hz: 1 recordings" in out
        assert "mixed 2 channels down: 1 recordings" in out
        for name, reason in reasons.items():
            shown = name.replace("\x1b", "\\x1b")
            assert f"left out {shown} ({shown}." in out
            assert reason in out
    corpus = Corpus(tmp_path / "out")
    assert [utterance.name for utterance in corpus.utterances] == ["48k", "C", "b", "deep/er/8k", "deep/mp3"]
    assert {entry["name"]: entry["reason"] for entry in corpus.left_out} == reasons
    assert [utterance.split for utterance in corpus.utterances].count("test") == 1


def test_listed_recordings_that_are_missing_are_left_out(ljspeech, tmp_path):
    (ljspeech / "wavs" / "LJ012.flac").unlink()
    soundfile.write(ljspeech / "wavs" / "extra.wav", speech(0), 22050)
    left_out = run(ljspeech, tmp_path / "out")
    assert left_out == [
        {"name": "LJ012", "source": "wavs/LJ012.*", "reason": "listed in metadata.csv, but there is no such file"}
    ]
    assert Corpus(tmp_path / "out").split("test") == [10]  # the last of the remaining eleven


@pytest.mark.parametrize(
    ("share", "seed", "count"), [(0.0, None, 0), (0.25, None, 3), (0.25, 1, 3), (0.01, 7, 1), (0.9, 2, 10)]
)
def test_splits(ljspeech, tmp_path, share, seed, count):
    run(ljspeech, tmp_path / "out", test_share=share, seed=seed)
    test = Corpus(tmp_path / "out").split("test")
    assert len(test) == count
    assert (test == list(range(12 - count, 12))) == (seed is None)


def test_a_full_disk_is_a_one_line_error_and_the_run_can_continue(ljspeech, small_disk):
    flags = ["--corpus=ljspeech", f"--input={ljspeech}", f"--output={small_disk / 'out'}", "--workers=1"]
    code, _, err = program(*flags)
    assert code == 1
    assert "No space left on device" in err
    assert str(small_disk / "out" / "audio-") in err
    assert len(err.splitlines()) == 1
    assert list((small_disk / "out").glob("*")) == [small_disk / "out" / ".parts"]
    subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    code, _, err = program(*flags)
    assert (code, err) == (0, "")
    assert len(Corpus(small_disk / "out")) == 12


def test_shards_have_consecutive_recordings_and_bounded_size():
    recordings = [
        Recording(f"r{i}", f"r{i}.wav", str(i), seconds) for i, seconds in enumerate([1, 1, 1, 30, 0, 0, 1, 1])
    ]
    groups = [group for _, group in plan(recordings, KIND, limit=2 * 22050 * 2)]
    assert [recording for group in groups for recording in group] == recordings
    assert [len(group) for group in groups] == [2, 2, 4]
    keys = {key for key, _ in plan(recordings, KIND, 1)}
    assert len(keys) == len(plan(recordings, KIND, 1))
    assert not keys & {key for key, _ in plan(recordings, Kind(PRESETS["hifigan"], "int16", "float32"), 1)}


def test_prepare_reads_a_corpus_of_speak(tmp_path):
    pytest.importorskip("espeakng_loader")
    speak = [sys.executable, "-m", "data_prep.speak", f"--output={tmp_path / 'said'}", "--sentences=3"]
    for _ in range(2):
        assert subprocess.run(speak, cwd=ROOT, env=os.environ | {"PYTHONWARNINGS": "error"}).returncode == 0
    assert run(tmp_path / "said", tmp_path / "out") == []
    corpus = Corpus(tmp_path / "out")
    assert [utterance.split for utterance in corpus.utterances] == ["train", "train", "test"]
    assert all(2 < utterance.samples / 22050 < 10 for utterance in corpus.utterances)
