"""Prepares a corpus for training: converts recordings to memory-mapped shards of audio and mels, with a manifest.

    python -m data_prep.prepare --corpus=ljspeech --input=LJSpeech-1.1 --output=data/ljspeech

--corpus=ljspeech reads metadata.csv, transcripts included, and wavs/. --corpus=folder reads every recording in a folder
and its subfolders. All formats of libsndfile are read (wav, flac, ogg, mp3, …). Recordings are resampled to the sample
rate of the mel contract (all parameters of a mel-spectrogram, see fwn.mel) and mixed down to mono; the program says how
many.

A recording that is missing, unreadable, empty, silent, too short or not finite is left out. Its name and the reason are
printed and listed in manifest.json, and the exit code is 3.

manifest.json is written last, so a folder that contains it is complete. After an interruption run the same command
again: finished shards (about 13 minutes of speech each) are kept. When recordings or transcripts were added, changed or
removed, the same command updates the data set and converts only the new recordings. It verifies the checksums of the
files in it, and makes damaged ones again.
"""

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags

from fwn import cli
from fwn.cli import say
from fwn.data.manifest import FILE, FORMAT, read_values
from fwn.disk import atomic, locked, sealed
from fwn.errors import UserError
from fwn.mel import PRESETS, MelContract, difference, read_contract

from . import shards
from .recordings import Kind, Recording, find, fingerprint

KEPT = "frames", "samples", "start", "source", "sha256", "audio_crc32", "mel_crc32"  # of an entry, in the manifest
SHOWN = 20  # print at most this many of the recordings left out; the manifest lists all


def prepare(
    corpus: str,
    source: Path,
    output: Path,
    kind: Kind,
    test_share: float,
    seed: int | None,
    workers: int,
    shard_bytes: int = shards.SHARD_BYTES,
) -> list[dict[str, str]]:
    """Creates or updates the data set in `output` from the recordings in `source`.

    Returns {name, source, reason} of each recording left out. Raises UserError if no recording is usable, or if
    `output` holds anything but a data set of this corpus with these settings.
    """
    recordings, missing = find(corpus, source)
    settings = {
        "format": FORMAT,
        "corpus": corpus,
        "mel": kind.contract.to_dict(),
        "mel_hash": kind.contract.hash(),
        "sample_rate": kind.contract.sample_rate,
        "audio_dtype": kind.audio_dtype,
        "mel_dtype": kind.mel_dtype,
        "test_share": test_share,
        "seed": seed,
    }
    with _locked(output), shards.workers(min(workers, max(1, len(recordings)))) as pool:
        old = read_values(output) if (output / FILE).exists() else None
        if old is not None:
            _check_settings(old, settings, output)
        hashed = shards.in_order(lambda recording: pool.submit(fingerprint, source, recording), recordings, 8 * workers)
        recordings = list(cli.progress(hashed, "checksums", len(recordings)))
        if old is not None:
            _check_same_corpus(old, recordings, output)
        plan = shards.plan(recordings, kind, shard_bytes)
        parts = sorted((output / shards.PARTS).glob("*.json"))
        done = shards.finished(output, cli.progress(parts, "checksums of shards"))
        todo = [(key, group) for key, group in plan if key not in done]
        if damaged := {part.stem for part in parts} & {key for key, _ in todo}:
            say(f"{len(damaged)} shards are damaged, or of version 0.1, which had no checksums: they are made again")
        count = sum(len(group) for _, group in todo)
        if done and todo:
            say(f"{len(recordings) - count} of {len(recordings)} recordings are already prepared")
        for _ in cli.progress(shards.build(todo, done, source, output, kind, pool, 2 * workers + 2), "prepare", count):
            pass
        texts = {recording.name: recording.text for recording in recordings}
        manifest = _manifest(settings, [done[key] for key, _ in plan], missing, texts)
        if not manifest["utterances"]:
            why = "; ".join(f"{entry['name']}: {entry['reason']}" for entry in manifest["left_out"][:3]) or "none found"
            raise UserError(f"--input={source}: no usable recording among {len(recordings) + len(missing)} ({why})")
        if manifest == old:
            say("nothing to do: the data set is up to date")
        else:
            with atomic(output / FILE) as file:
                file.write(json.dumps(manifest, indent=1).encode())
        shards.sweep(output, {key for key, _ in plan})
    _report(manifest, output)
    return manifest["left_out"]


