"""Weights that training leaves as they are: those that config.freeze names."""

from fnmatch import fnmatchcase
from typing import Any

import jax

from fwn.errors import UserError, nearest
from fwn.training.checksum import leaves


def frozen(names: str, params: Any) -> set[str]:
    """Paths of the arrays in `params` that are frozen.

    names: separated by commas, "prediction,block_0/flows/actnorm": each is the path of an array or of all below it,
    and may have the wildcards * and ?. Raises UserError if one has no arrays, or if nothing is left to train.
    """
    paths, found = list(leaves(params)), set()
    for name in filter(None, map(str.strip, names.split(","))):
        own = {path for path in paths if fnmatchcase(path, name) or fnmatchcase(path, f"{name}/*")}
        if not own:
            raise UserError(
                f"config.freeze: no weights are named {name!r}{nearest(name, params)}; there are "
                f"{', '.join(sorted(params))}, and parts of them, as in {paths[0]}"
            )
        found |= own
    if len(found) == len(paths):
        raise UserError(f"config.freeze={names}: leaves nothing to train; name fewer weights")
    return found


def kept(names: str, new: Any, old: Any) -> Any:
    """The new weights, gradients or averages; for the frozen weights the old ones."""
    if not names:
        return new
    still, before = frozen(names, new), leaves(old)
    chosen = [before[path] if path in still else a for path, a in leaves(new).items()]
    return jax.tree.unflatten(jax.tree.structure(new), chosen)
