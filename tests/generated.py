"""Folders of generated files, good and bad, for whole runs of data_prep.prepare and fwn.sample."""

import json
import os
import re
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

import fuzz
import numpy as np
import small
import soundfile
from array_files import WRITERS

from fwn.audio import audio_file

NAMES = [
    "a",
    "Ä 音",
    "a\x1b[31m\x07",
    "new\nline",
    "-dash",
    "a'b\"c",
    "%s{x}*?[",
    "<b>&",
    "=1+1",
    "\udcff",
    "x" * 180,
    "a.b",
]
FORMATS = {"wav": 22050, "flac": 48000, "ogg": 22050, "mp3": 16000, "aiff": 8000}


class Folder(NamedTuple):
    """Its files by path relative to it: whether each is good. Only those that a program has to read or report."""

    path: Path
    recordings: dict[str, bool]
    mels: dict[str, bool]


def folder(path: Path, files: int, rng: np.random.Generator) -> Folder:
    """Writes `files` files: valid, damaged, empty, of a wrong extension; folders, pipes, links; odd names."""
    path.mkdir()
    recordings: dict[str, bool] = {}
    mels: dict[str, bool] = {}
    soundfile.write(path.parent / "linked.wav", small.speech(0, 3000), 22050)
    for i in range(files):
        name = f"{NAMES[rng.integers(len(NAMES))]}{i}"
        suffix = str(rng.choice(list(FORMATS)))
        file, mel = path / f"{name}.{suffix}", path / f"{name}.npy"
        kind = i % 12
        if kind in (0, 1, 2):
            rate = FORMATS[suffix]
            soundfile.write(path / "made.tmp", small.speech(i, 3000 * rate // 22050), rate, format=suffix.upper())
            content = (path / "made.tmp").read_bytes()
            (path / "made.tmp").unlink()
            file.write_bytes(fuzz.mutated(content, rng) if kind == 2 else content)
            # a change may leave it as it was
            whole = kind < 2 or fuzz.end_of(fuzz.Attack(file, partial(audio_file.read, file, 22050))) == "read"
            recordings[file.name] = whole
        elif kind in (3, 4, 5):
            array = rng.uniform(0, 1, (12, 80) if kind == 3 else (80, 12)).astype("float32")
            mel = mel.with_name(f"{name}.{['npy', 'npz', 'pt', 'safetensors'][i // 12 % 4]}")
            WRITERS[f"plain{mel.suffix}" if mel.suffix != ".pt" else "tensor.pt"](mel, array)
            if kind == 5:
                mel.write_bytes(mel.read_bytes()[: int(rng.integers(900))])
            mels[mel.name] = kind != 5
        else:
            recordings[file.name] = False
            match kind:
                case 6:
                    file.write_bytes(b"")
                case 7:
                    file.write_bytes(rng.bytes(int(rng.integers(1, 5000))))
                case 8:
                    file.mkdir()
                    del recordings[file.name]
                case 9:
                    file.symlink_to(["nowhere", file.name, "/dev/zero", "../linked.wav"][i // 12 % 4])
                    recordings[file.name] = i // 12 % 4 == 3
                case 10:
                    os.mkfifo(file)
                case 11:
                    np.save(path / "made.npy", np.zeros((3, 80), "float32"))
                    (path / "made.npy").rename(file)
    return Folder(path, recordings, mels)


def prepared(made: Folder, output: Path) -> Counter[str]:
    """How one run of data_prep.prepare ended for each recording; a fault is in capitals."""
    result = small.program("data_prep.prepare", "--corpus=folder", f"--input={made.path}", f"--output={output}")
    ends = Counter({"CODE": result.code not in (0, 3), "STDERR": result.err != ""})
    manifest = json.loads((output / "manifest.json").read_text())
    used = {utterance["source"] for utterance in manifest["utterances"]}
    reasons = {entry["source"]: entry["reason"] for entry in manifest["left_out"]}
    for name, good in made.recordings.items():
        known = (name in used) == good and (name in reasons) == (not good)
        ends[("used" if good else "left out, with the reason") if known else "LOST"] += 1
    lines = [line for line in result.out.splitlines() if line.startswith("left out ")]
    ends["UNSAID"] += min(20, len(reasons)) != len(lines)
    return +ends


def sampled(made: Folder, run: Path, output: Path) -> Counter[str]:
    """How one run of fwn.sample on all recordings and mels ended for each."""
    given = [f"--mel={made.path}", f"--wav={made.path}", "--batch_size=16", "--seed=1"]
    result = small.program("fwn.sample", f"--ckpt={run}", *given, f"--output={output}")
    ends = Counter({"CODE": result.code not in (0, 3), "STDERR": result.err != ""})
    # a folder's links to nowhere, pipes and devices are no files of it
    files = {name: good for name, good in (made.recordings | made.mels).items() if (made.path / name).is_file()}
    for name, good in files.items():
        there = (output / f"{Path(name).stem}.wav").is_file()
        ends[("sampled" if good else "left out, with the reason") if there == good else "LOST"] += 1
    said = len(re.findall(r"^left out ", result.out, re.MULTILINE))
    ends["UNSAID"] += said != sum(not good for good in files.values())
    usual = r"left out |  |/.*: (?:mixed|resampled)|/.* saturated$"  # of files, by their paths
    usual += r"|\w+, [\d,]+ parameters|sampling: |\d+ file\(s\)"
    ends["LINES"] += len(re.findall(rf"^(?!{usual}).+", result.out, re.MULTILINE))
    return +ends