@contextlib.contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Creates the folder and locks it. Raises UserError if it holds anything but a prepared data set."""
    if output.exists() and not output.is_dir():
        raise UserError(f"--output={output}: is a file; give a folder")
    parts = output / shards.PARTS
    if output.is_dir() and any(output.iterdir()) and not parts.is_dir() and not (output / FILE).exists():
        raise UserError(f"--output={output}: not empty and not a prepared data set; give a new folder")
    parts.mkdir(parents=True, exist_ok=True)
    with locked(
        parts / "lock", f"--output={output}: another data_prep.prepare is running there; wait for it, or stop it"
    ):
        yield


def _check_settings(old: dict[str, Any], new: dict[str, Any], output: Path) -> None:
    differs = [key for key in new if key != "mel" and old.get(key) != new[key]]
    if differs:
        what = ", ".join(f"{key} {old.get(key)} instead of {new[key]}" for key in differs)
        tables = ""
        if "mel_hash" in differs:
            tables = "\n" + difference(MelContract.from_dict(old.get("mel", {})), MelContract.from_dict(new["mel"]))
        raise UserError(f"--output={output}: was prepared with {what}; give another --output{tables}")


def _check_same_corpus(old: dict[str, Any], recordings: list[Recording], output: Path) -> None:
    before = {utterance["sha256"] for utterance in old.get("utterances", [])}
    if not before & {recording.sha256 for recording in recordings}:
        raise UserError(
            f"--output={output}: holds another corpus (none of its recordings is in --input); give another --output"
        )


def _manifest(
    settings: dict[str, Any], records: list[shards.Record], missing: list[dict[str, str]], texts: dict[str, str]
) -> dict[str, Any]:
    """The contents of manifest.json, in the order of the recordings. Equal for every way of getting to the data set.

    texts: transcripts by name. They are not in the records: a corrected transcript leaves the shards as they are.
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
                | ({"text": text} if (text := texts[entry["name"]]) else {})
            )
    for i in _test_indices(utterances, settings["test_share"], settings["seed"]):
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


def _test_indices(utterances: list[dict[str, Any]], share: float, seed: int | None) -> list[int]:
    """Indices of the test utterances: max(1, share · n), but never all; none if share is 0.

    Without a seed these are the last ones, as in the official code. With a seed they have the lowest hashes of
    (seed, name), so that most recordings stay in their split when others are added or removed.
    """
    n = len(utterances)
    count = min(max(int(share * n), 1 if share > 0 else 0), n - 1)
    if seed is None:
        return list(range(n - count, n))
    rank = [hashlib.sha256(f"{seed} {utterance['name']}".encode()).digest() for utterance in utterances]
    return sorted(range(n), key=rank.__getitem__)[:count]


def _report(manifest: dict[str, Any], output: Path) -> None:
    utterances, left_out = manifest["utterances"], manifest["left_out"]
    for note, count in manifest["notes"].items():
        say(f"{note}: {count} recordings")
    for entry in left_out[:SHOWN]:
        say(f"left out {entry['name']} ({entry['source']}): {entry['reason']}")
    if len(left_out) > SHOWN:
        say(f"… and {len(left_out) - SHOWN} more, listed in {output / FILE}")
    seconds = sum(utterance["samples"] for utterance in utterances) / manifest["sample_rate"]
    test = sum(utterance["split"] == "test" for utterance in utterances)
    say(
        f"{output}: {len(utterances)} utterances, {seconds / 60:.1f} min ({len(utterances) - test} train, {test} test),"
        f" mel {manifest['mel']['name']} {manifest['mel_hash']}" + (f"; {len(left_out)} left out" if left_out else "")
    )


CORPUS = flags.DEFINE_enum("corpus", None, ["ljspeech", "folder"], "Layout of --input.", required=True)
INPUT = flags.DEFINE_string("input", None, "Folder with the recordings.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "Folder for the prepared data set; created if missing.", required=True)
MEL = flags.DEFINE_string(
    "mel", "flowavenet", f"Mel contract: {', '.join(PRESETS)}, or a JSON file with all fields of fwn.mel.MelContract."
)
AUDIO_DTYPE = flags.DEFINE_enum("audio_dtype", "int16", ["int16", "float16"], "Type of the stored audio.")
MEL_DTYPE = flags.DEFINE_enum("mel_dtype", "float32", ["float16", "float32"], "Type of the stored mels.")
TEST_SHARE = flags.DEFINE_float(
    "test_share", 0.1, "Fraction of the utterances in the test split.", lower_bound=0.0, upper_bound=0.9
)
SEED = flags.DEFINE_integer(
    "seed",
    None,
    "Seed of a random test split. By default the last utterances are the test split, as in the official code.",
)
WORKERS = flags.DEFINE_integer("workers", None, "Worker processes. By default one per CPU core.", lower_bound=1)


def main(args: list[str]) -> int | None:
    if args:
        raise UserError(f"unexpected argument {args[0]!r}; give the recordings with --input=DIR")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers inherit it: each uses one core
    left_out = prepare(
        corpus=CORPUS.value,
        source=Path(INPUT.value),
        output=Path(OUTPUT.value),
        kind=Kind(read_contract(MEL.value, "--mel"), AUDIO_DTYPE.value, MEL_DTYPE.value),
        test_share=TEST_SHARE.value,
        seed=SEED.value,
        workers=WORKERS.value or os.cpu_count() or 1,
    )
    return cli.LEFT_OUT if left_out else None


if __name__ == "__main__":
    cli.run(main)
