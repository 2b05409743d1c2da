"""A full or read-only disk, for every program that writes: one line, what was there stays, nothing half-written."""

import contextlib
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import small

from fwn import config as configs
from fwn.evaluation import measure
from fwn.mel import PRESETS
from fwn.synthesis import exported
from fwn.training import checkpoints, journal

GOLDEN = small.ROOT / "tests" / "golden"
PROGRAMS = ["train", "prepare", "speak", "convert", "sample", "evaluate", "compare", "export", "listening", "bench"]
LOCKS = ".lock", "lock"  # empty files, made to see whether another process is at work


REPLACED = {"sample": "u00.wav", "evaluate": "table.txt", "compare": "comparison.txt", "bench": "bench.json"}
CLOCKS = "bench", "compare", "train"  # their results have times


@pytest.fixture
def command(run, corpus, monkeypatch):
    """command(name, output): the module and its flags."""
    monkeypatch.setattr(measure, "PATIENCE", 0.0)  # one run of each speed
    wavs, model, data = corpus.parent / "in", f"--ckpt={run}", f"--data={corpus}"
    listening = "build", f"--reference={wavs}", f"--systems=A={wavs}", "--utterances=2"
    commands = {
        "train": ("fwn.train", *small.config_flags(corpus, num_steps=1)),
        "prepare": ("data_prep.prepare", "--corpus=folder", f"--input={wavs}", "--workers=1"),
        "speak": ("data_prep.speak", "--sentences=2"),
        "convert": ("fwn.convert", GOLDEN / "clarinet_tiny_teacher.pth", "--stacks=1"),
        "sample": ("fwn.sample", model, f"--wav={wavs}/u00.wav", "--plot"),
        "evaluate": ("fwn.evaluate", model, data, "--utterances=1"),
        "compare": ("fwn.compare", f"--ckpts={run}", data, "--utterances=2", "--speed_seconds=0.1"),
        "export": ("fwn.export", model, "--format=voice"),
        "listening": ("fwn.listening", *listening),
        "bench": ("fwn.bench", *small.config_flags(corpus), "--only=data", data),
    }

    def complete(name, output):
        target = output / REPLACED[name] if name == "bench" else output
        return *commands[name], f"--{'workdir' if name == 'train' else 'output'}={target}"

    return complete


def old(name, output, run):
    """What the program is to replace."""
    if name == "export":
        exported.write_voice(output, checkpoints.read(run)._replace(step=3))
    if name in REPLACED:
        output.mkdir()
        (output / REPLACED[name]).write_text("old")


def tree(folder):
    """The files of a folder, but for locks."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in (*LOCKS, "ballast")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def fill(disk, free):
    """Leaves so many bytes on the disk."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        while shutil.disk_usage(disk).free:
            file.write(bytes(4096))
    with ballast.open("r+b") as file:
        file.truncate(ballast.stat().st_size - free)


def is_one_line(result, disk):
    assert result.code == 1, result
    assert re.fullmatch(rf"python -m [\w.]+: .*{disk}.*\n", result.err), result.err


@pytest.mark.parametrize("free", [0, 8192])
def test_the_log_of_a_run_on_a_full_disk(free, disk_of):
    """The error comes to the run, and names what could not be written; nothing waits for a thread."""
    disk, mel = disk_of("1m"), PRESETS["flowavenet"]
    log = journal.Journal(disk, 0, small.config("data", num_steps=1000), mel)
    fill(disk, free)
    steps = iter(range(1, 1000))

    def go_on():
        for step in steps:
            log.step(step, {"nats_per_sample": 1.0, "gradient_norm": 1.0, "skipped_in_all": 0})

    with contextlib.closing(log), pytest.raises(OSError, match=f"No space left on device: '{disk}/(metrics|events)"):
        go_on()
    done = len(journal.read(disk))
    assert next(steps) - done in (1, 2)
    (disk / "ballast").unlink()
    with contextlib.closing(journal.Journal(disk, done, small.config("data"), mel)):
        assert [record["step"] for record in journal.read(disk)] == list(range(1, done + 1))


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_read_only_disk(name, command, run, disk_of):
    """The line names the file or folder; nothing changes."""
    disk = disk_of("16m")
    old(name, disk / "out", run)
    before = tree(disk)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    is_one_line(small.program(*command(name, disk / "out")), disk)
    assert tree(disk) == before


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_full_disk(name, command, run, disk_of):
    """The same; with some room, each file that is there is whole. With more room the same command finishes."""
    disk = disk_of("16m")
    old(name, disk / "out", run)
    before = tree(disk)
    fill(disk, 0)
    is_one_line(small.program(*command(name, disk / "out")), disk)
    assert tree(disk) == before
    if name not in ("bench", "compare"):  # which have small files
        fill(disk, 16384)
        is_one_line(small.program(*command(name, disk / "out")), disk)
        found = tree(disk)
        assert not [file for file in found if ".partial" in file or ".unfinished" in file]
    (disk / "ballast").unlink()
    finished = small.program(*command(name, disk / "out"))
    assert (finished.code, finished.err) == (0, ""), finished
    if name not in CLOCKS:
        after = tree(disk)
        assert {file for file in found if found[file] not in (after[file], before.get(file))} == set()


def test_a_slow_save_is_waited_for_and_when_killed_meanwhile_the_one_before_is_read(tmp_path, monkeypatch):
    """The disk hangs while a checkpoint gets its name: what a kill would leave is a copy of the folder."""
    config, mel, arrived = small.config("data"), PRESETS["flowavenet"], threading.Event()
    permits = threading.Semaphore(1)
    workdir, folder, rename = tmp_path / "run", tmp_path / "run" / "checkpoints", os.rename

    def slow(source, target, **rest):
        if Path(target).parent == folder:
            arrived.set()
            assert permits.acquire(timeout=100)
        rename(source, target, **rest)

    monkeypatch.setattr(os, "rename", slow)
    kept = checkpoints.Checkpoints(workdir, config, mel)
    configs.write(workdir, config, mel)
    kept.save(1, params(1), params(-1), 3.0)
    kept.wait()
    arrived.clear()
    for step in (2, 3):
        kept.save(step, params(step), params(-step), 1.0)  # waits for the one before
        assert step == 2 or (folder / str(step - 1)).exists()
        assert arrived.wait(100)
        assert not (folder / str(step)).exists()
        killed = shutil.copytree(workdir, tmp_path / f"killed-{step}")
        arrived.clear()
        threading.Timer(0.2, permits.release).start()  # during the next save
    kept.save(4, params(4), params(-4), 1.0)
    assert (folder / "3").exists()
    permits.release()
    kept.close()
    assert sorted(path.name for path in folder.iterdir()) == ["1", "4"]
    for step in (1, 4):
        assert checkpoints.read(workdir, step).params["a"][0] == step
    monkeypatch.undo()
    assert checkpoints.read(killed, 2).params["a"][0] == 2
    again = checkpoints.Checkpoints(killed, config, mel)
    assert again.latest() == 2
    assert again.load(2, params(0), params(0))[1]["a"][0] == -2
    again.close()
    assert sorted(path.name for path in (killed / "checkpoints").iterdir()) == ["1", "2"]


def params(value):
    return {"a": np.full((3,), value, np.float32)}
