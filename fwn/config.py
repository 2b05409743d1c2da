"""Experiment configs: what fields they have, and how a workdir remembers its own (config.json)."""

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fwn import __version__
from fwn.disk import atomic
from fwn.errors import UserError, nearest
from fwn.mel import MelContract, read_contract

FILE = "config.json"
OPTIMIZERS = "adam", "muon"  # fwn/training/optimizer.py
# Every config has these and no others; experiments/base.py says what each means. Those marked True may change when a
# run is continued: they decide where, how often and how long, and not what is computed.
FIELDS = {
    "system": False,
    "model": False,
    "teacher": True,  # its folder; its weights may not
    "loss": False,
    "mel": True,  # its name or file; the contract itself may not
    "data": True,
    "frames": False,
    "batch_size": False,
    "dequantise": False,
    "seed": False,
    "num_steps": True,
    "optimizer": False,
    "ema_decay": False,
    "parallel": True,
    "log_every": True,
    "eval_every": True,
    "eval_batches": True,
    "save_every": True,
    "max_skipped": True,
}
# Fields of the model that came to be after runs were begun, which have none: what those computed.
LATER: dict[str, Any] = {
    "conditioner": "squeezed",
    "conditioner_channels": 64,
    "odd": False,
    "prediction": {"order": 0, "first_order": 16, "subframe": 64, "channels": 256},
    "autoregression": {"coefficients": 0, "block": 16, "channels": 64, "n_layer": 8, "taps": 0},
}
COUNTS = ("frames", "batch_size", "num_steps", "log_every", "eval_every", "eval_batches", "save_every", "max_skipped")
OPTIMIZER = ("kind", "learning_rate", "warmup", "halve_every", "max_grad_norm")
# Version 0.1 called it `optimiser`, with these names of its fields.
RENAMED = {"rate": "learning_rate", "clip": "max_grad_norm"}


def check(config: Mapping[str, Any], mel: MelContract, source: str) -> None:
    """Raises UserError unless the config has every field, and no other, with usable values.

    config.model is checked by its system, but for its upsampling, whose rate is the mel contract's hop.
    """
    _check_fields(config, FIELDS, source)
    optimizer = plain(config["optimizer"])
    _check_fields(optimizer, OPTIMIZER, f"{source}: optimizer")
    if optimizer["kind"] not in OPTIMIZERS:
        raise UserError(
            f"{source}: optimizer.kind is {optimizer['kind']!r}; there are: {', '.join(OPTIMIZERS)}"
            + nearest(str(optimizer["kind"]), OPTIMIZERS)
        )
    counts = {name: config[name] for name in COUNTS} | {"optimizer.halve_every": optimizer["halve_every"]}
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{source}: {name} is {value!r}; it must be a whole number, at least 1")
    for name, value, holds, rule in (
        ("seed", config["seed"], 0 <= config["seed"] < 2**32, "within 0 … 2^32 - 1"),
        ("ema_decay", config["ema_decay"], 0 <= config["ema_decay"] < 1, "0 for none, or below 1"),
        ("optimizer.learning_rate", optimizer["learning_rate"], 0 < optimizer["learning_rate"] < math.inf, "positive"),
        ("optimizer.max_grad_norm", optimizer["max_grad_norm"], optimizer["max_grad_norm"] > 0, "positive"),
        ("optimizer.warmup", optimizer["warmup"], optimizer["warmup"] >= 0, "0 or more steps"),
    ):
        if not holds:
            raise UserError(f"{source}: {name} is {value!r}; it must be {rule}")
    if "upsample_strides" not in config["model"]:
        raise UserError(f"{source}: missing model.upsample_strides; start from experiments/base.py")
    strides = tuple(config["model"]["upsample_strides"])
    if math.prod(strides) != mel.hop_length:
        raise UserError(
            f"{source}: model.upsample_strides={strides} make {math.prod(strides)} samples of a mel frame, but the mel "
            f"contract has a hop of {mel.hop_length}; give strides whose product is {mel.hop_length}"
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
    with atomic(workdir / FILE) as file:
        file.write((json.dumps(record(config, mel), indent=2) + "\n").encode())


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
        config, mel = ConfigDict(_upgraded(values["config"])), MelContract.from_dict(values["mel"], f"{file}: mel")
        stated = values["mel_hash"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: damaged ({error!r}); restore it, or train or convert again") from error
    if mel.hash() != stated:
        raise UserError(f"{file}: its mel contract is {mel.title}, but mel_hash says {stated}; restore the file")
    check(config, mel, str(file))
    return config, mel


def _upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """A stored config under today's names of its fields. Adam is what optimised before there was a choice."""
    if "optimiser" not in values:
        return values
    old = {RENAMED.get(name, name): value for name, value in values["optimiser"].items()}
    others = {name: value for name, value in values.items() if name != "optimiser"}
    return others | {"optimizer": {"kind": "adam"} | old}


def check_same(workdir: Path, config: Mapping[str, Any], mel: MelContract) -> None:
    """Raises UserError if the workdir was begun with another config or mel contract, showing each difference."""
    begun, begun_mel = read(workdir)
    old, new = _given(plain(begun)), _given(plain(config))
    differ = [
        f"{name}: {_short(old[name], new[name])} there, {_short(new[name], old[name])} now"
        for name, may_change in FIELDS.items()
        if not may_change and old[name] != new[name]
    ]
    if mel.hash() != begun_mel.hash():
        differ.append(f"mel: {begun_mel.title} there, {mel.title} now")
    if differ:
        raise UserError(
            f"{workdir} belongs to a run of another config ({'; '.join(differ)}); "
            "give another --workdir, or the config that it was begun with"
        )


def mel_of(config: Any) -> MelContract:
    """The mel contract that config.mel names: a preset, or a JSON file with all fields of one."""
    return read_contract(config["mel"], "config.mel")


def plain(config: Any) -> Any:
    """ConfigDicts and tuples -> dicts and lists, as JSON has them."""
    values = config.to_dict() if isinstance(config, ConfigDict) else config
    return json.loads(json.dumps(values))


def _given(values: Any) -> Any:
    """With the fields of the model that came to be after the run was begun, and without those that are None.

    Nor model.gradient, which decides on memory and time, and not what is computed; nor the sizes of a part that is
    off.
    """
    model: dict[str, Any] = LATER | values["model"]
    for name, size in (("prediction", "order"), ("autoregression", "coefficients")):
        model[name] = LATER[name] | (model[name] or {})
        if not model[name][size]:
            model[name] = {size: 0}
    kept = {name: value for name, value in model.items() if value is not None and name != "gradient"}
    return values | {"model": kept}


def _short(value: Any, other: Any) -> Any:
    """Of two dicts only the entries that differ."""
    if isinstance(value, dict) and isinstance(other, dict):
        return {k: v for k, v in value.items() if k not in other or other[k] != v}
    return value
