"""A training state in a few small files, for machines that hand back little: lite's 142 MB of float32 in under 64 MiB.

FOLDER/part-1-of-4.npz …   arrays by their path in the state: bytes, those of equal weight together, compressed

Kept are 17 significant bits of the weights (a relative error of 2^-17), bfloat16's 8 of Adam's moments and of the
difference between the weights and their average, and integers as they are. What is left out would be noise: the
moments are averages over 10 and 1,000 steps, and of the weights it is less than a step's change.
"""

import ctypes
import dataclasses
import errno
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fwn.errors import UserError
from fwn.training.step import State

FILE_LIMIT, LIMIT = 16 * 2**20, 64 * 2**20  # bytes of one file, and of all
FILES = 5  # parts at most: with config.json and metrics.jsonl there are seven files
WEIGHTS, REST = 17, 8  # significant bits
RENAME_EXCHANGE, AT_FDCWD = 2, -100  # of linux/fs.h and fcntl.h


def rounded(a: np.ndarray, bits: int) -> np.ndarray:
    """float32 `a` to `bits` significant bits, to nearest; what rounds to infinity there is left to do so."""
    if a.dtype != np.float32:
        return a
    low = 24 - bits
    steps = (np.ascontiguousarray(a).view(np.uint32) + np.uint32(2 ** (low - 1))) >> np.uint32(low) << np.uint32(low)
    return steps.view(np.float32)


def pack(state: State) -> State:
    """What is stored of a state of NumPy arrays: rounded, the average as its difference from the stored weights."""
    params = jax.tree.map(lambda a: rounded(a, WEIGHTS), state.params)
    ema = () if state.ema == () else jax.tree.map(lambda e, p: rounded(e - p, REST), state.ema, params)
    opt = jax.tree.map(lambda a: rounded(a, REST), state.opt)
    return dataclasses.replace(state, params=params, ema=ema, opt=opt)


def unpack(stored: State) -> State:
    """The state that `pack` was given, as far as it is stored."""
    ema = () if stored.ema == () else jax.tree.map(np.add, stored.params, stored.ema)
    return dataclasses.replace(stored, ema=ema)


def save(folder: Path, state: State) -> None:
    """Writes the state's parts into a folder. Raises UserError where they are larger than what is handed back."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(pack(jax.device_get(state)))
    with ThreadPoolExecutor() as threads:
        arrays = list(threads.map(lambda leaf: _compressed(np.asarray(leaf[1])), leaves))
    parts: list[dict[str, Any]] = [{}]
    size = 0
    for (path, _), array in zip(leaves, arrays, strict=True):
        need = array.nbytes + 1024  # the name, twice, and what zip and npy say of it
        if need > FILE_LIMIT:
            raise UserError(f"{folder}: one array of the model takes {need} bytes, a file {FILE_LIMIT} at most")
        if size + need > FILE_LIMIT:
            parts.append({})
            size = 0
        parts[-1][jax.tree_util.keystr(path)] = array
        size += need
    total = sum(array.nbytes + 1024 for array in arrays)
    if total > LIMIT or len(parts) > FILES:
        raise UserError(
            f"{folder}: the state takes {total / 2**20:.1f} MiB in {len(parts)} files, of {LIMIT / 2**20:.0f} MiB in "
            f"{FILES} that are handed back; the last state is in place: train a smaller model in slots"
        )
    for i, part in enumerate(parts, 1):
        np.savez(folder / f"part-{i}-of-{len(parts)}.npz", **part)


def load(folder: Path, like: State) -> State:
    """The state in a folder, as NumPy arrays of the shapes and types of `like`.

    Raises UserError on a missing or damaged part, and on a state of another model.
    """
    stored: dict[str, np.ndarray] = {}
    for file in names(folder):
        try:
            with file.open("rb") as opened, np.load(opened) as part:  # NumPy leaves a damaged one open
                stored |= {name: part[name] for name in part.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            what = "missing" if isinstance(error, FileNotFoundError) else f"damaged ({error})"
            raise UserError(f"{file}: {what}; take the whole folder that was handed back") from error
    leaves, tree = jax.tree_util.tree_flatten_with_path(like)
    expected = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    if differ := sorted(expected.keys() ^ stored.keys()):
        raise UserError(f"{folder}: a state of another model: {differ[0]} is in one of them only")
    arrays = [_restored(stored[name], leaf, f"{folder}: {name}") for name, leaf in expected.items()]
    return unpack(jax.tree.unflatten(tree, arrays))


def names(folder: Path) -> list[Path]:
    """The files that the state in a folder is of, those included that are missing; [] where there is no state."""
    found = [m for file in folder.glob("part-*.npz") if (m := re.fullmatch(r"part-\d+-of-(\d+)\.npz", file.name))]
    counts = {int(m[1]) for m in found}
    if len(counts) > 1:
        raise UserError(f"{folder}: parts of several states; take the whole folder that was handed back, and no other")
    return [folder / f"part-{i}-of-{n}.npz" for n in counts for i in range(1, n + 1)]


def replace(place: Path, unfinished: Path, fill: Callable[[Path], None]) -> None:
    """Has `fill` write a folder at `unfinished` and puts it at `place` at once, in exchange for the one there.

    A kill at any moment leaves one whole folder or the other. Both paths are on one file system.
    """
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    fill(unfinished)
    for file in unfinished.iterdir():
        with file.open("rb") as written:
            os.fsync(written.fileno())
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        _exchange(unfinished, place)
        shutil.rmtree(unfinished)
    else:
        unfinished.rename(place)


def _exchange(a: Path, b: Path) -> None:
    """Linux' renameat2; elsewhere two renames, between which, for microseconds, nothing is at `b`."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None and call(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), RENAME_EXCHANGE) == 0:
        return
    if call is not None and (number := ctypes.get_errno()) not in (errno.EINVAL, errno.ENOSYS):
        raise UserError(f"{b}: could not be replaced by {a}: {os.strerror(number)}")
    old = a.with_name(f"{a.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    b.rename(old)
    a.rename(b)
    old.rename(a)


def _compressed(a: np.ndarray) -> np.ndarray:
    """Bytes of equal weight together: those of the exponents take a third, those that are rounded away nothing."""
    planes = np.ascontiguousarray(a).reshape(-1).view(np.uint8).reshape(-1, a.itemsize).T
    packer = zlib.compressobj(strategy=zlib.Z_RLE)  # there are no longer repetitions to be found in weights
    return np.frombuffer(packer.compress(planes.tobytes()) + packer.flush(), np.uint8)


def _restored(stored: np.ndarray, like: Any, name: str) -> np.ndarray:
    dtype, n = np.dtype(like.dtype), int(np.prod(like.shape))
    try:
        planes = zlib.decompress(stored.tobytes())
    except zlib.error as error:
        raise UserError(f"{name}: damaged ({error}); take the whole folder that was handed back") from error
    if len(planes) != n * dtype.itemsize:
        raise UserError(f"{name}: of another shape than the config's model has; give the config it was begun with")
    values = np.frombuffer(planes, np.uint8).reshape(dtype.itemsize, n).T
    return np.ascontiguousarray(values).view(dtype).reshape(like.shape)
