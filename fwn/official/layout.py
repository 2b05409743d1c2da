"""Mappings from official tensors to our parameters.

A mapping is a tree like our parameters. Each leaf names the official tensors of one parameter and how to change their
layout. `assemble` makes the parameters from it, and checks that every official tensor is used exactly once.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from fwn.errors import UserError

Tensors = dict[str, np.ndarray]


class Leaf(NamedTuple):
    """One parameter: its official tensors, each changed to our layout, then concatenated along the output channels."""

    keys: tuple[str, ...]
    change: Callable[[np.ndarray], np.ndarray]


def flat(w: np.ndarray) -> np.ndarray:
    """[1, C, 1], [C, 1, 1] or [C] -> [C]."""
    return w.reshape(-1)


def kernel(w: np.ndarray) -> np.ndarray:
    """Conv1d's [C_out, C_in, K] -> [K, C_in, C_out]."""
    return w.T


def stretch_kernel(w: np.ndarray) -> np.ndarray:
    """ConvTranspose2d's [1, 1, mel, time] -> [mel, time, 1]."""
    return np.squeeze(w)[..., None]


def conv(*names: str, change: Callable[[np.ndarray], np.ndarray] = kernel) -> dict[str, Leaf]:
    """A weight-normalised `Conv` from one official convolution, or from several with concatenated outputs."""

    def leaf(kind: str, change: Callable[[np.ndarray], np.ndarray]) -> Leaf:
        return Leaf(tuple(f"{name}.{kind}" for name in names), change)

    return {"kernel": leaf("weight_v", change), "scale": leaf("weight_g", flat), "bias": leaf("bias", flat)}


def zero_conv(name: str) -> dict[str, Leaf]:
    """A `ZeroConv`."""
    return {
        "kernel": Leaf((f"{name}.conv.weight",), kernel),
        "bias": Leaf((f"{name}.conv.bias",), flat),
        "log_scale": Leaf((f"{name}.scale",), flat),
    }


def wavenet(prefix: str, n_layer: int, out: dict[str, Leaf]) -> dict[str, Any]:
    """A `WaveNet` of n_layer layers in total. Official code: modules.py, Wavenet and ResBlock; ClariNet: wavenet.py."""
    net: dict[str, Any] = {
        "front": conv(f"{prefix}front_conv.0.conv"),
        "final": conv(f"{prefix}final_conv.1.conv"),
        "out": out,
    }
    for n in range(n_layer):
        layer = f"{prefix}res_blocks.{n}"
        net[f"dilated_{n}"] = conv(f"{layer}.filter_conv.conv", f"{layer}.gate_conv.conv")
        net[f"condition_{n}"] = conv(f"{layer}.filter_conv_c", f"{layer}.gate_conv_c")
        net[f"residual_{n}"] = conv(f"{layer}.res_conv")
        net[f"skip_{n}"] = conv(f"{layer}.skip_conv")
    return net


def assemble(tensors: Tensors, leaves: dict[str, Any], shapes: dict[str, Any], source: str) -> dict[str, Any]:
    """The parameters that a tree of leaves describes, with the dtype of the official tensors.

    shapes: those of `model.init`. Raises UserError with the tensors that are missing, unused, misshapen or not finite.
    """
    parameters, expected = flatten_dict(leaves, sep="/"), flatten_dict(shapes, sep="/")
    used, held = Counter(key for leaf in parameters.values() for key in leaf.keys), Counter(tensors.keys())
    check_none(source, "lacks", sorted(used - held))
    check_none(source, "has tensors that the architecture of its first block does not use:", sorted(held - used))
    check_none(source, "disagrees with this program about the parameters", sorted(parameters.keys() ^ expected.keys()))
    made, wrong, not_finite = {}, [], []
    for name, leaf in parameters.items():
        *rest, features = expected[name].shape
        parts = [leaf.change(tensors[key]) for key in leaf.keys]
        fits = [part.shape == (*rest, features // len(parts)) for part in parts]
        wrong += [f"{key} {[*tensors[key].shape]}" for key, fit in zip(leaf.keys, fits, strict=True) if not fit]
        if all(fits):
            not_finite += [key for key in leaf.keys if not np.isfinite(tensors[key]).all()]
            made[name] = np.concatenate(parts, axis=-1)
    check_none(source, "does not fit the architecture of its first block in the shapes of", wrong)
    check_none(source, "has NaN or infinity in", not_finite)
    return unflatten_dict(made, sep="/")


def check_none(source: str, what: str, keys: list[str]) -> None:
    """Raises UserError, with the first keys, unless `keys` is empty."""
    if keys:
        more = f" and {len(keys) - 4} more" if len(keys) > 4 else ""
        raise UserError(f"{source}: not an official model that can be converted: it {what} {', '.join(keys[:4])}{more}")
