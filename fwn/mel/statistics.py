"""Statistics by which acoustic models and ParallelWaveGAN normalise each band of a mel: (mel - mean) / scale.

Read are ParallelWaveGAN's stats.npy [2, M] and stats.h5 (bin/compute_statistics.py: mean, scale), and ESPnet's
feats_stats.npz (count, sum, sum_square) and .npy [2, M + 1] of Kaldi (layers/global_mvn.py: sums with the count last,
sums of squares).
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fwn.errors import UserError
from fwn.files import arrays
from fwn.mel.convention import MelContract

LEAST = 1e-20  # variance, as in ESPnet


def normalised(contract: MelContract, file: Path, key: str | None = None) -> MelContract:
    """The contract with the mean and scale in a file. Raises UserError if they are not those of its bands.

    key: of a file with several, as ParallelWaveGAN's of each speaker.
    """
    if contract.mean is not None:
        raise UserError(f"{file}: the mel contract {contract.title} has a mean and scale already")
    found, m = arrays.read(file), contract.n_mels
    if key is not None:
        if not isinstance(found, Mapping) or key not in found:
            has = ", ".join(map(repr, list(found)[:20])) if isinstance(found, Mapping) else "one array without a name"
            raise UserError(f"{file}: has no {key!r}; it has {has}")
        found = found[key]
    mean, scale = _mean_and_scale(found, m, str(file))
    for name, values in (("mean", mean), ("scale", scale)):
        wrong = values[~np.isfinite(values)]
        if wrong.size:
            raise UserError(f"{file}: its {name} is {wrong[0]} in some band; it must be finite")
    if not (scale > 0).all():
        raise UserError(f"{file}: its scale is {scale[scale <= 0][0]} in some band; it must be positive")
    name = f"{contract.name}_normalised"
    return dataclasses.replace(contract, name=name, mean=tuple(map(float, mean)), scale=tuple(map(float, scale)))


def _mean_and_scale(found: Any, m: int, source: str) -> tuple[np.ndarray, np.ndarray]:
    shapes = {"mean": (m,), "scale": (m,), "sum": (m,), "sum_square": (m,), "count": ()}

    def named(*names: str) -> list[np.ndarray] | None:
        if not isinstance(found, Mapping) or not set(names) <= found.keys():
            return None
        for name in names:
            array = np.asarray(found[name])
            if array.shape != shapes[name] or array.dtype.kind not in "fiu":
                raise UserError(
                    f"{source}: its {name} is {array.dtype} {list(array.shape)}; the statistics of {m} bands have "
                    f"numbers {list(shapes[name])} there"
                )
        return [np.asarray(found[name], float) for name in names]

    if (pair := named("mean", "scale")) is not None:
        return pair[0], pair[1]
    if (sums := named("count", "sum", "sum_square")) is not None:
        return _of_sums(*sums)
    if isinstance(found, np.ndarray) and found.dtype.kind in "fiu" and found.shape == (2, m):
        return np.asarray(found[0], float), np.asarray(found[1], float)
    if isinstance(found, np.ndarray) and found.dtype.kind in "fiu" and found.shape == (2, m + 1):
        return _of_sums(np.asarray(found[0, -1], float), *np.asarray(found[:, :-1], float))
    has = f"it is {found.dtype} {list(found.shape)}" if isinstance(found, np.ndarray) else "it has no arrays by name"
    if isinstance(found, Mapping):
        has = f"it has the arrays {', '.join(map(repr, list(found)[:20]))}"
    raise UserError(
        f"{source}: not the statistics of {m} bands: {has}; give ParallelWaveGAN's stats.h5 or stats.npy [2, {m}], or "
        "ESPnet's feats_stats.npz"
    )


def _of_sums(count: np.ndarray, total: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation from a count and sums, as in ESPnet's GlobalMVN."""
    with np.errstate(divide="ignore", invalid="ignore"):  # not finite is reported
        mean = total / count
        return mean, np.sqrt(np.maximum(squares / count - mean**2, LEAST))
