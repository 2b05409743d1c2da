"""The paper's studies among the models compared: which of them, by their configs, differ in what a study is about."""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from fwn.config import plain

CAUSALITY = ("FloWaveNet (T = 0.8)", "FloWaveNet, causal")
SPLIT_FIELDS = ("block_per_split", "prior_layer", "prior_channels")  # without a split there is no prior


class Study(NamedTuple):
    """rows: the members by name, each with what distinguishes it, under the heads `columns`.

    published: titles of fwn.evaluation.published's systems that stand beside them.
    """

    title: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[str, ...]]
    published: tuple[str, ...] = ()


def studies(configs: Mapping[str, Any]) -> tuple[list[Study], list[str]]:
    """Those that these models (configs by name) make up, and a sentence for each that they do not."""
    found = [
        Study("Causality", ("couplings",), _pairs(configs, _couplings, {"causal"}), CAUSALITY),
        Study("Multi-scale split", ("split after blocks",), _pairs(configs, _split, SPLIT_FIELDS)),
        _losses(configs),
    ]
    wanted = [
        "Causality: left out, no two FloWaveNets among these models differ in model.causal alone",
        "Multi-scale split: left out, no two FloWaveNets among these models differ in it alone "
        "(model.block_per_split below model.n_block, or not)",
        "Distillation losses: left out, none of these models has a teacher",
    ]
    return [s for s in found if s.rows], [w for s, w in zip(found, wanted, strict=True) if not s.rows]


def _couplings(model: Mapping[str, Any]) -> str:
    return "causal" if model["causal"] else "not causal"


def _split(model: Mapping[str, Any]) -> str:
    every = model["block_per_split"]
    return f"every {every} of {model['n_block']}" if every < model["n_block"] else "none"


def _pairs(
    configs: Mapping[str, Any], value: Callable[[Any], str], apart: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """Rows of the FloWaveNets whose models, equal but for the fields `apart`, have more than one `value`."""
    groups: dict[str, dict[str, tuple[str, ...]]] = {}
    for name, config in configs.items():
        if config["system"] == "flowavenet":
            model = plain(config["model"])
            rest = json.dumps({field: v for field, v in model.items() if field not in apart}, sort_keys=True)
            groups.setdefault(rest, {})[name] = (value(model),)
    several = [group for group in groups.values() if len(set(group.values())) > 1]
    return {name: values for group in several for name, values in group.items()}


def _losses(configs: Mapping[str, Any]) -> Study:
    """Every student with the weights of its loss; "-" for a term that its system does not have."""
    students = {name: plain(config) for name, config in configs.items() if config["teacher"]}
    terms = list(dict.fromkeys(term for config in students.values() for term in config["loss"]))
    rows = {
        name: (config["system"], *(str(config["loss"][t]) if t in config["loss"] else "-" for t in terms))
        for name, config in students.items()
    }
    return Study("Distillation losses", ("system", *terms), rows, ("Gaussian IAF",))
