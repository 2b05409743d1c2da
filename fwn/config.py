"""Experiment configs: their fields, their checks, and config.json, the copy in a workdir."""

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fwn import __version__
from fwn.disk import check_seal, sealed, write_text
from fwn.errors import UserError, nearest, short
from fwn.mel import MelContract, read_contract

FILE = "config.json"
OPTIMIZERS = "adam", "muon"  # fwn/training/optimizer.py
# Every config has exactly these fields; experiments/base.py says what each means. Those marked True may change when a
# run is continued: they do not change the model, its loss or its optimizer.
FIELDS = {
    "system": False,
    "model": False,
    "teacher": True,  # the folder may differ, the weights may not
    "loss": False,
    "mel": True,  # the preset or file may differ, the mel contract may not
    "data": True,
    "verify_data": True,
    "frames": False,
    "batch_size": False,
    "dequantise": False,
    "seed": False,
    "num_steps": True,
    "max_seconds": True,
    "optimizer": False,
    "freeze": True,
    "ema_decay": False,
    "parallel": True,
    "log_every": True,
    "eval_every": True,
    "eval_batches": True,
    "save_every": True,
    "max_spike": True,
    "max_skipped": True,
    "max_returns": True,
}
# Defaults for fields that older configs do not have.
ADDED_OUTSIDE: dict[str, Any] = {
    "verify_data": True,
    "max_seconds": 0,
    "max_spike": 10.0,
    "max_returns": 3,
    "freeze": "",
}
# Defaults for model fields that older configs do not have; with them a model computes the same as before.
ADDED_LATER: dict[str, Any] = {
    "conditioner": "squeezed",
    "conditioner_channels": 64,
    "odd": False,
    "prediction": {"order": 0, "first_order": 16, "subframe": 64, "channels": 256},
    "autoregression": {"coefficients": 0, "block": 16, "channels": 64, "n_layer": 8, "taps": 0},
}
COUNTS = ("frames", "batch_size", "num_steps", "log_every", "eval_every", "eval_batches", "save_every", "max_skipped")
OPTIMIZER = ("kind", "learning_rate", "warmup", "halve_every", "max_grad_norm")
# Version 0.1 had `optimiser` instead of `optimizer`, and these names of its fields.
RENAMED = {"rate": "learning_rate", "clip": "max_grad_norm"}


