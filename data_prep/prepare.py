"""Prepares a corpus for training: recordings become memory-mapped shards of audio and mels with a manifest.

    python -m data_prep.prepare --corpus=ljspeech --input=LJSpeech-1.1 --output=data/ljspeech

--corpus=ljspeech reads metadata.csv, transcripts included, and wavs/ (wav, flac, ogg, mp3: whatever libsndfile reads);
--corpus=folder takes every recording in a folder and below. Any sample rate is resampled and channels are mixed down,
which is said. A recording that is missing, unreadable, empty, silent, too short or not finite is named, left out and
listed in manifest.json, and the exit code is 3. manifest.json is written last, so a folder with one holds a whole data
set; interrupted, run the same command again: what is finished (in shards of about 13 minutes) is not done again. Run
again after recordings or transcripts were added, changed or removed, it brings the data set up to date, converting only
the new recordings.
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
from fwn.data.corpus import FORMAT, MANIFEST, read_manifest
from fwn.disk import atomic, locked
from fwn.errors import UserError
from fwn.mel import PRESETS, MelContract, difference, read_contract

from . import shards
from .recordings import Kind, Recording, find, fingerprint

LEFT_OUT = 3  # exit code, see fwn.cli
SHOWN = 20  # recordings left out that are printed; all of them are in the manifest


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
    """Makes `output` the data set of the recordings in `source`, or brings it up to date; returns those left out.

    Raises UserError where there is nothing to prepare or `output` holds something else.
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
        old = read_manifest(output) if (output / MANIFEST).exists() else None
        if old is not None:
            _check_settings(old, settings, output)
        hashed = shards.in_order(lambda recording: pool.submit(fingerprint, source, recording), recordings, 8 * workers)
        recordings = list(cli.progress(hashed, "checksums", len(recordings)))
        if old is not None:
            _check_same_corpus(old, recordings, output)
        plan = shards.plan(recordings, kind, shard_bytes)
        done = shards.finished(output)
        todo = [(key, group) for key, group in plan if key not in done]
        count = sum(len(group) for _, group in todo)
        if done and todo:
            say(f"{len(recordings) - count} of {len(recordings)} recordings are prepared already")
        for _ in cli.progress(shards.build(todo, source, output, kind, pool, 2 * workers + 2), "prepare", count):
            pass
        records = shards.finished(output)
        texts = {recording.name: recording.text for recording in recordings}
        manifest = _manifest(settings, [records[key] for key, _ in plan], missing, texts)
        if not manifest["utterances"]:
            why = "; ".join(f"{entry['name']}: {entry['reason']}" for entry in manifest["left_out"][:3]) or "none found"
            raise UserError(f"--input={source}: no usable recording among {len(recordings) + len(missing)} ({why})")
        if manifest == old:
            say("nothing to do: the data set is up to date")
        else:
            with atomic(output / MANIFEST) as file:
                file.write(json.dumps(manifest, indent=1).encode())
        shards.sweep(output, {key for key, _ in plan})
    _report(manifest, output)
    return manifest["left_out"]


@contextlib.contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Creates the folder, unless it is something else's, and keeps other runs out of it."""
    if output.exists() and not output.is_dir():
        raise UserError(f"--output={output}: is a file, give a folder")
    parts = output / shards.PARTS
    if output.is_dir() and any(output.iterdir()) and not parts.is_dir() and not (output / MANIFEST).exists():
        raise UserError(f"--output={output}: not empty, and no prepared data set; give a new folder")
    parts.mkdir(parents=True, exist_ok=True)
    with locked(parts / "lock", f"--output={output}: another data_prep.prepare is at work there"):
        yield


def _check_settings(old: dict[str, Any], new: dict[str, Any], output: Path) -> None:
    differs = [key for key in new if key != "mel" and old[key] != new[key]]
    if differs:
        what = ", ".join(f"{key} {old[key]} instead of {new[key]}" for key in differs)
        tables = ""
        if "mel_hash" in differs:
            tables = "\n" + difference(MelContract.from_dict(old["mel"]), MelContract.from_dict(new["mel"]))
        raise UserError(f"--output={output}: was prepared with {what}; give another --output{tables}")


