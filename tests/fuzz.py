"""Damaged and hostile files, through everything that reads them: each is read or refused in one line, soon, in memory.

`run` is used by tests/chaos.py (`make chaos`) and, with few trials, by the tests.
"""

import io
import json
import resource
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from fwn import config as configs
from fwn.audio import audio_file
from fwn.data.corpus import Corpus
from fwn.errors import UserError
from fwn.listening import answers
from fwn.mel import PRESETS, read_contract, read_mel
from fwn.official import importer, torch_reader
from fwn.synthesis import exported
from fwn.training import checkpoints, journal

MEL = PRESETS["flowavenet"]
GOLDEN = Path(__file__).parent / "golden"
SLOW = 10.0  # seconds
LARGE = 2**20  # KiB that the process may grow by
NUMBERS = [0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**36, 2**63 - 1, 2**64 - 1]


class Attack(NamedTuple):
    """read(file or its folder) is called with changed contents of `file`."""

    file: Path
    read: Callable[[], Any]


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with one to four changes: bits, pieces, huge numbers, cuts."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        if not changed:
            break
        # half of the changes in the first bytes, where headers are
        at = int(rng.integers(len(changed) if rng.random() < 0.5 else min(200, len(changed))))
        size = int(rng.integers(1, 64))
        match rng.integers(7):
            case 0:
                changed[at] ^= 1 << int(rng.integers(8))
            case 1:
                changed[at : at + size] = rng.bytes(size)
            case 2:
                changed[at : at + size] = bytes([int(rng.choice([0, 32, 48, 57, 255]))]) * size
            case 3:
                width = int(rng.choice([2, 4, 8]))
                number = int(rng.choice(np.array(NUMBERS, object))) % 2 ** (8 * width)
                changed[at : at + width] = number.to_bytes(width, str(rng.choice(["little", "big"])))
            case 4:
                changed[at:at] = changed[at : at + size] * int(rng.integers(1, 20))
            case 5:
                del changed[at : at + size]
            case 6:
                del changed[at:]
    return bytes(changed)


def end_of(attack: Attack) -> str:
    """How reading ended: "read", "refused" in one line with the file's name, or a fault in capitals."""
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        attack.read()
        end = "read"
    except UserError as error:
        clear = str(attack.file.parent) in str(error) and "\n" not in str(error).partition("\n  ")[0]
        end = "refused" if clear else f"UNCLEAR: {error}"
    except Exception as error:
        end = f"TRACEBACK: {type(error).__name__}: {error}"
    if time.monotonic() - start > SLOW:
        end = f"SLOW: {end}"
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > LARGE:
        end = f"LARGE: {end}"
    return end


def run(attacks: dict[str, Attack], trials: int, rng: np.random.Generator) -> dict[str, Counter[str]]:
    """The ends of `trials` changed contents of each file. A file that ends in a fault is kept as FILE.fault."""
    found = {}
    for name, attack in attacks.items():
        content, ends = attack.file.read_bytes(), Counter[str]()
        for _ in range(trials):
            attack.file.write_bytes(mutated(content, rng))
            end = end_of(attack)
            if end[:2].isupper():
                shutil.copy(attack.file, attack.file.with_name(f"{attack.file.name}.fault"))
            ends[end] += 1
        attack.file.write_bytes(content)
        found[name] = ends
    return found


def attacks(folder: Path, data: Path, workdir: Path) -> dict[str, Attack]:
    """One attack for each kind of file. data, workdir: a data set and a run, which are copied."""
    rng, found = np.random.default_rng(0), {}
    speech = (0.1 * np.sin(np.arange(6000) ** 1.1)).astype(np.float32)
    for suffix in ("wav", "flac", "ogg", "mp3", "aiff", "w64", "au"):
        file = folder / suffix / f"a.{suffix}"
        file.parent.mkdir(parents=True)
        soundfile.write(file, speech, 22050)
        found[suffix] = Attack(file, lambda file=file: audio_file.read(file, 22050))
    for name, dtype in (("npy", np.float32), ("npy of float16", np.float16)):
        file = folder / name / "a.npy"
        file.parent.mkdir()
        np.save(file, rng.uniform(0, 1, (20, 80)).astype(dtype))
        found[name] = Attack(file, lambda file=file: read_mel(file, MEL))
    for name in ("torch_zip", "torch_legacy", "flowavenet_tiny", "clarinet_tiny_teacher"):
        file = Path(shutil.copy(GOLDEN / f"{name}.pth", folder / "npy" / f"{name}.pth"))
        found[f"{name}.pth"] = Attack(file, lambda file=file: convert(file))
    contract = folder / "contract.json"
    contract.write_text(json.dumps(MEL.to_dict()))
    found["mel contract"] = Attack(contract, lambda: read_contract(str(contract), "--mel"))
    own = shutil.copytree(data, folder / "data")
    found["manifest"] = Attack(own / "manifest.json", lambda: Corpus(own))
    run = shutil.copytree(workdir, folder / "run")
    found["config.json"] = Attack(run / "config.json", lambda: configs.read(run))
    found["metrics.jsonl"] = Attack(run / "metrics.jsonl", lambda: journal.read(run))
    voice = folder / "voice"
    exported.write(voice, checkpoints.read(workdir))
    found["weights of a voice"] = Attack(voice / "weights.npz", lambda: exported.read(voice))
    found["config of a voice"] = Attack(voice / "config.json", lambda: exported.read(voice))
    key = folder / "key.json"
    clips = {f"c{i}": {"system": "a", "utterance": "u"} for i in range(4)}
    key.write_text(
        json.dumps({"test": "t", "title": "T", "half_steps": False, "systems": ["a"], "clips": clips, "pairs": []})
    )
    found["listening key"] = Attack(key, lambda: answers.read_key(key))
    results = folder / "answers.csv"
    rows = [answers.COLUMNS, *(("t", "Ana", str(i + 1), "mos", f"c{i}", "", "3", "1", "2.0", "now") for i in range(4))]
    results.write_text("".join(",".join(row) + "\r\n" for row in rows))
    keyed = answers.read_key(key)
    found["answers"] = Attack(results, lambda: answers.read([str(results)], keyed))
    return found


def convert(file: Path) -> Any:
    """As fwn.convert does it."""
    return importer.convert(torch_reader.read(file), str(file), 1)


def odd_recordings(folder: Path, rng: np.random.Generator) -> list[Path]:
    """Valid recordings of every format, rate and width that libsndfile writes."""
    made = []
    for kind, subtypes in soundfile.available_formats().items():
        if f".{kind.lower()}" not in audio_file.EXTENSIONS or kind == "RAW":
            continue
        del subtypes
        for subtype in soundfile.available_subtypes(kind):
            rate, channels = (
                int(rng.choice([8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000])),
                1 + len(made) % 2,
            )
            content, audio = io.BytesIO(), 0.3 * np.sin(np.arange(rate) / 20.0)
            try:
                soundfile.write(content, np.stack([audio] * channels, 1), rate, subtype, format=kind)
            except soundfile.LibsndfileError:  # this format has not this rate or number of channels
                continue
            file = folder / f"{kind}_{subtype}_{rate}_{channels}.{kind.lower()}"
            file.write_bytes(content.getvalue())
            if soundfile.info(file).samplerate == rate:  # MPC2K has 16 bits for it
                made.append(file)
    return made
