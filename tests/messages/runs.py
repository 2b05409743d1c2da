"""Errors of workdirs: config.json, damaged or missing."""

import json
from collections.abc import Callable
from typing import Any

from . import SAMPLE, Place, Row, write

READ = "--ckpt={here}/run --mel={mels}/a.npy --output={here}/out"


def config(change: Callable[[dict[str, Any]], Any], sealed: bool = False) -> Callable[[Place], None]:
    """A run whose config.json was changed; with `sealed` as damage does it, otherwise without its checksum."""
    return edited("config.json", change, sealed)


def edited(name: str, change: Callable[[dict[str, Any]], Any], sealed: bool = False) -> Callable[[Place], None]:
    def make(place: Place) -> None:
        file = place.copy("run") / name
        values = json.loads(file.read_text())
        if not sealed:
            values.pop("checksum", None)
            values.get("custom_metadata", {}).pop("checksum", None)
        change(values)
        file.write_text(json.dumps(values))

    return make


ROWS = [
    Row(
        SAMPLE,
        READ,
        (
            'the weights are not those of config.model (\'For parameter "kernel" in "/front", the given '
            "initializer is expected to generate shape (3, 1, 16), but the existing parameter it received "
            "has shape (3, 1, 8).'); restore config.json"
        ),
        config(lambda c: c["config"]["model"].update(channels=16)),
        creates=("out",),
    ),
    Row(
        SAMPLE,
        READ,
        "{here}/run/config.json: verify_data is 'False'; it must be True or False",
        config(lambda c: c["config"].update(verify_data="False")),
    ),
    Row(
        SAMPLE,
        READ,
        "{here}/run/config.json: data is 3; it must be a text",
        config(lambda c: c["config"].update(data=3)),
    ),
    Row(
        SAMPLE,
        READ,
        "{here}/run: config.model: causal is 3; it must be True or False",
        config(lambda c: c["config"]["model"].update(causal=3)),
    ),
    Row(
        SAMPLE,
        READ,
        "{here}/run: config.model.prediction is 7; it must have fields, as in experiments/base.py",
        config(lambda c: c["config"]["model"].update(prediction=7)),
    ),
    Row(SAMPLE, READ, "{here}/run: no such folder; give a workdir of fwn.train or an output folder of fwn.convert"),
    Row(
        SAMPLE,
        READ,
        "{here}/run: not a folder; give a workdir of fwn.train or an output folder of fwn.convert",
        write("run", "x"),
    ),
    Row(
        SAMPLE,
        READ,
        ("{here}/run: no config.json in it; give a workdir of fwn.train or an output folder of fwn.convert"),
        write("run/notes.txt", "x"),
    ),
    Row(
        SAMPLE,
        READ,
        "{here}/run/config.json: damaged (JSONDecodeError('Expecting property name enclosed in double "
        "quotes: line 1 column 2 (char 1)')); restore it, or train or convert again",
        write("run/config.json", "{"),
    ),
    Row(
        SAMPLE,
        READ,
        "{here}/run/config.json: damaged (AttributeError(\"'list' object has no attribute 'get'\")); "
        "restore it, or train or convert again",
        write("run/config.json", "[1]"),
    ),
    Row(
        SAMPLE,
        READ,
        "{here}/run/config.json: damaged (RecursionError('maximum recursion depth exceeded while "
        "decoding a JSON array from a unicode string')); restore it, or train or convert again",
        write("run/config.json", "[" * 100_000),
    ),
    Row(
        SAMPLE,
        READ,
        "{here}/run/config.json: damaged (UnicodeDecodeError('utf-8', b'\\xff', 0, 1, 'invalid start "
        "byte')); restore it, or train or convert again",
        write("run/config.json", b"\xff"),
    ),
    Row(
        SAMPLE,
        READ,
        "{here}/run/config.json: damaged (KeyError('config')); restore it, or train or convert again",
        write("run/config.json", "{}"),
    ),
    Row(
        SAMPLE,
        READ,
        (
            "{here}/run/config.json: damaged (its checksum is <hash>, '<hash>' was "
            'saved); restore it, or, if you changed it on purpose, delete its entry "checksum"'
        ),
        config(lambda c: c["config"].update(seed=7), sealed=True),
    ),
    Row(
        SAMPLE,
        READ,
        "{here}/run/config.json: its mel contract is flowavenet (a13bd5d9b250), but mel_hash is "
        "'0123456789ab'; restore the file",
        config(lambda c: c.update(mel_hash="0123456789ab")),
    ),
    Row(
        SAMPLE,
        READ,
        "{here}/run/config.json: mel: mel contract 'flowavenet': n_mels is -1, but must be positive",
        config(lambda c: c["mel"].update(n_mels=-1)),
    ),
    Row(
        SAMPLE,
        READ,
        "{here}/run/config.json: loss.features is 0.5, a term that fwn no longer has; set it to 0 there "
        "to sample from the model, or to train it on without the term",
        config(lambda c: c["config"]["loss"].update(features=0.5)),
    ),
    Row(
        SAMPLE,
        READ,
        "{here}/run/config.json: seed is '7'; it must be a whole number in 0 … 2^32 - 1",
        config(lambda c: c["config"].update(seed="7")),
    ),
    Row(
        SAMPLE,
        READ,
        "{here}/run/config.json: damaged (TypeError('pop expected at most 1 argument, got 2')); restore "
        "it, or train or convert again",
        config(lambda c: c["config"].update(model=[1])),
    ),
    Row(
        SAMPLE,
        READ,
        "{here}/run/config.json: optimizer is 3; it must have fields, as in experiments/base.py",
        config(lambda c: c["config"].update(optimizer=3)),
    ),
    Row(
        SAMPLE,
        READ,
        "{here}/run/config.json: model.upsample_strides is 256; it must be whole numbers in 1 … 256, as in (16,16)",
        config(lambda c: c["config"]["model"].update(upsample_strides=256)),
    ),
    Row(
        SAMPLE,
        READ,
        (
            "{here}/run/config.json: model.upsample_strides is ['16', '16']; it must be whole numbers in 1 … 256, as "
            "in (16,16)"
        ),
        config(lambda c: c["config"]["model"].update(upsample_strides=["16", "16"])),
    ),
    Row(
        SAMPLE,
        READ,
        "{here}/run/config.json: frames is None; it must be a whole number, at least 1",
        config(lambda c: c["config"].update(frames=None)),
    ),
]