def _check_same_corpus(old: dict[str, Any], recordings: list[Recording], output: Path) -> None:
    before = {utterance["sha256"] for utterance in old["utterances"]}
    if not before & {recording.sha256 for recording in recordings}:
        raise UserError(
            f"--output={output}: holds another corpus, none of its recordings is in --input; give another --output"
        )


def _manifest(
    settings: dict[str, Any], records: list[shards.Record], missing: list[dict[str, str]], texts: dict[str, str]
) -> dict[str, Any]:
    """All of the data set in the recordings' order. Nothing in it depends on when or how often the program ran.

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
                | {key: entry[key] for key in ("frames", "samples", "start", "source", "sha256")}
                | ({"text": text} if (text := texts[entry["name"]]) else {})
            )
    for i in _test(utterances, settings["test_share"], settings["seed"]):
        utterances[i]["split"] = "test"
    described = [{key: record[key] for key in ("audio", "mel", "frames")} for record in filled]
    return settings | {
        "notes": dict(sorted(notes.items())),
        "shards": described,
        "utterances": utterances,
        "left_out": left_out,
    }


def _test(utterances: list[dict[str, Any]], share: float, seed: int | None) -> list[int]:
    """Indices of the test utterances, at least one of two or more if the share is not 0.

    The last share, as in the official code; with a seed those of the lowest hashes, so that most recordings keep their
    side when others come and go.
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
        say(f"… and {len(left_out) - SHOWN} more, listed in {output / MANIFEST}")
    seconds = sum(utterance["samples"] for utterance in utterances) / manifest["sample_rate"]
    test = sum(utterance["split"] == "test" for utterance in utterances)
    say(
        f"{output}: {len(utterances)} utterances, {seconds / 60:.1f} min ({len(utterances) - test} train, {test} test),"
        f" mel {manifest['mel']['name']} {manifest['mel_hash']}" + (f"; {len(left_out)} left out" if left_out else "")
    )


CORPUS = flags.DEFINE_enum("corpus", None, ["ljspeech", "folder"], "Layout of --input.", required=True)
INPUT = flags.DEFINE_string("input", None, "Folder with the recordings.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "Folder of the prepared data set; made if need be.", required=True)
MEL = flags.DEFINE_string(
    "mel", "flowavenet", f"Mel contract: {', '.join(PRESETS)}, or a JSON file with all fields of fwn.mel.MelContract."
)
AUDIO_DTYPE = flags.DEFINE_enum("audio_dtype", "int16", ["int16", "float16"], "How audio is stored.")
MEL_DTYPE = flags.DEFINE_enum("mel_dtype", "float32", ["float16", "float32"], "How mels are stored.")
TEST_SHARE = flags.DEFINE_float(
    "test_share", 0.1, "Share of the utterances held out for testing.", lower_bound=0.0, upper_bound=0.9
)
SEED = flags.DEFINE_integer(
    "seed", None, "Picks the test utterances at random; without it they are the last ones, as in the official code."
)
WORKERS = flags.DEFINE_integer("workers", None, "Processes; one per CPU core if not given.", lower_bound=1)


def main(args: list[str]) -> int | None:
    if args:
        raise UserError(f"unexpected argument {args[0]!r}; recordings are given by --input=DIR")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # inherited by the workers: one core each
    left_out = prepare(
        corpus=CORPUS.value,
        source=Path(INPUT.value),
        output=Path(OUTPUT.value),
        kind=Kind(read_contract(MEL.value, "--mel"), AUDIO_DTYPE.value, MEL_DTYPE.value),
        test_share=TEST_SHARE.value,
        seed=SEED.value,
        workers=WORKERS.value or os.cpu_count() or 1,
    )
    return LEFT_OUT if left_out else None


if __name__ == "__main__":
    cli.run(main)
