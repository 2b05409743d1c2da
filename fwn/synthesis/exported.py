"""Exported models, as fwn.export writes them and fwn.load reads them: a voice, or a folder that runs without fwn.

A voice has the weights in one small file:
weights.npz          arrays by path in the tree, weight norm folded; kernels in float16, others in float32
config.json          as in a workdir, with `step` and the sha256 of weights.npz
A folder that runs without fwn (fwn/portable) has more files:
weights.safetensors  float32 arrays by path, weight norm folded, of each flow by itself
config.json          as in a workdir, with `step` and `sha256`, those of the other files by name
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
from fwn.files import safetensors_reader
from fwn.models.weight_forms import stack, tree
from fwn.nn.weight_norm import fold_weight_norm
from fwn.systems import build
from fwn.training import checkpoints
from fwn.training.checkpoints import Run

VOICE, WEIGHTS = "weights.npz", "weights.safetensors"
AGAIN = "get it again, or run fwn.export again if it was interrupted"


def write_voice(folder: Path, run: Run, check: Callable[[Run], None] = lambda voice: None) -> int:
    """Writes weights.npz and config.json; returns their bytes. Raises UserError for weights too large for float16.

    check: called with the voice, as it will be read, before anything is written.
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
    content = weights.getvalue()
    check(run._replace(params=_unpacked(content)))
    return write_files(folder, run, {VOICE: content}, sha256(content))


def write_files(folder: Path, run: Run, files: dict[str, bytes], stated: Any) -> int:
    """Writes the files in order, then config.json with `stated`, their sha256; returns all bytes.

    As config.json comes last, a folder of which the writing was interrupted is refused, and can be written again.
    """
    record = configs.record(run.config, run.mel) | {"step": run.step, "sha256": stated}
    files = files | {configs.FILE: (json.dumps(sealed(record), indent=2) + "\n").encode()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        with atomic(folder / name) as file:
            file.write(content)
    return sum(map(len, files.values()))


def kind(folder: Path) -> str | None:
    """The name of the file with the weights of an exported model, VOICE or WEIGHTS; None: there is none."""
    return next((name for name in (VOICE, WEIGHTS) if (folder / name).is_file()), None)


def is_begun(folder: Path) -> bool:
    """Whether the folder is empty, or has only what a killed export leaves before its first file is complete."""
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= {f".{n}.partial" for n in (VOICE, WEIGHTS)}


def read(folder: Path) -> Run:
    """The model of an export, with float32 weights. Raises UserError if a file has changed since it was written."""
    config, mel = configs.read(folder)
    record = json.loads((folder / configs.FILE).read_text(encoding="utf-8"))
    weights, stated = kind(folder), record.get("sha256")
    stated = stated if isinstance(stated, dict) else {VOICE: stated}
    for name in sorted({weights or WEIGHTS, *stated}):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: missing; {AGAIN}")
        if sha256((folder / name).read_bytes()) != stated.get(name):
            raise UserError(f"{folder / name}: damaged (its sha256 is not the one in {folder / configs.FILE}); {AGAIN}")
    try:
        if weights == VOICE:
            params = _unpacked((folder / VOICE).read_bytes())
        else:
            params = stack(tree(safetensors_reader.read(folder / WEIGHTS)))
    except Exception as error:  # a damaged archive or header can raise any exception
        raise UserError(f"{folder / str(weights)}: damaged ({short(error)}); {AGAIN}") from error
    if type(step := record.get("step")) is not int:
        raise UserError(f"{folder / configs.FILE}: its step is {step!r}; {AGAIN}")
    return Run(config, mel, params, step)


def read_run(ckpt: str | Path, step: int | None = None) -> Run:
    """The model of an export or of a workdir (checkpoints.read). Raises UserError if it does not have this step."""
    if kind(Path(ckpt)):
        run = read(Path(ckpt))
        if step not in (None, run.step):
            raise UserError(f"{ckpt}: no checkpoint of step {step}; this export is of step {run.step} alone")
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


def sha256(content: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(content).hexdigest()