def check(config: Mapping[str, Any], mel: MelContract, source: str) -> None:
    """Raises UserError unless the config has exactly the known fields, with valid values.

    The system checks config.model; here only the product of its upsample_strides is compared with the mel's hop.
    """
    _check_fields(config, FIELDS, source)
    _check_types(config, source)
    optimizer = plain(config["optimizer"])
    _check_fields(optimizer, OPTIMIZER, f"{source}: optimizer")
    if optimizer["kind"] not in OPTIMIZERS:
        raise UserError(
            f"{source}: optimizer.kind is {short(optimizer['kind'])}; there are: {', '.join(OPTIMIZERS)}"
            + nearest(str(optimizer["kind"]), OPTIMIZERS)
        )
    numbers = {name: config[name] for name in ("ema_decay", "max_seconds", "max_spike", "max_returns")}
    numbers |= {f"optimizer.{name}": optimizer[name] for name in OPTIMIZER if name != "kind"}
    for name, value in numbers.items():
        if type(value) not in (int, float):
            raise UserError(f"{source}: {name} is {short(value)}; it must be a number")
    counts = {name: config[name] for name in COUNTS} | {"optimizer.halve_every": optimizer["halve_every"]}
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{source}: {name} is {short(value)}; it must be a whole number, at least 1")
    seed = config["seed"]
    for name, value, holds, rule in (
        ("seed", seed, type(seed) is int and 0 <= seed < 2**32, "a whole number in 0 … 2^32 - 1"),
        ("ema_decay", config["ema_decay"], 0 <= config["ema_decay"] < 1, "at least 0 (no averaging) and below 1"),
        ("max_seconds", config["max_seconds"], 0 <= config["max_seconds"] < math.inf, "0 (no limit) or more"),
        ("max_spike", config["max_spike"], 0 <= config["max_spike"] < math.inf, "0 (no limit) or more"),
        (
            "max_returns",
            config["max_returns"],
            type(config["max_returns"]) is int and config["max_returns"] >= 0,
            "a whole number, 0 or more",
        ),
        ("eval_batches", config["eval_batches"], config["eval_batches"] <= 10_000, "at most 10,000"),
        ("optimizer.learning_rate", optimizer["learning_rate"], 0 < optimizer["learning_rate"] <= 1, "in 0 … 1"),
        ("optimizer.max_grad_norm", optimizer["max_grad_norm"], optimizer["max_grad_norm"] > 0, "positive"),
        ("optimizer.warmup", optimizer["warmup"], optimizer["warmup"] >= 0, "0 or more steps"),
    ):
        if not holds:
            raise UserError(f"{source}: {name} is {short(value)}; it must be {rule}")
    if "upsample_strides" not in config["model"]:
        raise UserError(f"{source}: missing model.upsample_strides; start from experiments/base.py")
    given = config["model"]["upsample_strides"]
    strides = tuple(given) if isinstance(given, list | tuple) else ()
    whole = all(type(stride) is int and 1 <= stride <= mel.hop_length for stride in strides)
    if not whole or not 1 <= len(strides) <= 16:
        raise UserError(
            f"{source}: model.upsample_strides is {short(given)}; it must be whole numbers in 1 … {mel.hop_length}, as "
            "in (16,16)"
        )
    if math.prod(strides) != mel.hop_length:
        raise UserError(
            f"{source}: model.upsample_strides={strides} make {math.prod(strides)} samples per mel frame, but the mel "
            f"contract has a hop of {mel.hop_length}; give strides whose product is {mel.hop_length}"
        )


def _check_types(config: Mapping[str, Any], source: str) -> None:
    for name in ("model", "loss", "optimizer"):
        if not isinstance(config[name], Mapping | ConfigDict):
            raise UserError(
                f"{source}: {name} is {short(config[name])}; it must have fields, as in experiments/base.py"
            )
    for name in ("verify_data", "dequantise"):
        if type(config[name]) is not bool:
            raise UserError(f"{source}: {name} is {short(config[name])}; it must be True or False")
    for name in ("system", "teacher", "mel", "data", "parallel", "freeze"):
        if not isinstance(config[name], str) and (name, config[name]) != ("teacher", None):
            raise UserError(f"{source}: {name} is {short(config[name])}; it must be a text")


def _check_fields(values: Mapping[str, Any], known: Collection[str], source: str) -> None:
    for name in values:
        if name not in known:
            raise UserError(f"{source}: no such field: {short(name)}{nearest(name, known)}")
    if missing := [name for name in known if name not in values]:
        raise UserError(f"{source}: missing {', '.join(missing)}; start from experiments/base.py")


def write(workdir: Path, config: Mapping[str, Any], mel: MelContract) -> None:
    """Writes workdir/config.json atomically."""
    workdir.mkdir(parents=True, exist_ok=True)
    write_text(workdir / FILE, json.dumps(sealed(record(config, mel)), indent=2) + "\n")


def record(config: Mapping[str, Any], mel: MelContract) -> dict[str, Any]:
    """The contents of config.json, which every checkpoint also stores."""
    return {"fwn": __version__, "config": plain(config), "mel": mel.to_dict(), "mel_hash": mel.hash()}


