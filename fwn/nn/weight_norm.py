"""Weight norm as a transform of a tree of weights: W = scale · v / ‖v‖ for each output channel of a convolution.

Networks run with plain weights. `add_weight_norm` follows their initialisation, training learns v ("kernel") and
"scale", and `fold_weight_norm` makes W of both, inside the gradient or once before sampling (Salimans and Kingma 2016,
arXiv:1602.07868; official code: torch.nn.utils.weight_norm, whose gain begins as ‖v‖).
"""

from typing import Any

import jax
import numpy as np

from fwn.xla.sums import products

Array = jax.Array


def norm(kernel: Any) -> Any:
    """‖v‖ of each output channel, of a JAX or NumPy array: [..., K, C_in, C_out] -> [..., C_out]."""
    return products(kernel, kernel, (-3, -2)) ** 0.5


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
    dscale = products(dw, kernel, (-3, -2)) / size
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


def unfold_weight_norm(params: Any, shapes: Any, path: str = "") -> Any:
    """Weights, folded or not, as a tree of these shapes: the inverse of `fold_weight_norm`, whose gains are ‖W‖.

    Raises ValueError that names the first array that is missing, too many or of another shape.
    """
    if not isinstance(shapes, dict):
        if np.shape(params) != shapes.shape:
            raise ValueError(f"{path[1:]} has the shape {list(np.shape(params))} there, {list(shapes.shape)} here")
        return np.asarray(params, shapes.dtype)
    if not isinstance(params, dict):
        raise ValueError(f"{path[1:]} is an array there, and several here")
    if {"kernel", "scale"} <= shapes.keys() and "scale" not in params and "kernel" in params:
        params = params | {"scale": norm(np.asarray(params["kernel"]))}
    if differ := params.keys() ^ shapes.keys():
        raise ValueError(f"{path[1:]}/{min(differ)} is {'there' if min(differ) in params else 'here'} alone")
    return {name: unfold_weight_norm(params[name], shapes[name], f"{path}/{name}") for name in sorted(shapes)}
