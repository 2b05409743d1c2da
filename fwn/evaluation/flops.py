"""How much arithmetic a sample of audio takes: multiplications and additions of the products, counted from the weights.

A kernel [K, C_in, C_out] is applied once at every position of its level: 2 K C_in C_out operations there. Elementwise
work is not counted.
"""

import math
import re
from typing import Any

import jax


def per_sample(params: Any, model: Any) -> float:
    """Operations per audio sample of one pass of any model here, from its parameters (arrays or their shapes).

    model: its config.model, of which upsample_strides, prediction and autoregression are read.

    A FloWaveNet's block_i works at 2^-(i + 1) of the audio rate; stage_i of an upsampling at the rate it makes, with
    three of its taps in time and three in mel for each of the mel bands; all else at the audio rate. Where there is an
    encoder, it and the products with what it makes (condition_n) are at the rate of frames, as is the network of linear
    prediction, whose filters are counted by `filters`. The network of autoregression is at the rate of its blocks, as
    are its products with the matrices that are made of the mel. The last residual product of a WaveNet is not computed,
    as nothing uses it.
    """
    strides = tuple(model["upsample_strides"])
    total = filters(model.get("prediction") or {"order": 0})
    low = {"coefficients": 0, "taps": 0, "block": 1} | dict(model.get("autoregression") or {})
    total += 2 * low["taps"] * low["coefficients"] ** 2 / low["block"]
    leaves = jax.tree_util.tree_leaves_with_path(params)
    names = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    bands, by_frame = _bands(names), r"encoder/|/condition_\d+$" if "encoder/first/kernel" in names else r"(?!)"
    for name, leaf in names.items():
        parent, _, kind = name.rpartition("/")
        if kind != "kernel" or _is_last_residual(parent, names):
            continue
        if parent.startswith("autoregression/net/") and "/condition_" not in parent:
            total += 2 * leaf.size / low["block"]
        elif re.search(by_frame, parent) or parent.startswith(("prediction/", "autoregression/")):
            total += 2 * leaf.size / math.prod(strides)
        elif match := re.search(r"upsample/stage_(\d+)$", parent):
            total += 2 * 9 * bands / math.prod(strides[int(match[1]) + 1 :])
        else:
            block = re.search(r"block_(\d+)/", parent)
            total += 2 * leaf.size * (0.5 ** (int(block[1]) + 1) if block else 1.0)
    return total


def filters(prediction: Any) -> float:
    """Operations per audio sample of linear prediction: the filter, and Levinson-Durbin's two stages per subframe.

    A step of Levinson-Durbin is three products of all coefficients: fwn.flows.prediction computes zeros too.
    """
    order = prediction["order"]
    if not order:
        return 0.0
    stages = prediction["first_order"], order - prediction["first_order"]
    return 2.0 * order + sum(6 * n * n for n in stages) / prediction["subframe"]


def _is_last_residual(parent: str, names: Any) -> bool:
    match = re.search(r"^(.*)residual_(\d+)$", parent)
    return match is not None and f"{match[1]}residual_{int(match[2]) + 1}/kernel" not in names


def _bands(names: Any) -> int:
    """Mel bands: the inputs of the first conditioning (in the first block, half of twice them); 0 without any."""
    of = r"^(?!autoregression).*condition_0/kernel$"
    return min((leaf.shape[-2] for name, leaf in names.items() if re.search(of, name)), default=0)
