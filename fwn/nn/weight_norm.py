"""Weight norm as a transform of a tree of weights: W = scale · v / ‖v‖ for each output channel of a convolution.

Networks run with plain weights. `add_weight_norm` follows their initialisation, training learns v ("kernel") and
"scale", and `fold_weight_norm` makes W of both, inside the gradient or once before sampling (Salimans and Kingma 2016,
arXiv:1602.07868; official code: torch.nn.utils.weight_norm, whose gain begins as ‖v‖).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from fwn.xla.sums import products

Array = jax.Array


def norm(kernel: Any) -> Any:
    """‖v‖ of each output channel, of a JAX or NumPy array: [..., K, C_in, C_out] -> [..., C_out]."""
    squares = products(kernel, kernel)
    return np.sqrt(squares) if isinstance(squares, np.ndarray) else jnp.sqrt(squares)


def _scaled(kernel: Array, by: Array) -> Array:
    """Every output channel times its number."""
    return kernel * by[..., None, None, :]


@jax.custom_vjp
def normalised(kernel: Array, scale: Array) -> Array:
    """scale · v / ‖v‖, by output channel (weight norm). Its gradient reads v once, where XLA's own does three times."""
    return _scaled(kernel, scale / norm(kernel))


def _normalised_forward(kernel: Array, scale: Array) -> Any:
    size = norm(kernel)
    return _scaled(kernel, scale / size), (kernel, scale, size)


def _normalised_backward(kept: Any, dw: Array) -> tuple[Array, Array]:
    kernel, scale, size = kept
    dscale = products(dw, kernel) / size
    return _scaled(dw, scale / size) - _scaled(kernel, scale * dscale / size**2), dscale


normalised.defvjp(_normalised_forward, _normalised_backward)


def add_weight_norm(params: Any) -> Any:
    """Plain weights -> v and scale = ‖v‖ for every `Conv` among them; a `ZeroConv`, which has a log_scale, has none."""
    if not isinstance(params, dict):
        return params
    added = {name: add_weight_norm(node) for name, node in params.items()}
    return added | ({"scale": norm(params["kernel"])} if "kernel" in params and "log_scale" not in params else {})


def fold_weight_norm(params: Any) -> Any:
    """The plain weights that the networks run with: v, scale -> W. Weights that are plain already stay as they are."""
    if isinstance(params, list):
        return [fold_weight_norm(node) for node in params]
    if not isinstance(params, dict):
        return params
    if {"kernel", "scale"} <= params.keys():
        others = {name: params[name] for name in params.keys() - {"kernel", "scale"}}
        return others | {"kernel": normalised(params["kernel"], params["scale"])}
    return {name: fold_weight_norm(node) for name, node in params.items()}


def updated(params: Any, others: Any) -> Any:
    """A tree of weights with the weights of another in place of its own."""
    return unflatten_dict(flatten_dict(params) | flatten_dict(others))


def fitted(params: Any, shapes: Any, path: str = "") -> tuple[Any, list[str]]:
    """(those of the weights, folded or not, that a tree of shapes has too, how the others differ).

    The inverse of `fold_weight_norm`, if none differs: the gains of folded weights are ‖W‖. The direction and the gain
    of a kernel go together.
    """
    if not isinstance(shapes, dict) or not isinstance(params, dict):
        there, here = ("several arrays" if isinstance(a, dict) else str(list(np.shape(a))) for a in (params, shapes))
        if there != here:
            return None, [f"{path[1:]} has the shape {there} there, {here} here"]
        return np.asarray(params, shapes.dtype), []
    if {"kernel", "scale"} <= shapes.keys() and "scale" not in params and "kernel" in params:
        params = params | {"scale": norm(np.asarray(params["kernel"]))}
    taken, differ = {}, [f"{path[1:]}/{name} is here alone".lstrip("/") for name in shapes.keys() - params.keys()]
    differ += [f"{path[1:]}/{name} is there alone".lstrip("/") for name in params.keys() - shapes.keys()]
    for name in params.keys() & shapes.keys():
        found, unlike = fitted(params[name], shapes[name], f"{path}/{name}")
        differ += unlike
        if isinstance(found, np.ndarray) or found:
            taken[name] = found
    if "kernel" in shapes and "kernel" not in taken:
        taken.pop("scale", None)
    return taken, sorted(differ)
