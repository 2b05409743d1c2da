"""Stores a training state in a few small files, for machines that return little data: lite's 142 MB in under 64 MiB.

FOLDER/part-1-of-4.npz …   arrays by their path in the state; their bytes grouped by significance and compressed

Weights keep 17 significant bits (a relative error of 2^-17). Adam's moments, and the difference between the weights and
their average, keep 8, as bfloat16 has. Integers are exact. The lost bits are noise: the moments are averages over 10
and 1,000 steps, and the rounding of the weights is smaller than the change in a step.
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
from fwn.training import guard
from fwn.training.step import State

FILE_LIMIT, LIMIT = 16 * 2**20, 64 * 2**20  # bytes of one file and of all files
FILES = 5  # maximum number of parts; with config.json and metrics.jsonl there are seven files
WEIGHTS, REST = 17, 8  # significant bits
RENAME_EXCHANGE, AT_FDCWD = 2, -100  # from linux/fs.h and fcntl.h


def rounded(a: np.ndarray, bits: int) -> np.ndarray:
    """Rounds float32 to `bits` significant bits (the largest values may become infinite); keeps other dtypes as is."""
    if a.dtype != np.float32:
        return a
    low = 24 - bits
    steps = (np.ascontiguousarray(a).view(np.uint32) + np.uint32(2 ** (low - 1))) >> np.uint32(low) << np.uint32(low)
    return steps.view(np.float32)


def pack(state: State) -> State:
    """The stored form of a state: rounded, with averaged weights as the difference from the stored weights."""
    params = jax.tree.map(lambda a: rounded(a, WEIGHTS), state.params)
    ema = () if state.ema == () else jax.tree.map(lambda e, p: rounded(e - p, REST), state.ema, params)
    opt = jax.tree.map(lambda a: rounded(a, REST), state.opt)
    return dataclasses.replace(state, params=params, ema=ema, opt=opt)


def unpack(stored: State) -> State:
    """The inverse of `pack`, up to rounding."""
    ema = () if stored.ema == () else jax.tree.map(np.add, stored.params, stored.ema)
    return dataclasses.replace(stored, ema=ema)


def save(folder: Path, state: State) -> None:
    """Writes a state as parts into a folder. Raises UserError if they exceed the limits on size or number."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(pack(jax.device_get(state)))
    with ThreadPoolExecutor() as threads:
        arrays = list(threads.map(lambda leaf: _compressed(np.asarray(leaf[1])), leaves))
    parts: list[dict[str, Any]] = [{}]
    size = 0
    for (path, _), array in zip(leaves, arrays, strict=True):
        need = array.nbytes + 1024  # plus its name, twice, and the headers of zip and npy
        if need > FILE_LIMIT:
            raise UserError(
                f"{folder}: one array has {need} bytes, more than a file ({FILE_LIMIT}); train a smaller model"
            )
        if size + need > FILE_LIMIT:
            parts.append({})
            size = 0
        parts[-1][jax.tree_util.keystr(path)] = array
        size += need
    total = sum(array.nbytes + 1024 for array in arrays)
    if total > LIMIT or len(parts) > FILES:
        raise UserError(
            f"{folder}: the state takes {total / 2**20:.1f} MiB in {len(parts)} files, but the limit is "
            f"{LIMIT / 2**20:.0f} MiB in {FILES}; the previous state is kept: train a smaller model in slots"
        )
    for i, part in enumerate(parts, 1):
        np.savez(folder / f"part-{i}-of-{len(parts)}.npz", **part)


def load(folder: Path, like: State) -> State:
    """The state in a folder, as NumPy arrays with the shapes and dtypes of `like`.

    A state from before there was a guard gets a new one. Raises UserError if a part is missing or damaged, or if
    another model's state is there.
    """
    stored: dict[str, np.ndarray] = {}
    for file in names(folder):
        try:
            with file.open("rb") as opened, np.load(opened) as part:  # np.load(file) leaves damaged files open
                stored |= {name: part[name] for name in part.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            what = "missing" if isinstance(error, FileNotFoundError) else f"damaged ({error})"
            raise UserError(f"{file}: {what}; copy the whole returned folder again") from error
    leaves, tree = jax.tree_util.tree_flatten_with_path(like)
    expected = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    if like.guard != () and stored and not any(name.startswith(".guard") for name in stored):
        return dataclasses.replace(load(folder, dataclasses.replace(like, guard=())), guard=jax.device_get(guard.new()))
    if differ := sorted(expected.keys() ^ stored.keys()):
        raise UserError(f"{folder}: the state is of another model: only one of them has {differ[0]}")
    arrays = [_restored(stored[name], leaf, f"{folder}: {name}") for name, leaf in expected.items()]
    return unpack(jax.tree.unflatten(tree, arrays))


def names(folder: Path) -> list[Path]:
    """All files of the state in a folder, also missing ones; [] if there is no state."""
    found = [m for file in folder.glob("part-*.npz") if (m := re.fullmatch(r"part-\d+-of-(\d+)\.npz", file.name))]
    counts = {int(m[1]) for m in found}
    if len(counts) > 1:
        raise UserError(f"{folder}: parts of several states; copy the whole returned folder to an empty one")
    return [folder / f"part-{i}-of-{n}.npz" for n in counts for i in range(1, n + 1)]


def replace(place: Path, unfinished: Path, fill: Callable[[Path], None]) -> None:
    """Replaces the folder `place` atomically: fill(unfinished) writes the new one, then the two are exchanged.

    A kill at any moment leaves the complete old or the complete new folder. Both paths are on one file system.
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
    """Exchanges two folders with Linux' renameat2. Elsewhere with renames, so for microseconds `b` does not exist."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None and call(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), RENAME_EXCHANGE) == 0:
        return
    if call is not None and (number := ctypes.get_errno()) not in (errno.EINVAL, errno.ENOSYS):
        raise UserError(f"{b}: cannot be replaced by {a}: {os.strerror(number)}")
    old = a.with_name(f"{a.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    b.rename(old)
    a.rename(b)
    old.rename(a)


def _compressed(a: np.ndarray) -> np.ndarray:
    """Groups bytes by significance, then compresses: exponents shrink to a third, and rounded bytes to nothing."""
    planes = np.ascontiguousarray(a).reshape(-1).view(np.uint8).reshape(-1, a.itemsize).T
    packer = zlib.compressobj(strategy=zlib.Z_RLE)  # run-length encoding is enough: weights have no longer repetitions
    return np.frombuffer(packer.compress(planes.tobytes()) + packer.flush(), np.uint8)


def _restored(stored: np.ndarray, like: Any, name: str) -> np.ndarray:
    dtype, n = np.dtype(like.dtype), int(np.prod(like.shape))
    try:
        planes = zlib.decompress(stored.tobytes())
    except zlib.error as error:
        raise UserError(f"{name}: damaged ({error}); copy the whole returned folder again") from error
    if len(planes) != n * dtype.itemsize:
        raise UserError(f"{name}: its shape is not that of the config's model; give the config of the stored state")
    values = np.frombuffer(planes, np.uint8).reshape(dtype.itemsize, n).T
    return np.ascontiguousarray(values).view(dtype).reshape(like.shape)
