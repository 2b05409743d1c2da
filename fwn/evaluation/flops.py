"""Floating-point operations per audio sample: multiplications and additions of matrix products, counted from weights.

A kernel [K, C_in, C_out] takes 2 K C_in C_out operations at each position of its level. Elementwise operations are not
counted.
"""

import math
import re
from typing import Any

import jax


def per_sample(params: Any, model: Any) -> float:
    """Operations per audio sample of one pass of a model.

    params: arrays or their shapes. model: config.model; upsample_strides, prediction and autoregression are read.

    Each kernel is counted at the rate at which it runs:
    - block_i of a FloWaveNet: 2^-(i + 1) of the audio rate.
    - stage_i of an upsampling: its output rate, with 3 × 3 taps in time and mel for each mel band.
    - the encoder and condition_n behind it, and the network of linear prediction: the frame rate. The filters of linear
      prediction are counted by `filters`.
    - the network of autoregression, and its products with matrices made from the mel: the rate of its blocks.
    - all others: the audio rate.
    The last residual product of a WaveNet is not counted: nothing uses its result, so it is not computed.
    """
    strides = tuple(model["upsample_strides"])
    total = filters(model.get("prediction") or {"order": 0})
    autoregression = {"coefficients": 0, "taps": 0, "block": 1} | dict(model.get("autoregression") or {})
    total += 2 * autoregression["taps"] * autoregression["coefficients"] ** 2 / autoregression["block"]
    leaves = jax.tree_util.tree_leaves_with_path(params)
    names = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    bands = _bands(names)
    frame_rate = r"encoder/|/condition_\d+$" if "encoder/first/kernel" in names else r"(?!)"  # (?!) matches nothing
    for name, leaf in names.items():
        parent, _, kind = name.rpartition("/")
        if kind != "kernel" or _is_last_residual(parent, names):
            continue
        if parent.startswith("autoregression/net/") and "/condition_" not in parent:
            total += 2 * leaf.size / autoregression["block"]
        elif re.search(frame_rate, parent) or parent.startswith(("prediction/", "autoregression/")):
            total += 2 * leaf.size / math.prod(strides)
        elif match := re.search(r"upsample/stage_(\d+)$", parent):
            total += 2 * 9 * bands / math.prod(strides[int(match[1]) + 1 :])
        else:
            block = re.search(r"block_(\d+)/", parent)
            total += 2 * leaf.size * (0.5 ** (int(block[1]) + 1) if block else 1.0)
    return total


def filters(prediction: Any) -> float:
    """Operations per audio sample of linear prediction: the filter, and two stages of Levinson-Durbin per subframe.

    Each Levinson-Durbin step takes three products over all coefficients: fwn.flows.prediction computes the zeros too.
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
    """Number of mel bands: the smallest input width of a condition_0; 0 if there is none.

    In the first block of a FloWaveNet, c is squeezed to 2 × bands and each coupling gets half of it.
    """
    first = r"^(?!autoregression).*condition_0/kernel$"
    return min((leaf.shape[-2] for name, leaf in names.items() if re.search(first, name)), default=0)
