"""Exported voices: the weights to sample from in one small file. fwn.export writes them, fwn.load reads them.

weights.npz    arrays by path in the tree, weight norm folded; kernels in float16, others in float32
config.json    as in a workdir, with `step` and the sha256 of weights.npz
"""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from fwn import config as configs
from fwn.disk import atomic, sealed
from fwn.errors import UserError, short
from fwn.nn.weight_norm import fold_weight_norm
from fwn.systems import build
from fwn.training import checkpoints
from fwn.training.checkpoints import Run

WEIGHTS = "weights.npz"


def write(folder: Path, run: Run, check: Callable[[Run], None] = lambda voice: None) -> int:
    """Writes weights.npz and config.json; returns their bytes. Raises UserError for weights too large for float16.

    check: called with the voice, as it will be read, before anything is written. config.json is written last: a voice
    of which the writing was interrupted is refused, and can be written again.
    """
    arrays: Any = {}
    for path, leaf in flatten_dict(jax.device_get(fold_weight_norm(run.params)), sep="/").items():
        kernel = path.endswith("/kernel")
        if kernel and not np.abs(leaf).max(initial=0.0) < np.finfo(np.float16).max:
            raise UserError(
                f"{path}: a weight of {np.abs(leaf).max():.3g} is too large for float16: it diverged; take another step"
            )
        arrays[path] = np.asarray(leaf, np.float16 if kernel else np.float32)
    weights = io.BytesIO()
    np.savez_compressed(weights, **arrays)
    record = configs.record(run.config, run.mel) | {"step": run.step, "sha256": _sha256(weights.getvalue())}
    check(run._replace(params=_unpacked(weights.getvalue())))
    files = {WEIGHTS: weights.getvalue(), configs.FILE: (json.dumps(sealed(record), indent=2) + "\n").encode()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        with atomic(folder / name) as file:
            file.write(content)
    return sum(map(len, files.values()))


def is_one(folder: Path) -> bool:
    """Whether the folder is an exported voice."""
    return (folder / WEIGHTS).is_file()


def is_begun(folder: Path) -> bool:
    """Whether the folder is empty, or has only what a killed `write` leaves before its first file is complete."""
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= {f".{WEIGHTS}.partial"}


def read(folder: Path) -> Run:
    """The model of a voice, with float32 weights. Raises UserError if a file has changed since it was written."""
    config, mel = configs.read(folder)
    record = json.loads((folder / configs.FILE).read_text(encoding="utf-8"))
    file, again = folder / WEIGHTS, "get the voice again, or run fwn.export again if it was interrupted"
    content = file.read_bytes()
    if _sha256(content) != record.get("sha256"):
        raise UserError(f"{file}: damaged (its sha256 is not the one in {folder / configs.FILE}); {again}")
    try:
        params = _unpacked(content)
    except Exception as error:  # a damaged archive or header can raise any exception
        raise UserError(f"{file}: damaged ({short(error)}); {again}") from error
    if type(step := record.get("step")) is not int:
        raise UserError(f"{folder / configs.FILE}: its step is {step!r}; {again}")
    return Run(config, mel, params, step)


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


def _unpacked(weights: bytes) -> Any:
    """The weights in the content of a weights.npz, in float32."""
    with np.load(io.BytesIO(weights), allow_pickle=False) as stored:
        return unflatten_dict({path: stored[path].astype(np.float32) for path in stored.files}, sep="/")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
