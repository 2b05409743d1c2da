"""What manifest.json says of a data set: its utterances, their split, and what was left out."""

import hashlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from fwn.disk import crc32, file_crc32, sealed
from fwn.errors import UserError
from fwn.mel import MelContract, difference

from . import shards, speaker_embeddings
from .recordings import Recording

GIVEN = "mels", "mels_tolerance"  # settings of a data set with given mels
KEPT = "frames", "samples", "start", "source", "sha256", "audio_crc32", "mel_crc32"  # of an entry, in the manifest


def contents(
    settings: dict[str, Any],
    records: list[shards.Record],
    missing: list[dict[str, str]],
    said: dict[str, dict[str, str]],
    vectors: dict[str, np.ndarray] | None = None,
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """(contents of manifest.json, other files by name). Equal for every way of getting to the data set.

    Utterances are in the order of the recordings. said: {"text", "speaker"} by name; vectors: of the speakers, by name,
    or None. They are not in the records: a correction of them leaves the shards as they are.
    """
    utterances, left_out, notes = [], list(missing), Counter[str]()
    filled = [record for record in records if record["frames"]]
    for record in records:
        for entry in record["entries"]:
            if "reason" in entry:
                left_out.append({key: entry[key] for key in ("name", "source", "reason")})
                continue
            notes.update(entry["notes"])
            utterances.append(
                {"name": entry["name"], "split": "train", "shard": filled.index(record)}
                | {key: entry[key] for key in KEPT}
                | {what: value for what, value in said[entry["name"]].items() if value}
            )
    for i in test_indices(utterances, settings["test_share"], settings["seed"]):
        utterances[i]["split"] = "test"
    described = [
        {key: record[key] for key in ("audio", "mel", "frames")}
        | dict(zip(("audio_crc32", "mel_crc32"), record["crc32"], strict=True))
        for record in filled
    ]
    more, files = {}, {}
    if vectors is not None and utterances:
        entry, content = speaker_embeddings.packed(vectors, [utterance["name"] for utterance in utterances])
        more, files = {"speaker_embeddings": entry}, {entry["file"]: content}
    manifest = sealed(
        settings
        | {
            "notes": dict(sorted(notes.items())),
            "shards": described,
            "utterances": utterances,
            "left_out": left_out,
        }
        | more
    )
    return manifest, files


def changed(output: Path, files: dict[str, bytes]) -> dict[str, bytes]:
    """The files by name that are not in the folder as they should be."""
    return {
        name: content
        for name, content in files.items()
        if not (output / name).is_file() or file_crc32(output / name) != crc32([content])
    }


def test_indices(utterances: list[dict[str, Any]], share: float, seed: int | None) -> list[int]:
    """Indices of the test utterances, of each speaker: max(1, share · n), but never all; none if share is 0.

    Without a seed these are a speaker's last ones, as in the official code. With a seed they have the lowest hashes of
    (seed, name), so that most recordings stay in their split when others are added or removed.
    """
    of: dict[str, list[int]] = defaultdict(list)
    for i, utterance in enumerate(utterances):
        of[utterance.get("speaker", "")].append(i)
    chosen: list[int] = []
    for indices in of.values():
        n = len(indices)
        count = min(max(int(share * n), 1 if share > 0 else 0), n - 1)
        if seed is not None:
            rank = {i: hashlib.sha256(f"{seed} {utterances[i]['name']}".encode()).digest() for i in indices}
            indices = sorted(indices, key=rank.__getitem__, reverse=True)
        chosen += indices[n - count :]
    return sorted(chosen)


def check_settings(old: dict[str, Any], new: dict[str, Any], vectors: bool, output: Path) -> None:
    """Raises UserError if a manifest, `old`, has other settings, or vectors of speakers that are not given now."""
    if "speaker_embeddings" in old and not vectors:
        raise UserError(
            f"--output={output}: was prepared with vectors of speakers; give --speaker_embeddings, or another --output"
        )
    keys = [key for key in (*new, *(key for key in GIVEN if key in old and key not in new)) if key != "mel"]
    differs = [key for key in keys if old.get(key) != new.get(key)]
    if differs:
        what = ", ".join(f"{key} {old.get(key)} instead of {new.get(key)}" for key in differs)
        tables = ""
        if "mel_hash" in differs:
            tables = "\n" + difference(MelContract.from_dict(old.get("mel", {})), MelContract.from_dict(new["mel"]))
        raise UserError(f"--output={output}: was prepared with {what}; give another --output{tables}")


def check_same_corpus(old: dict[str, Any], recordings: list[Recording], output: Path) -> None:
    """Raises UserError if a manifest, `old`, has none of the recordings."""
    before = {utterance["sha256"] for utterance in old.get("utterances", [])}
    if not before & {recording.sha256 for recording in recordings}:
        which = "recordings, with its mel, is" if "mels" in old else "recordings is"
        raise UserError(
            f"--output={output}: holds another corpus (none of its {which} in --input); give another --output"
        )
