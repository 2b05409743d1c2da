"""Damaged and hostile files, through everything that reads them: each is read or refused in one line, soon, in memory.

`run` is used by tests/chaos.py (`make chaos`) and, with few trials, by the tests.
"""

import copy
import hashlib
import io
import itertools
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
from array_files import WRITERS

from fwn import config as configs
from fwn.audio import audio_file
from fwn.data.corpus import Corpus
from fwn.errors import UserError
from fwn.files import torch_reader
from fwn.listening import answers
from fwn.mel import PRESETS, read_contract, read_mels
from fwn.official import importer
from fwn.synthesis import exported
from fwn.synthesis.vocoder import Vocoder
from fwn.training import checkpoints, journal

MEL = PRESETS["flowavenet"]
GOLDEN = Path(__file__).parent / "golden"
SLOW, LARGE = 10.0, 2**20  # seconds of processor time, which a busy machine does not change; KiB of growth
NUMBERS = [0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**36, 2**63 - 1, 2**64 - 1]


Change = Callable[[bytes, np.random.Generator], bytes]


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


# In place of a value of a JSON file, each of which is valid JSON for Python.
VALUES = [None, True, False, 0, -1, 1, 7, 2.5, 2**31, 2**63, 2**80, -(2**80), 10**4000, 1e308, 5e-324, float("nan")]
VALUES += [float("inf"), -float("inf"), "", "7", "nan", "../a", "/dev/zero", "a" * 10_000, "\0\n\x1b[31m", "\ud800"]
VALUES += [[], {}, [1], ["a"], [[]], {"a": 1}, [None, None], [0] * 1000]


def revalued(content: bytes, rng: np.random.Generator) -> bytes:
    """JSON of other values, without its checksums: one to three are replaced, repeated, nested or left out."""
    values = json.loads(content, object_hook=lambda node: {k: v for k, v in node.items() if k != "checksum"})
    for _ in range(int(rng.integers(1, 4))):
        holder, key = [values], 0
        while isinstance(holder[key], dict | list) and holder[key] and (holder[key] is values or rng.random() < 0.9):
            holder = holder[key]
            key = (
                list(holder)[rng.integers(len(holder))] if isinstance(holder, dict) else int(rng.integers(len(holder)))
            )
        match rng.integers(6):
            case 0 | 1 | 2:
                holder[key] = copy.deepcopy(VALUES[rng.integers(len(VALUES))])
            case 3 if holder != [values]:
                del holder[key]
            case 4:
                holder[key] = [holder[key]] * int(rng.integers(1, 4))
            case _:
                holder[key] = {"a": holder[key]} if rng.random() < 0.5 else str(holder[key])[:100]
        values = values if holder != [values] else holder[0]
    return json.dumps(values).encode()


def relined(content: bytes, rng: np.random.Generator) -> bytes:
    """A JSON value a line: one line in three has other values."""
    return b"".join(
        revalued(line, rng) + b"\n" if rng.random() < 0.3 else line + b"\n" for line in content.splitlines()
    )


class Attack(NamedTuple):
    """read(file or its folder) is called with changed contents of `file`."""

    file: Path
    read: Callable[[], Any]
    change: Change = mutated


def end_of(attack: Attack) -> str:
    """How reading ended: "read", "refused" in one line with the file's name, or a fault in capitals."""
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        attack.read()
        end = "read"
    except UserError as error:
        clear = str(attack.file.parent) in str(error) and "\n" not in str(error).partition("\n  ")[0]
        end = "refused" if clear else f"UNCLEAR: {error}"
    except Exception as error:
        end = f"TRACEBACK: {type(error).__name__}: {error}"
    if time.process_time() - start > SLOW:
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
            attack.file.write_bytes(attack.change(content, rng))
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
    for name, writer in WRITERS.items():
        file = folder / "mels" / name
        file.parent.mkdir(exist_ok=True)
        writer(file, rng.uniform(0, 1, (20, 80)).astype(np.float32))
        found[f"mel in {name}"] = Attack(file, lambda file=file: read_mels(file, MEL))
    np.save(folder / "mels" / "half.npy", rng.uniform(0, 1, (20, 80)).astype(np.float16))
    found["mel in half.npy"] = Attack(
        folder / "mels" / "half.npy", lambda: read_mels(folder / "mels" / "half.npy", MEL)
    )
    for name in ("torch_zip", "torch_legacy", "flowavenet_tiny", "clarinet_tiny_teacher"):
        file = Path(shutil.copy(GOLDEN / f"{name}.pth", folder / "mels" / f"{name}.pth"))
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
    exported.write_voice(voice, checkpoints.read(workdir))
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
    behind = {"manifest": lambda: everything(Corpus(own)), "config.json": lambda: exported.read_run(run)}
    behind |= {"config of a voice": lambda: exported.read_run(voice)}
    for name, attack in list(found.items()):
        if name in ("mel contract", "listening key", *behind):
            found[f"values of the {name}"] = Attack(attack.file, behind.get(name, attack.read), revalued)
    found["values of metrics.jsonl"] = Attack(run / "metrics.jsonl", lambda: journal.read(run), relined)
    step = max((run / "checkpoints").iterdir(), key=lambda path: int(path.name))
    record = step / "_CHECKPOINT_METADATA"
    found["checkpoint record"] = Attack(record, lambda: checkpoints.read(run))
    found["values of the checkpoint record"] = Attack(record, lambda: checkpoints.read(run), revalued)
    found["weights of a voice, with their hash"] = Attack(voice / "weights.npz", lambda: load_hashed(voice))
    return found


def everything(corpus: Corpus) -> None:
    """Reads all of a data set."""
    corpus.verify()
    for i in range(len(corpus)):
        corpus.audio(i), corpus.mel(i)


def load_hashed(voice: Path) -> Any:
    """The model of a voice whose config has the hash of whatever its weights are."""
    config = voice / "config.json"
    before = config.read_bytes()
    values = {name: value for name, value in json.loads(before).items() if name != "checksum"}
    values["sha256"] = hashlib.sha256((voice / "weights.npz").read_bytes()).hexdigest()
    config.write_text(json.dumps(values))
    try:
        return Vocoder(exported.read_run(voice))
    finally:
        config.write_bytes(before)


def convert(file: Path) -> Any:
    """As fwn.convert does it."""
    return importer.convert(torch_reader.read(file), str(file), 1)


def odd_recordings(folder: Path, rng: np.random.Generator) -> list[Path]:
    """Valid recordings of every format, rate, width and number of channels that libsndfile writes and reads.

    It does not read DWVW in AIFF that it wrote, and reads u-law in VOC as another sound.
    """
    made = []
    for kind in soundfile.available_formats():
        if f".{kind.lower()}" not in audio_file.EXTENSIONS or kind == "RAW":
            continue
        for subtype, channels in itertools.product(soundfile.available_subtypes(kind), (1, 2, 6)):
            if subtype.startswith("DWVW") or (kind, subtype) == ("VOC", "ULAW"):
                continue
            rate = int(rng.choice([8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 96000, 192000]))
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
