"""Writes shards. Each is complete or absent, so an interruption loses at most the shards in progress.

A shard has three files: audio-KEY.npy, mel-KEY.npy and its record .parts/KEY.json, which is written last. KEY is a hash
of the recordings (names, checksums) and of the settings that determine their arrays, so a shard with a record is final.
"""

import hashlib
import io
import itertools
import json
import multiprocessing
import os
import re
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fwn.data.manifest import FORMAT
from fwn.disk import atomic, check_seal, crc32, file_crc32, sealed
from fwn.errors import UserError

from .recordings import Converted, Kind, Recording, convert

A = TypeVar("A")
B = TypeVar("B")
PARTS = ".parts"
SHARD_BYTES = 32 << 20  # of audio, about 13 minutes of speech; one shard is held in memory until it is written
Record = dict[str, Any]  # {kind, audio, mel, frames, crc32, entries, checksum}


def plan(recordings: list[Recording], kind: Kind, limit: int = SHARD_BYTES) -> list[tuple[str, list[Recording]]]:
    """(key, recordings) of each shard: consecutive recordings, about `limit` bytes of audio by the files' headers."""
    groups: list[list[Recording]] = []
    size = float(limit)
    for recording in recordings:
        if size >= limit:
            groups.append([])
            size = 0
        groups[-1].append(recording)
        size += recording.seconds * kind.contract.sample_rate * np.dtype(kind.audio_dtype).itemsize
    return [(_key(group, kind), group) for group in groups]


def _key(group: list[Recording], kind: Kind) -> str:
    identity = [FORMAT, _kind(kind), [(recording.name, recording.source, recording.sha256) for recording in group]]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


def _kind(kind: Kind) -> list[str]:
    given = [] if kind.mels is None else [f"given mels, tolerance {kind.tolerance}"]
    return [kind.contract.hash(), kind.audio_dtype, kind.mel_dtype, *given]


def finished(output: Path, parts: Iterable[Path]) -> dict[str, Record]:
    """The records of all complete shards, by key. A record or a file that is damaged does not count.

    parts: the files of the records, `output/.parts/*.json`.
    """
    found = {}
    for part in parts:
        try:
            record = json.loads(part.read_text(encoding="utf-8"))
            check_seal(record, part)
            files = [output / record[what] for what in ("audio", "mel") if record["frames"]]
            whole = [file_crc32(file) for file in files] == record["crc32"]
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError, UserError):
            continue
        if whole:
            found[part.stem] = record
    return found


def build(
    todo: list[tuple[str, list[Recording]]],
    done: dict[str, Record],
    source: Path,
    output: Path,
    kind: Kind,
    pool: ProcessPoolExecutor,
    ahead: int,
) -> Iterator[None]:
    """Writes the shards of `todo` and adds their records to `done`; yields after each recording.

    Arrays that are stored in another shard of `done` are copied.
    """
    stored = {
        entry["sha256"]: (entry, output / record["audio"], output / record["mel"])
        for record in done.values()
        if record["kind"] == _kind(kind)
        for entry in record["entries"]
        if "frames" in entry
    }

    def submit(recording: Recording) -> "Future[Converted | str]":
        if recording.sha256 in stored:
            return pool.submit(_copy, *stored[recording.sha256], kind.contract.hop_length)
        return pool.submit(convert, source, recording, kind)

    results = in_order(submit, (recording for _, group in todo for recording in group), ahead)
    for key, group in todo:
        audio, mel, entries, start = [], [], [], 0
        for recording in group:
            result = next(results)
            entry: Record = {"name": recording.name, "source": recording.source, "sha256": recording.sha256}
            if isinstance(result, str):
                entries.append(entry | {"reason": result})
            else:
                frames = len(result.mel)
                entry |= {"frames": frames, "samples": result.samples, "start": start, "notes": result.notes}
                sums = {f"{what}_crc32": crc32([getattr(result, what).tobytes()]) for what in ("audio", "mel")}
                entries.append(entry | sums)
                audio.append(result.audio)
                mel.append(result.mel)
                start += frames
            yield
        record: Record = {"kind": _kind(kind), "audio": f"audio-{key}.npy", "mel": f"mel-{key}.npy", "frames": start}
        arrays = [("audio", audio), ("mel", mel)] if start else []
        written = [_write_array(output / record[what], parts) for what, parts in arrays]
        done[key] = sealed(record | {"crc32": written, "entries": entries})
        with atomic(output / PARTS / f"{key}.json") as file:
            file.write(json.dumps(done[key]).encode())


def _copy(entry: Record, audio: Path, mel: Path, hop: int) -> Converted:
    start, end = entry["start"], entry["start"] + entry["frames"]
    stored, mels = np.load(audio, mmap_mode="r"), np.load(mel, mmap_mode="r")
    return Converted(
        np.array(stored[start * hop : end * hop]), np.array(mels[start:end]), entry["samples"], entry["notes"]
    )


def _write_array(path: Path, parts: list[np.ndarray]) -> str:
    """np.save(path, np.concatenate(parts)), without a second copy of the shard in memory. Returns the file's CRC-32."""
    described = np.lib.format.header_data_from_array_1_0(parts[0])
    described |= {"shape": (sum(map(len, parts)), *parts[0].shape[1:]), "fortran_order": False}
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, described)
    with atomic(path) as file:  # not np.save, whose error on a full disk has no errno

        def written() -> Iterator[bytes]:
            for piece in itertools.chain([header.getvalue()], (part.tobytes() for part in parts)):
                file.write(piece)
                yield piece

        return crc32(written())


def sweep(output: Path, keys: set[str]) -> None:
    """Removes the files of all shards but `keys`, and partial files of interrupted runs."""
    for file in [*output.iterdir(), *(output / PARTS).iterdir()]:
        match = re.fullmatch(
            r"(?:(?:audio|mel|speakers)-)?([0-9a-f]{16})\.(?:npy|json)|\..*\.(?:npy|json)\.partial", file.name
        )
        if match and match[1] not in keys:
            file.unlink()


def in_order(submit: Callable[[A], "Future[B]"], items: Iterable[A], ahead: int) -> Iterator[B]:
    """Results in the order of the items, with at most `ahead` in progress, so memory does not grow with the corpus."""
    pending: deque[Future[B]] = deque()
    try:
        for item in items:
            pending.append(submit(item))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise UserError("a worker process died (out of memory?); run again with fewer --workers") from error


def workers(count: int) -> ProcessPoolExecutor:
    """Worker processes that ignore ctrl-C and exit when their parent does, even when it is killed."""
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
