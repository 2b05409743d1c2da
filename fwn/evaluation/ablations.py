"""The paper's ablation studies: which of the compared models differ, by their configs, only in what a study varies."""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from fwn.config import plain

CAUSALITY = ("FloWaveNet (T = 0.8)", "FloWaveNet, causal")
SPLIT_FIELDS = ("block_per_split", "prior_layer", "prior_channels")  # without a split the prior fields have no effect


class Study(NamedTuple):
    """rows: for each model by name its values of `columns`. published: titles of rows of published.PAPER to add."""

    title: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[str, ...]]
    published: tuple[str, ...] = ()


def studies(configs: Mapping[str, Any]) -> tuple[list[Study], list[str]]:
    """configs: by model name. Returns the studies that these models allow, and a reason for each that is left out."""
    found = [
        Study("Causality", ("couplings",), _pairs(configs, _couplings, {"causal"}), CAUSALITY),
        Study("Multi-scale split", ("split after blocks",), _pairs(configs, _split, SPLIT_FIELDS)),
        _losses(configs),
    ]
    reasons = [
        "Causality: left out, no two of these FloWaveNets differ only in model.causal",
        "Multi-scale split: left out, no two of these FloWaveNets differ only in model.block_per_split",
        "Distillation losses: left out, none of these models has a teacher",
    ]
    left_out = [reason for study, reason in zip(found, reasons, strict=True) if not study.rows]
    return [study for study in found if study.rows], left_out


def _couplings(model: Mapping[str, Any]) -> str:
    return "causal" if model["causal"] else "not causal"


def _split(model: Mapping[str, Any]) -> str:
    every = model["block_per_split"]
    return f"every {every} of {model['n_block']}" if every < model["n_block"] else "none"


def _pairs(
    configs: Mapping[str, Any], value: Callable[[Any], str], varied: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """Rows of FloWaveNets that are equal except in the fields `varied`, and have at least two different `value`s."""
    groups: dict[str, dict[str, tuple[str, ...]]] = {}
    for name, config in configs.items():
        if config["system"] == "flowavenet":
            model = plain(config["model"])
            rest = json.dumps({field: v for field, v in model.items() if field not in varied}, sort_keys=True)
            groups.setdefault(rest, {})[name] = (value(model),)
    several = [group for group in groups.values() if len(set(group.values())) > 1]
    return {name: values for group in several for name, values in group.items()}


def _losses(configs: Mapping[str, Any]) -> Study:
    """One row per student: the weight of each loss term, "-" for terms that its system does not have."""
    students = {name: plain(config) for name, config in configs.items() if config["teacher"]}
    terms = list(dict.fromkeys(term for config in students.values() for term in config["loss"]))
    rows = {
        name: (config["system"], *(str(config["loss"][t]) if t in config["loss"] else "-" for t in terms))
        for name, config in students.items()
    }
    return Study("Distillation losses", ("system", *terms), rows, ("Gaussian IAF",))
