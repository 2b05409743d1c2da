"""The fields of an experiment's config, and their checks."""

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

from ml_collections import ConfigDict

from fwn.config import speakers
from fwn.errors import UserError, nearest, short
from fwn.mel import MelContract
from fwn.mel.hop import is_open

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
    "mel_noise": False,
    "speakers": False,
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
    "mel_noise": 0.0,
    "speakers": speakers.DEFAULT,
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


def check(config: Mapping[str, Any], mel: MelContract, source: str) -> None:
    """Raises UserError unless the config has exactly the known fields, with valid values.

    The system checks config.model; here only the product of its upsample_strides is compared with the mel's hop.
    """
    _check_fields(config, FIELDS, source)
    _check_types(config, source)
    _check_fields(told := plain(config["speakers"]), speakers.FIELDS, f"{source}: speakers")
    speakers.check(told, source)
    optimizer = plain(config["optimizer"])
    _check_fields(optimizer, OPTIMIZER, f"{source}: optimizer")
    if optimizer["kind"] not in OPTIMIZERS:
        raise UserError(
            f"{source}: optimizer.kind is {short(optimizer['kind'])}; there are: {', '.join(OPTIMIZERS)}"
            + nearest(str(optimizer["kind"]), OPTIMIZERS)
        )
    numbers = {name: config[name] for name in ("ema_decay", "max_seconds", "max_spike", "max_returns", "mel_noise")}
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
        ("mel_noise", config["mel_noise"], 0 <= config["mel_noise"] < math.inf, "0 (none) or more"),
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
    if is_open(given):  # it follows from the hop
        return
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
    for name in ("model", "loss", "optimizer", "speakers"):
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


def plain(config: Any) -> Any:
    """Converts ConfigDicts and tuples to dicts and lists, as in JSON."""
    values = config.to_dict() if isinstance(config, ConfigDict) else config
    return json.loads(json.dumps(values))
