"""Convolutions over [B, T, C], initialised as PyTorch does by default. nn/weight_norm.py adds their weight norm.

Official code: modules.py, Conv and ZeroConv1d. Its `kaiming_normal_` runs after `weight_norm` and has no effect: what
it trains from is PyTorch's default, uniform in ±1/√fan_in for kernel and bias.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fwn.xla.convolution import convolve

Array = jax.Array


def uniform(bound: float) -> Any:
    """An initialiser: uniform in ±bound."""
    return lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def receptive_field(kernel_size: int, dilation: int = 1, causal: bool = False) -> tuple[int, int]:
    """Left and right receptive field of one convolution, which is also its padding."""
    both = dilation * (kernel_size - 1)
    return (both, 0) if causal else (both // 2, both - both // 2)


@jax.custom_vjp
def product(x: Array, gate: Array, kernel: Array) -> Array:
    """(x · gate) W with x, gate [B, T, C_in] and W [1, C_in, C_out]. Its gradient keeps the factors, not x · gate."""
    return (x * gate) @ kernel[0]


def _product_backward(kept: tuple[Array, Array, Array], dy: Array) -> tuple[Array, Array, Array]:
    x, gate, kernel = kept
    dx, dkernel = dy @ kernel[0].T, jnp.tensordot(x * gate, dy, ((0, 1), (0, 1)))[None]
    return dx * gate, dx * x, dkernel


product.defvjp(lambda *args: (product(*args), args), _product_backward)


class Conv(nn.Module):
    """y_t = b + Σ_k W_k x_{t + k·dilation - offset}, zero-padded to the length of x. causal: past samples only.

    dtype: of the product (None: the operands' own).
    biased: whether there is a b; without it the layer is odd. gate: convolves x · gate; only for one-tap kernels.
    """

    features: int
    kernel_size: int = 1
    dilation: int = 1
    causal: bool = False
    dtype: Any = None
    biased: bool = True

    @nn.compact
    def __call__(self, x: Array, gate: Array | None = None) -> Array:
        bound = 1 / math.sqrt(self.kernel_size * x.shape[-1])
        assert not self.has_variable("params", "scale"), "weight norm must be folded first (fold_weight_norm)"
        kernel = self.param("kernel", uniform(bound), (self.kernel_size, x.shape[-1], self.features))
        bias = self.param("bias", uniform(bound), (self.features,)) if self.biased else 0
        x, gate, kernel, bias = nn.dtypes.promote_dtype(x, gate, kernel, bias, dtype=self.dtype)
        if gate is not None:
            if self.kernel_size > 1:
                raise ValueError(f"a gate is for kernels of one tap, not of {self.kernel_size}")
            return product(x, gate, kernel) + bias
        return convolve(x, kernel, self.dilation, receptive_field(self.kernel_size, self.dilation, self.causal)) + bias


class ZeroConv(nn.Module):
    """y = (x W + b) · exp(3 log_scale), zero at initialisation, so that couplings start as the identity (Glow)."""

    features: int
    dtype: Any = None
    biased: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        zeros = nn.initializers.zeros
        kernel = self.param("kernel", zeros, (1, x.shape[-1], self.features))
        bias = self.param("bias", zeros, (self.features,)) if self.biased else 0
        gain = jnp.exp(3 * self.param("log_scale", zeros, (self.features,)))
        x, kernel, bias, gain = nn.dtypes.promote_dtype(x, kernel, bias, gain, dtype=self.dtype)
        return (convolve(x, kernel, 1, (0, 0)) + bias) * gain


def draw(shapes: Any, rng: np.random.Generator) -> Any:
    """Weights of every `Conv` in a tree of shapes, drawn by NumPy from its initialisers' distribution; no other leaves.

    Not of the upsampling, which has initialisers of its own (nn/upsample.py).
    The numbers do not depend on the devices, and XLA has no random-number code to compile (40 s for the paper's model).
    """
    drawn = {}
    for name in sorted(shapes):
        node = shapes[name]
        if not isinstance(node, dict) or name == "upsample":
            continue
        if "kernel" in node and "log_scale" not in node:
            shape = node["kernel"].shape
            bound = 1 / math.sqrt(math.prod(shape[-3:-1]))  # an axis of flows may come first
            own = [k for k in ("kernel", "bias") if k in node]
            drawn[name] = {k: rng.uniform(-bound, bound, node[k].shape).astype(node[k].dtype) for k in own}
        elif inner := draw(node, rng):
            drawn[name] = inner
    return drawn
