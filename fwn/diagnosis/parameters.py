"""The weights of a checkpoint by themselves: finite, trained, ActNorm's range, small enough to be exported."""

from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from fwn.diagnosis.finding import ERROR, WARNING, Examination, Finding, named

LARGE_SCALE = 1e5  # of ActNorm: a deviation of 1e-5, a third of a 16-bit step, in the batch that initialised it


def examine(params: Any) -> Examination:
    """params: plain weights, weight norm folded, as NumPy arrays."""
    arrays = {name: np.asarray(a, np.float32) for name, a in flatten_dict(params, sep="/").items()}
    yield f"{sum(a.size for a in arrays.values()):,} weights"
    broken = [name for name, a in arrays.items() if not np.isfinite(a).all()]
    if broken:
        yield Finding(
            ERROR,
            f"{len(broken)} arrays of weights have NaN or infinite values: {named(broken)}",
            "go back to an earlier checkpoint (--step), and train on with a lower config.optimizer.learning_rate",
        )
    yield from _actnorm({name: a for name, a in arrays.items() if "/actnorm/" in name})
    yield from _untrained(arrays)
    limit = float(np.finfo(np.float16).max)
    large = [name for name, a in arrays.items() if name.endswith("/kernel") and np.abs(a).max(initial=0) >= limit]
    if large:
        yield Finding(
            ERROR,
            f"weights beyond {limit:.0f}, which a voice (fwn.export) cannot store: {named(large)}",
            "the run diverged: go back to an earlier checkpoint and lower config.optimizer.learning_rate",
        )


def _actnorm(arrays: dict[str, np.ndarray]) -> Examination:
    scales = {name: np.abs(a[np.isfinite(a)]) for name, a in arrays.items() if name.endswith("/scale") and a.size}
    scales = {name: a for name, a in scales.items() if a.size}
    if not scales:
        yield "ActNorm: there is none in this model"
        return
    low, high = min(scales, key=lambda name: scales[name].min()), max(scales, key=lambda name: scales[name].max())
    shift = max((float(np.abs(a).max()) for name, a in arrays.items() if name.endswith("/loc")), default=None)
    yield (
        f"ActNorm: |scale| {scales[low].min():.3g} ({low.split('/')[0]}) to {scales[high].max():.3g} "
        f"({high.split('/')[0]}); " + ("odd, without shifts" if shift is None else f"|shift| up to {shift:.3g}")
    )
    if scales[high].max() > LARGE_SCALE or scales[low].min() < 1 / LARGE_SCALE:
        yield Finding(
            WARNING,
            f"ActNorm scales from {scales[low].min():.3g} to {scales[high].max():.3g}: it was initialised by a silent "
            "batch, or the run diverged; such scales amplify rounding and end in NaN",
            "remove silent clips (fwn.doctor --data names them), set config.dequantise=True, and begin a new run",
        )


def _untrained(arrays: dict[str, np.ndarray]) -> Examination:
    """The last layers of couplings, which begin as zeros: those with a log_scale beside the kernel."""
    outputs = {name: a for name, a in arrays.items() if name.replace("/kernel", "/log_scale") in arrays}
    outputs = {name: a for name, a in outputs.items() if name.endswith("/kernel")}
    each = {
        f"{name.removesuffix('/kernel')}[{i}]" if "/flows/" in name else name.removesuffix("/kernel"): part
        for name, a in outputs.items()
        for i, part in enumerate(a if "/flows/" in name else [a])
    }
    zero = [name for name, part in each.items() if not part.any()]
    if not each:
        return
    yield f"last layers, which begin as zeros: {len(each) - len(zero)} of {len(each)} have learned something"
    if zero:
        yield Finding(
            WARNING,
            f"{len(zero)} of {len(each)} last layers are still zero, as before training: {named(zero)}",
            "train for longer; an untrained flow makes noise, or the predictor's whisper",
        )
