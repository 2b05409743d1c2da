"""Errors of prepared data sets: the manifest and the shards, damaged or missing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from . import EVALUATE, EXPORT, TRAIN, Place, Row, write

READ = "--ckpt={run} --data={here}/corpus"
VERIFY = "{flags} --workdir={here}/new --config.data={here}/corpus"


def manifest(change: Callable[[dict[str, Any]], Any], sealed: bool = False) -> Callable[[Place], None]:
    """A data set whose manifest was changed; with `sealed` as damage does it, otherwise without its checksum."""

    def make(place: Place) -> None:
        file = place.copy("corpus") / "manifest.json"
        values = json.loads(file.read_text())
        if not sealed:
            del values["checksum"]
        change(values)
        file.write_text(json.dumps(values))

    return make


def shard(what: str, change: Callable[[Path], Any]) -> Callable[[Place], None]:
    """A data set of which a file was changed."""
    return lambda place: change(next(place.copy("corpus").glob(f"{what}-*.npy")))


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-3000] ^= 4
    file.write_bytes(content)


def flipped(place: Place) -> Any:
    """In the second of two utterances; what is computed of the first is not of interest."""
    shard("audio", flip)(place)
    return mock.patch("fwn.synthesis.vocoder.Vocoder.log_likelihood", return_value=4.5)


def first(c: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = c["utterances"][0]
    return entry


ROWS = [
    Row(EVALUATE, READ, "{here}/corpus: no such folder; give one made by data_prep.prepare"),
    Row(EVALUATE, READ, "{here}/corpus: not a folder; give one made by data_prep.prepare", write("corpus", "x")),
    Row(
        EVALUATE,
        READ,
        "{here}/corpus: not a prepared data set, or preparing it did not finish (no manifest.json); run "
        "data_prep.prepare",
        write("corpus/a.txt", "x"),
    ),
    Row(
        EVALUATE,
        READ,
        "{here}/corpus/manifest.json: damaged (Expecting property name enclosed in double quotes: line "
        "1 column 2 (char 1)); prepare the data set again in a new folder",
        write("corpus/manifest.json", "{"),
    ),
    Row(
        EVALUATE,
        READ,
        "{here}/corpus/manifest.json: damaged (maximum recursion depth exceeded while decoding a JSON "
        "array from a unicode string); prepare the data set again in a new folder",
        write("corpus/manifest.json", "[" * 100_000),
    ),
    Row(
        EVALUATE,
        READ,
        "{here}/corpus/manifest.json: not the manifest of a prepared data set",
        write("corpus/manifest.json", "[1]"),
    ),
    Row(
        EVALUATE,
        READ,
        "{here}/corpus/manifest.json: format 'fwn-data-9', but this version reads 'fwn-corpus-1'; "
        "prepare the data set again in a new folder",
        manifest(lambda c: c.update(format="fwn-data-9")),
    ),
    Row(
        EVALUATE,
        READ,
        (
            "{here}/corpus/manifest.json: damaged (its checksum is <hash>, '<hash>' was "
            'saved); restore it, or, if you changed it on purpose, delete its entry "checksum"'
        ),
        manifest(lambda c: c.update(seed=1), sealed=True),
    ),
    Row(
        EVALUATE,
        READ,
        "{here}/corpus/manifest.json: mel_hash is '0123456789ab', but its mel is flowavenet (a13bd5d9b250); restore it",
        manifest(lambda c: c.update(mel_hash="0123456789ab")),
    ),
    Row(
        EVALUATE,
        READ,
        "{here}/corpus/manifest.json: mel: mel contract: hop_length is None, but must be int",
        manifest(lambda c: c["mel"].update(hop_length=None)),
    ),
    Row(
        EVALUATE,
        READ,
        "{here}/corpus/manifest.json: damaged ('int' object is not iterable); prepare the data set "
        "again in a new folder",
        manifest(lambda c: c.update(mel=[1])),
    ),
    Row(
        EVALUATE,
        READ,
        ("{here}/corpus/manifest.json: damaged (sample_rate is 16000); prepare the data set again in a new folder"),
        manifest(lambda c: c.update(sample_rate=16000)),
    ),
    Row(
        EVALUATE,
        READ,
        ("{here}/corpus/manifest.json: damaged (audio_dtype is 'int8'); prepare the data set again in a new folder"),
        manifest(lambda c: c.update(audio_dtype="int8")),
    ),
    Row(
        EVALUATE,
        READ,
        ("{here}/corpus/manifest.json: damaged (audio_dtype is [1]); prepare the data set again in a new folder"),
        manifest(lambda c: c.update(audio_dtype=[1])),
    ),
    Row(
        EVALUATE,
        READ,
        ("{here}/corpus/manifest.json: damaged (shards[0]: frames is 0); prepare the data set again in a new folder"),
        manifest(lambda c: c["shards"][0].update(frames=0)),
    ),
    Row(
        EVALUATE,
        READ,
        "{here}/corpus/manifest.json: damaged (shards[0]: '../a.npy' is no .npy file here); prepare the "
        "data set again in a new folder",
        manifest(lambda c: c["shards"][0].update(audio="../a.npy")),
    ),
    Row(
        EVALUATE,
        READ,
        "{here}/corpus/manifest.json: damaged ('int' object is not iterable); prepare the data set "
        "again in a new folder",
        manifest(lambda c: c.update(shards=3)),
    ),
    Row(
        EVALUATE,
        READ,
        ("{here}/corpus/manifest.json: damaged (it has no utterances); prepare the data set again in a new folder"),
        manifest(lambda c: c.update(utterances=[])),
    ),
    Row(
        EVALUATE,
        READ,
        "{here}/corpus/manifest.json: damaged (utterances[0]: split is 'dev'); prepare the data set "
        "again in a new folder",
        manifest(lambda c: first(c).update(split="dev")),
    ),
    Row(
        EVALUATE,
        READ,
        "{here}/corpus/manifest.json: damaged (utterances[0]: shard is 7 of 1); prepare the data set "
        "again in a new folder",
        manifest(lambda c: first(c).update(shard=7)),
    ),
    Row(
        EVALUATE,
        READ,
        "{here}/corpus/manifest.json: damaged (utterances[0]: frames 0 … 1000000000 are not in shard "
        "0); prepare the data set again in a new folder",
        manifest(lambda c: first(c).update(frames=10**9)),
    ),
    Row(
        EVALUATE,
        READ,
        "{here}/corpus/manifest.json: damaged (utterances[0]: samples is 0); prepare the data set again "
        "in a new folder",
        manifest(lambda c: first(c).update(samples=0)),
    ),
    Row(
        EVALUATE,
        READ,
        "{here}/corpus/manifest.json: damaged (utterances[0]: start is '0'); prepare the data set again "
        "in a new folder",
        manifest(lambda c: first(c).update(start="0")),
    ),
    Row(
        EVALUATE,
        READ,
        "{here}/corpus/manifest.json: damaged (utterances[0]: name is missing); prepare the data set "
        "again in a new folder",
        manifest(lambda c: first(c).pop("name")),
    ),
    Row(
        EVALUATE,
        READ,
        "{here}/corpus/manifest.json: damaged (2 utterances are named 'u01'); prepare the data set "
        "again in a new folder",
        manifest(lambda c: first(c).update(name=c["utterances"][1]["name"])),
    ),
    Row(
        EVALUATE,
        READ,
        ("{here}/corpus/mel-<hash>.npy: listed in the manifest but missing; prepare the data set again"),
        shard("mel", Path.unlink),
    ),
    Row(
        EVALUATE,
        READ,
        ("{here}/corpus/mel-<hash>.npy: damaged (mmap length is greater than file size); prepare the data set again"),
        shard("mel", lambda file: file.write_bytes(file.read_bytes()[:1000])),
    ),
    Row(
        EVALUATE,
        READ,
        "{here}/corpus/mel-<hash>.npy: holds float32 [3, 80], but the manifest says float32 "
        "[261, 80]; prepare the data set again",
        shard("mel", lambda file: np.save(file, np.zeros((3, 80), "float32"))),
    ),
    Row(
        EXPORT,
        READ + " --output={here}/out --format=voice",
        "{here}/corpus/audio-<hash>.npy: damaged: the audio of u09 does not have its "
        "checksum; run data_prep.prepare again, which makes damaged files again",
        flipped,
    ),
    Row(
        TRAIN,
        VERIFY,
        "{here}/corpus/audio-<hash>.npy: damaged: its checksum is <hash>, <hash> was "
        "saved (damaged utterances: u09); run data_prep.prepare again, which makes damaged files again",
        shard("audio", flip),
    ),
]
