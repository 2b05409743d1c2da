"""Experiment configs: what fields they have, and how a workdir remembers its own (config.json)."""

import json
import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fwn import __version__
from fwn.errors import UserError, nearest
from fwn.mel import MelContract, contract

FILE = "config.json"
# Every config has these and no others; experiments/base.py says what each means. Those marked True may change when a
# run is continued: they decide where, how often and how long, and not what is computed.
FIELDS = {
    "system": False,
    "model": False,
    "mel": False,
    "data": True,
    "frames": False,
    "batch_size": False,
    "dequantise": False,
    "seed": False,
    "num_steps": True,
    "optimiser": False,
    "ema_decay": False,
    "parallel": True,
    "log_every": True,
    "eval_every": True,
    "eval_batches": True,
    "save_every": True,
    "max_skipped": True,
}
COUNTS = ("frames", "batch_size", "num_steps", "log_every", "eval_every", "eval_batches", "save_every", "max_skipped")
OPTIMISER = ("rate", "warmup", "halve_every", "clip")


def check(config: Mapping[str, Any], source: str) -> None:
    """Raises UserError unless the config has every field, and no other. (config.model is checked by its system.)"""
    _check_fields(config, FIELDS, source)
    _check_fields(config["optimiser"], OPTIMISER, f"{source}: optimiser")
    for name in COUNTS:
        if not isinstance(config[name], int) or config[name] < 1:
            raise UserError(f"{source}: {name} is {config[name]!r}; it must be a whole number, at least 1")
    if "upsample_strides" not in config["model"]:
        raise UserError(f"{source}: missing model.upsample_strides; start from experiments/base.py")
    strides = config["model"]["upsample_strides"]
    hop = mel_of(config).hop_length
    if math.prod(strides) != hop:
        raise UserError(
            f"{source}: model.upsample_strides={tuple(strides)} make {math.prod(strides)} samples of a mel frame, but "
            f"the mel contract has a hop of {hop}; give strides whose product is {hop}"
        )


def _check_fields(values: Mapping[str, Any], known: Collection[str], source: str) -> None:
    for name in values:
        if name not in known:
            raise UserError(f"{source}: no such field: {name!r}{nearest(name, known)}")
    if missing := [name for name in known if name not in values]:
        raise UserError(f"{source}: missing {', '.join(missing)}; start from experiments/base.py")


def write(workdir: Path, config: Mapping[str, Any], mel: MelContract) -> None:
    """Writes workdir/config.json, whole or not at all."""
    workdir.mkdir(parents=True, exist_ok=True)
    unfinished = workdir / f".{FILE}.{os.getpid()}"
    unfinished.write_text(json.dumps(record(config, mel), indent=2) + "\n", encoding="utf-8")
    unfinished.replace(workdir / FILE)


def record(config: Mapping[str, Any], mel: MelContract) -> dict[str, Any]:
    """What config.json and every checkpoint hold."""
    return {"fwn": __version__, "config": plain(config), "mel": mel.to_dict(), "mel_hash": mel.hash()}


def read(workdir: Path) -> tuple[ConfigDict, MelContract]:
    """The config and mel contract of a workdir. Raises UserError where there is none."""
    file = workdir / FILE
    if not workdir.is_dir():
        what = "not a folder" if workdir.exists() else "no such folder"
        raise UserError(f"{workdir}: {what}; give a workdir of fwn.train or an output folder of fwn.convert")
    if not file.is_file():
        raise UserError(f"{workdir}: no {FILE} in it; give a workdir of fwn.train or an output folder of fwn.convert")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        config, mel = ConfigDict(values["config"]), MelContract.from_dict(values["mel"], f"{file}: mel")
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{file}: damaged ({error!r}); restore it, or train or convert again") from error
    check(config, str(file))
    return config, mel


def check_same(workdir: Path, config: Mapping[str, Any]) -> None:
    """Raises UserError if the workdir was begun with another config, showing each difference."""
    if not (workdir / FILE).is_file():
        return
    old, new = plain(read(workdir)[0]), plain(config)
    differ = [
        f"{name}: {_short(old[name], new[name])} there, {_short(new[name], old[name])} now"
        for name, may_change in FIELDS.items()
        if not may_change and old[name] != new[name]
    ]
    if differ:
        raise UserError(
            f"{workdir} belongs to a run of another config ({'; '.join(differ)}); "
            "give another --workdir, or the config that it was begun with"
        )


def mel_of(config: Any) -> MelContract:
    """The mel contract that the config names (a preset) or holds (all its fields)."""
    return contract(config["mel"] if isinstance(config["mel"], str) else plain(config["mel"]))


def plain(config: Any) -> Any:
    """ConfigDicts and tuples -> dicts and lists, as JSON has them."""
    values = config.to_dict() if isinstance(config, ConfigDict) else config
    return json.loads(json.dumps(values))


def _short(value: Any, other: Any) -> Any:
    """Of two dicts only the entries that differ."""
    if isinstance(value, dict) and isinstance(other, dict):
        return {k: v for k, v in value.items() if k not in other or other[k] != v}
    return value
