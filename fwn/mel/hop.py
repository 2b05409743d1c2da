"""Sizes of a model that follow from the hop of its mels, where the config leaves them open: 0, () or None."""

import math
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from fwn.mel.convention import MelContract
from fwn.mel.presets import read_contract

LEAST = 8  # samples that share a filter, or a step of autoregression: a prime hop has one of each per mel frame


def strides(hop: int) -> tuple[int, int]:
    """Two strides of an upsampling by `hop`, as equal as possible, the smaller first: (16, 16) for 256."""
    first = max(n for n in range(1, math.isqrt(hop) + 1) if hop % n == 0)
    return first, hop // first


def divisor(hop: int, near: int) -> int:
    """The divisor of `hop`, not below LEAST, with the least ratio to `near`; of two that are as near, the smaller."""
    divisors = [n for n in range(min(LEAST, hop), hop + 1) if hop % n == 0]
    return min(divisors, key=lambda n: (max(n / near, near / n), n))


# Field of config.model, and its value for a hop. With a hop of 256 they are (16, 16), 64 and 16.
OPEN: dict[str, Callable[[int], Any]] = {
    "upsample_strides": strides,
    "prediction.subframe": lambda hop: divisor(hop, 64),
    "autoregression.block": lambda hop: divisor(hop, 16),
}


def is_open(value: Any) -> bool:
    """Whether a size follows from the hop."""
    return value is None or (type(value) in (int, tuple, list) and not value)


def fitted(config: ConfigDict, contract: MelContract | None = None) -> ConfigDict:
    """The config, or a copy of it in which the fields of OPEN that are open have their values for the contract's hop.

    contract: None: the one that config.mel names. Raises UserError if there is none.
    """
    nodes = {name: _node(config, name) for name in OPEN}
    unset = [name for name, node in nodes.items() if node is not None and is_open(node.get(_last(name), ...))]
    if not unset:
        return config
    hop = (contract or read_contract(config.mel, "config.mel")).hop_length
    config = config.copy_and_resolve_references()
    for name in unset:
        _node(config, name)[_last(name)] = OPEN[name](hop)
    return config


def _node(config: ConfigDict, name: str) -> Any:
    """What has the field; None if the config has no such part."""
    node: Any = config
    for part in ["model", *name.split(".")[:-1]]:
        node = node.get(part) if isinstance(node, ConfigDict) else None
    return node if isinstance(node, ConfigDict) else None


def _last(name: str) -> str:
    return name.rpartition(".")[2]
