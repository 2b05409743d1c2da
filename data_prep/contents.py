"""What manifest.json says of a data set: its utterances, their split, and what was left out."""

import hashlib
from collections import Counter, defaultdict
from typing import Any

from fwn.disk import sealed

from . import shards

KEPT = "frames", "samples", "start", "source", "sha256", "audio_crc32", "mel_crc32"  # of an entry, in the manifest


def contents(
    settings: dict[str, Any],
    records: list[shards.Record],
    missing: list[dict[str, str]],
    said: dict[str, dict[str, str]],
) -> dict[str, Any]:
    """The contents of manifest.json, in the order of the recordings. Equal for every way of getting to the data set.

    said: {"text", "speaker"} by name. They are not in the records: a correction of them leaves the shards as they are.
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
    return sealed(
        settings
        | {
            "notes": dict(sorted(notes.items())),
            "shards": described,
            "utterances": utterances,
            "left_out": left_out,
        }
    )


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
