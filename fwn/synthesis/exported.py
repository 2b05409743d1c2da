"""Exported voices: the weights to sample from in one small file. fwn.export writes them, fwn.load reads them.

weights.npz    arrays by path in the tree, weight norm folded; kernels in float16, others in float32
config.json    as in a workdir, with `step` and the sha256 of weights.npz
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from fwn import config as configs
from fwn.disk import sealed
from fwn.errors import UserError, short
from fwn.nn.weight_norm import fold_weight_norm
from fwn.systems import build
from fwn.training import checkpoints
from fwn.training.checkpoints import Run

WEIGHTS = "weights.npz"


def write(folder: Path, run: Run) -> int:
    """Writes weights.npz and config.json; returns their bytes. Raises UserError for weights too large for float16."""
    arrays: Any = {}
    for path, leaf in flatten_dict(jax.device_get(fold_weight_norm(run.params)), sep="/").items():
        kernel = path.endswith("/kernel")
        if kernel and not np.abs(leaf).max(initial=0.0) < np.finfo(np.float16).max:
            raise UserError(
                f"{path}: a weight of {np.abs(leaf).max():.3g} is too large for float16: it diverged; take another step"
            )
        arrays[path] = np.asarray(leaf, np.float16 if kernel else np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / WEIGHTS, **arrays)
    record = configs.record(run.config, run.mel) | {"step": run.step, "sha256": _sha256(folder / WEIGHTS)}
    (folder / configs.FILE).write_text(json.dumps(sealed(record), indent=2) + "\n", encoding="utf-8")
    return sum((folder / name).stat().st_size for name in (WEIGHTS, configs.FILE))


def is_one(folder: Path) -> bool:
    """Whether the folder is an exported voice."""
    return (folder / WEIGHTS).is_file()


def read(folder: Path) -> Run:
    """The model of a voice, with float32 weights. Raises UserError if a file has changed since it was written."""
    config, mel = configs.read(folder)
    record = json.loads((folder / configs.FILE).read_text(encoding="utf-8"))
    file = folder / WEIGHTS
    if _sha256(file) != record.get("sha256"):
        raise UserError(f"{file}: damaged (its sha256 is not the one in {folder / configs.FILE}); get the voice again")
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            arrays = {path: stored[path].astype(np.float32) for path in stored.files}
    except Exception as error:  # a damaged archive or header can raise any exception
        raise UserError(f"{file}: damaged ({short(error)}); get the voice again") from error
    if type(step := record.get("step")) is not int:
        raise UserError(f"{folder / configs.FILE}: its step is {step!r}; get the voice again")
    return Run(config, mel, unflatten_dict(arrays, sep="/"), step)


def read_run(ckpt: str | Path, step: int | None = None) -> Run:
    """The model of a voice or of a workdir (checkpoints.read). Raises UserError if it does not have this step."""
    if is_one(Path(ckpt)):
        run = read(Path(ckpt))
        if step not in (None, run.step):
            raise UserError(f"{ckpt}: no checkpoint of step {step}; this voice is of step {run.step} alone")
    else:
        run = checkpoints.read(ckpt, step)
    try:
        build(run.config, mel=run.mel)
    except UserError as error:
        raise UserError(f"{ckpt}: {error}") from error
    return run


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
