"""Forms of a model's weights: as they are trained and stored, and as a pass runs with them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from jax import lax

from fwn.nn.weight_norm import fold_weight_norm

Array = jax.Array


def ready(params: Any, dtype: Any = None) -> Any:
    """The weights that one pass runs with: weight norm folded, networks in their dtype, flows unstacked."""
    return unstack(in_dtype(fold_weight_norm(params), dtype))


def in_dtype(params: Any, dtype: Any) -> Any:
    """Kernels and biases of the flows' networks in the dtype in which they multiply; None: as they are.

    Cast here, those of all flows take one kernel of a GPU. Cast where they are used, each takes its own.
    """

    def cast(path: Any, a: Any) -> Any:
        block, *inner, name = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
        network = block.startswith("block_") and "net" in inner
        return a.astype(jnp.dtype(dtype)) if network and name in ("kernel", "bias") else a

    return params if dtype is None else jax.tree_util.tree_map_with_path(cast, params)


def unstack(params: Any) -> Any:
    """The same parameters with those of each block's flows as a list: every flow is then compiled by itself.

    For sampling: nothing is copied out of the common arrays then, a tenth of the time of a short utterance on a CPU.
    And for training on a GPU: what a flow keeps for the backward pass is not copied into common arrays.
    """
    if not isinstance(params, dict):
        return params
    if not isinstance(params.get("flows"), dict):  # none, or a list already
        return {name: unstack(node) for name, node in params.items()}
    flows, others = params["flows"], {name: node for name, node in params.items() if name != "flows"}
    leaves, form = jax.tree.flatten(flows)
    each = zip(*map(items, leaves), strict=True)
    return others | {"flows": [jax.tree.unflatten(form, own) for own in each]}


def items(a: Any) -> list[Any]:
    """Items of an array. Of a JAX array in one operation, whose gradient stacks them."""
    if isinstance(a, np.ndarray):
        return list(a)
    return [item.reshape(a.shape[1:]) for item in lax.split(a, [1] * a.shape[0])]


def stack(params: Any) -> Any:
    """The inverse of `unstack`, in NumPy."""
    if not isinstance(params, dict):
        return params
    whole = {name: stack(node) for name, node in params.items()}
    if isinstance(flows := whole.get("flows"), list):
        whole["flows"] = jax.tree.map(lambda *each: np.stack(each), *flows)
    return whole


def named(params: Any) -> dict[str, Any]:
    """The weights of a tree by path: "block_0/flows/1/actnorm/scale", where flows are a list (`unstack`)."""
    paths = jax.tree.leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in paths}


def tree(weights: dict[str, Any]) -> Any:
    """The inverse of `named`."""

    def listed(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        if all(map(str.isdigit, node)):
            return [listed(node[number]) for number in sorted(node, key=int)]
        return {name: listed(inner) for name, inner in node.items()}

    return listed(unflatten_dict(weights, sep="/"))