def read(workdir: Path) -> tuple[ConfigDict, MelContract]:
    """The config and mel contract of a workdir. Raises UserError if it has none or they are damaged."""
    file = workdir / FILE
    if not workdir.is_dir():
        what = "not a folder" if workdir.exists() else "no such folder"
        raise UserError(f"{workdir}: {what}; give a workdir of fwn.train or an output folder of fwn.convert")
    if not file.is_file():
        raise UserError(f"{workdir}: no {FILE} in it; give a workdir of fwn.train or an output folder of fwn.convert")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        check_seal(values, file)
        config, mel = (
            ConfigDict(_upgraded(values["config"], file)),
            MelContract.from_dict(values["mel"], f"{file}: mel"),
        )
        stated = values["mel_hash"]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: damaged ({error!r}); restore it, or train or convert again") from error
    if mel.hash() != stated:
        raise UserError(f"{file}: its mel contract is {mel.title}, but mel_hash is {short(stated)}; restore the file")
    check(config, mel, str(file))
    return config, mel


def _upgraded(values: dict[str, Any], file: Path) -> dict[str, Any]:
    """A stored config with today's field names. Early configs had only Adam, and students' a loss term `features`."""
    values["model"].pop("weight_norm", None)  # it was a field, always true
    values = ADDED_OUTSIDE | values
    if weight := values["loss"].pop("features", 0):
        raise UserError(
            f"{file}: loss.features is {weight}, a term that fwn no longer has; set it to 0 there to sample from the "
            "model, or to train it on without the term"
        )
    if "optimiser" not in values:
        return values
    old = {RENAMED.get(name, name): value for name, value in values["optimiser"].items()}
    others = {name: value for name, value in values.items() if name != "optimiser"}
    return others | {"optimizer": {"kind": "adam"} | old}


def copied(config: ConfigDict) -> ConfigDict:
    """A copy of an experiment's config: without references, and with the fields that older experiment files lack."""
    copy = config.copy_and_resolve_references()
    with copy.unlocked():
        copy.update({name: value for name, value in ADDED_OUTSIDE.items() if name not in copy})
    return copy


def check_same(workdir: Path, config: Mapping[str, Any], mel: MelContract) -> None:
    """Raises UserError, with each difference, if the workdir was started with another config or mel contract."""
    stored, stored_mel = read(workdir)
    old, new = comparable(plain(stored)), comparable(plain(config))
    differ = [
        f"{name}: {_short(old[name], new[name])} there, {_short(new[name], old[name])} now"
        for name, may_change in FIELDS.items()
        if not may_change and old[name] != new[name]
    ]
    if mel.hash() != stored_mel.hash():
        differ.append(f"mel: {stored_mel.title} there, {mel.title} now")
    if differ:
        raise UserError(
            f"{workdir} was started with another config ({'; '.join(differ)}); "
            "give another --workdir or the original config"
        )


def mel_of(config: Any) -> MelContract:
    """The mel contract that config.mel names: a preset, or a JSON file with all its fields."""
    return read_contract(config["mel"], "config.mel")


def plain(config: Any) -> Any:
    """Converts ConfigDicts and tuples to dicts and lists, as in JSON."""
    values = config.to_dict() if isinstance(config, ConfigDict) else config
    return json.loads(json.dumps(values))


def comparable(values: Any) -> Any:
    """Adds the defaults of missing model fields, and drops fields that do not change what is computed.

    These are fields that are None, model.gradient, and the sizes of a part that is switched off.
    """
    model: dict[str, Any] = ADDED_LATER | values["model"]
    for name, size in (("prediction", "order"), ("autoregression", "coefficients")):
        model[name] = ADDED_LATER[name] | (model[name] or {})
        if not model[name][size]:
            model[name] = {size: 0}
    kept = {name: value for name, value in model.items() if value is not None and name != "gradient"}
    return values | {"model": kept}


def _short(value: Any, other: Any) -> Any:
    """If both values are dicts, the entries of `value` that differ from `other`; else `value`."""
    if isinstance(value, dict) and isinstance(other, dict):
        return {k: v for k, v in value.items() if k not in other or other[k] != v}
    return value
