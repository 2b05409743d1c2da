"""A full or read-only disk, for every program that writes: one line, what was there stays, nothing half-written."""

import re
import shutil
import subprocess

import pytest
import small

from fwn.synthesis import exported
from fwn.training import checkpoints

GOLDEN = small.ROOT / "tests" / "golden"
PROGRAMS = ["train", "prepare", "speak", "convert", "sample", "evaluate", "compare", "export", "listening", "bench"]
LOCKS = ".lock", "lock"  # empty files, made to see whether another process is at work


REPLACED = {"sample": "u00.wav", "evaluate": "table.txt", "compare": "comparison.txt", "bench": "bench.json"}
CLOCKS = "bench", "compare", "train"  # their results have times


@pytest.fixture
def command(run, corpus):
    """command(name, output): the module and its flags."""
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
        "export": ("fwn.export", model),
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
        exported.write(output, checkpoints.read(run)._replace(step=3))
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
