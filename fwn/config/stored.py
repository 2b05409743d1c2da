"""config.json, the copy of a config in a workdir, and what tells two configs apart."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fwn import __version__
from fwn.config.fields import ADDED_LATER, ADDED_OUTSIDE, FIELDS, check, plain
from fwn.disk import check_seal, sealed, write_text
from fwn.errors import UserError, short
from fwn.mel import MelContract, fitted, read_contract

FILE = "config.json"
# Version 0.1 had `optimiser` instead of `optimizer`, and these names of its fields.
RENAMED = {"rate": "learning_rate", "clip": "max_grad_norm"}


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
    """A copy of an experiment's config: without references, with the fields that older experiment files lack, and with
    the sizes that follow from the hop of its mels. Raises UserError if config.mel names no contract.
    """
    copy = config.copy_and_resolve_references()
    with copy.unlocked():
        copy.update({name: value for name, value in ADDED_OUTSIDE.items() if name not in copy})
    return fitted(copy)


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
