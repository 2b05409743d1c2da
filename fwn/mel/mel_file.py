"""Mels in files of NumPy, PyTorch and safetensors, as acoustic models and other vocoders' tools write them."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fwn.errors import UserError
from fwn.files import arrays
from fwn.files.bounds import LARGEST
from fwn.mel.convention import MelContract
from fwn.mel.external import as_array, check_mels, rows, several

DEEPEST = 8  # levels of dicts and lists in which arrays are looked for
SHOWN = 20  # names in a message


def read_mels(file: Path, contract: MelContract, name: str | None = None) -> list[np.ndarray]:
    """The mels in a file, float32 [F, M] each: one, or those of a batch or list.

    name: of the array, where there are several: `a.b` is b in the dict a. Without it a file has one array or list of
    arrays, or one that can be a mel by its shape and type. Arrays without a name need none. Raises UserError if the
    file is damaged, does not say which array is meant, or has no mel of the contract.
    """
    given = _given(file, {contract.n_mels}, f"mels of {contract.title}", name)
    mels = check_mels(given, contract, str(file))
    return [mels] if isinstance(mels, np.ndarray) and mels.ndim == 2 else list(mels)


def stored(file: Path, name: str | None, bands: Collection[int]) -> list[tuple[str, np.ndarray]]:
    """The arrays [F, M] or [M, F] in a file as they are, of any contract with so many bands, each with its place.

    name: as in read_mels. place: "" for the only one, else "[0]", "[1]", … Raises UserError as read_mels does.
    """
    given = _given(file, bands, f"mels of {', '.join(map(str, bands))} bands", name)
    found = rows(given, str(file)) if several(given) else [as_array(given, str(file))]
    if not found:
        raise UserError(f"{file}: the mel is empty, its shape is {list(np.shape(given))}")
    return [("" if len(found) == 1 else f"[{i}]", array) for i, array in enumerate(found)]


def _given(file: Path, bands: Collection[int], what: str, name: str | None) -> Any:
    """The array, or list of arrays, that is meant. what: those with so many bands, in words."""
    given = arrays.read(file)
    if not _is_leaf(given):
        given = _chosen(list(_named(given, set())), bands, what, str(file), name)
    if isinstance(given, list | tuple) and sum(a.nbytes for a in given) > LARGEST * file.stat().st_size:
        raise UserError(
            f"{file}: its list of {len(given)} arrays is over {LARGEST} times as large as the file; save each once"
        )
    return given


def _is_leaf(value: Any) -> bool:
    """Whether it is an array, or a list of arrays."""
    items = value if isinstance(value, list | tuple) else [value]
    return bool(items) and all(isinstance(item, np.ndarray) for item in items)


def _named(value: Any, seen: set[int], name: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """All leaves of nested containers, with their names.

    Each container is looked at once: a small file can have one that contains another twice, and so on sixty times.
    """
    if isinstance(value, np.ndarray):
        yield name, value
    elif isinstance(value, dict | list | tuple) and depth < DEEPEST and id(value) not in seen:
        seen.add(id(value))
        if _is_leaf(value):
            yield name, value
            return
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _named(item, seen, f"{name}.{key}" if name else str(key), depth + 1)


def _chosen(named: list[tuple[str, Any]], bands: Collection[int], what: str, source: str, name: str | None) -> Any:
    """The leaf of that name, or without a name the only one, or the only one that can be a mel."""
    if not named:
        raise UserError(f"{source}: no array is in it; save the mel as an array or tensor")
    if len(named) == 1 and name is None:
        return named[0][1]
    found = [leaf for key, leaf in named if (_fits(leaf, bands) if name is None else key == name)]
    if len(found) != 1:
        what = f"can be {what}" if name is None else f"are called {name!r}"
        shown = [f"{key[:60]!r} {_shape(leaf)}" for key, leaf in named[:SHOWN]] + ["…"] * (len(named) > SHOWN)
        raise UserError(f"{source}: {len(found)} of its arrays {what}; name one by --mel_key, of {', '.join(shown)}")
    return found[0]


def _fits(leaf: Any, bands: Collection[int]) -> bool:
    """Whether an array, or the first of a list, has the type and shape of a mel or several."""
    first = leaf if isinstance(leaf, np.ndarray) else leaf[0]
    axes = first.shape if first is leaf else (len(leaf), *first.shape)
    floats = first.dtype.name in ("bfloat16", "float16", "float32", "float64")
    return floats and len(axes) > 1 and not set(bands).isdisjoint(axes[-2:])


def _shape(leaf: Any) -> str:
    return str(list(leaf.shape)) if isinstance(leaf, np.ndarray) else f"({len(leaf)} arrays)"
