"""Checksums of trees of arrays. They do not depend on how an array is sharded over devices and processes."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def checksums(tree: Any) -> dict[str, str]:
    """{path: "float32[3,80] 16 hexadecimal digits"} of all arrays in `tree`.

    The digits are Σ b_i · (2i + 1) mod 2^64, where b_i is the bit pattern of element i as an unsigned integer, of
    64-bit elements a weighted sum of its halves. A change of one element always changes the sum, changes of several do,
    but for rare coincidences. Each process adds up the shards that it holds, so all processes must call this.
    """
    named = leaves(tree)
    with ThreadPoolExecutor() as pool:  # NumPy computes without Python's lock
        sums = list(pool.map(_sum, named.values()))
    if jax.process_count() > 1:
        words = np.array([[total & 0xFFFFFFFF, total >> 32] for total in sums], np.uint32)  # jax has no uint64
        every = np.asarray(multihost_utils.process_allgather(words)).astype(object)
        sums = [(int(low) + (int(high) << 32)) % 2**64 for low, high in every.sum(0)]
    return {name: f"{form(a)} {total:016x}" for (name, a), total in zip(named.items(), sums, strict=True)}


def leaves(tree: Any) -> dict[str, Any]:
    """{path: array} of all arrays in `tree`."""
    return {jax.tree_util.keystr(path, simple=True, separator="/"): a for path, a in jax.tree.leaves_with_path(tree)}


def forms(tree: Any) -> dict[str, str]:
    """{path: "float32[3,80]"} of all arrays in `tree`, or descriptions of arrays: checksums without their digits."""
    return {name: form(a) for name, a in leaves(tree).items()}


def form(a: Any) -> str:
    """Type and shape of an array or its description: "float32[3,80]"."""
    return f"{np.dtype(a.dtype)}[{','.join(map(str, a.shape))}]"


def _sum(a: Any) -> int:
    """The part of an array's sum that this process holds."""
    return sum(_shard_sum(data, index, a.shape) for data, index in _shards(a)) % 2**64


def _shards(a: Any) -> Iterator[tuple[np.ndarray, Sequence[slice]]]:
    """(data, place in the array) of each shard that is to be counted here; replicas are counted once."""
    if isinstance(a, jax.Array):
        yield from ((np.asarray(shard.data), shard.index) for shard in a.addressable_shards if shard.replica_id == 0)
    elif jax.process_index() == 0:
        yield np.asarray(a), [slice(None)] * np.ndim(a)


def _shard_sum(data: np.ndarray, place: Sequence[slice], shape: Sequence[int]) -> int:
    bits = np.ascontiguousarray(data).view(f"u{data.dtype.itemsize}").astype(np.uint64).reshape(data.shape)
    index = np.zeros((), np.uint64)
    for axis, at in enumerate(place):
        stride = math.prod(shape[axis + 1 :])
        steps = np.arange(at.start or 0, (at.start or 0) + data.shape[axis], dtype=np.uint64) * np.uint64(stride)
        index = index + steps.reshape(-1, *[1] * (len(shape) - axis - 1))
    if data.dtype.itemsize == 8:  # else the highest bits of two elements would cancel
        bits = (bits & np.uint64(0xFFFFFFFF)) + (bits >> np.uint64(32)) * np.uint64(0x9E3779B97F4A7C15)
    return int((bits * (2 * index + np.uint64(1))).sum(dtype=np.uint64))
