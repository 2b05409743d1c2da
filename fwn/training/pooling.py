"""Weights and moments of training with modules of one form stacked, so that one kernel updates all of them.

A model has a hundred small modules of a few dozen forms. Of the 38 seconds to compile a step of lite on a CPU, 16 were
for updates of their weights one by one, and stacking saves 600 kernels of a GPU. Checkpoints hold modules one by one.
"""

from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from fwn.models.weight_forms import items

LIMIT = 2**19  # numbers of a module: larger ones stay alone, since the gradients of pooled modules are copied
BETWEEN = "|"  # between the paths of pooled modules


@flax.struct.dataclass
class Pooled:
    """A tree of weights, as modules: {path: arrays by name}, and {paths: arrays by name, stacked along axis 0}.

    Those alone come first: their gradients are there first, and XLA joins the sums over devices of neighbours.
    """

    alone: dict[str, dict[str, Any]]
    together: dict[str, dict[str, Any]]


def pools(config: Any) -> bool:
    """Whether training pools: not for what needs the arrays' names (freeze, Muon), nor with pmap."""
    return not config.freeze and config.optimizer.kind == "adam" and config.parallel != "pmap"


def pooled(state: Any) -> Any:
    """A state in which each tree of weights is `Pooled`."""
    return trees(_pooled, state)


def trees(f: Callable[[dict[str, Any]], Any], state: Any) -> Any:
    """f of each tree of weights in a state (weights, average, moments), and of the modules of one that is pooled."""
    return jax.tree.map(lambda a: f(a) if isinstance(a, dict) else a, state, is_leaf=lambda a: isinstance(a, dict))


def spread(state: Any) -> Any:
    """The inverse of `pooled`. What is not pooled stays as it is."""
    return jax.tree.map(
        lambda a: _spread(a) if isinstance(a, Pooled) else a, state, is_leaf=lambda a: isinstance(a, Pooled)
    )


def _pooled(tree: dict[str, Any]) -> Pooled:
    modules: dict[str, dict[str, Any]] = {}
    for path, a in flatten_dict(tree).items():
        modules.setdefault("/".join(path[:-1]), {})[path[-1]] = a
    alike: dict[Any, list[str]] = {}
    for path, module in modules.items():
        form = tuple(sorted((name, a.shape, str(a.dtype)) for name, a in module.items()))
        alike.setdefault(form if sum(a.size for a in module.values()) <= LIMIT else path, []).append(path)
    alone = {path: modules[path] for path, *others in alike.values() if not others}
    together = {
        BETWEEN.join(paths): jax.tree.map(lambda *each: jnp.stack(each), *(modules[path] for path in paths))
        for paths in alike.values()
        if len(paths) > 1
    }
    return Pooled(alone, together)


def _spread(pool: Pooled) -> dict[str, Any]:
    flat = {f"{path}/{name}": a for path, module in pool.alone.items() for name, a in module.items()}
    for paths, module in pool.together.items():
        for name, a in module.items():
            flat |= {f"{path}/{name}": own for path, own in zip(paths.split(BETWEEN), items(a), strict=True)}
    return unflatten_dict(flat, sep="/")
