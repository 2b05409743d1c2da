"""Convolutions over [B, T, C], in forms for which XLA has fast kernels on CPUs."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fwn.xla import winograd
from fwn.xla.platform import gradient, on_cpu, on_gpu

Array = jax.Array

MIN_CHANNELS = 128  # below this width Winograd is not faster than a direct convolution


def direct(x: Array, kernel: Array, dilation: int, padding: tuple[int, int], stride: int = 1) -> Array:
    """XLA's convolution of [B, T, C_in] and [K, C_in, C_out]."""
    return lax.conv_general_dilated(x, kernel, (stride,), [padding], (1,), (dilation,), ("NHC", "HIO", "NHC"))


def folded(x: Array, kernel: Array, dilation: int, padding: tuple[int, int]) -> Array:
    """`direct` for GPUs: [B, T / d, d, C] is convolved along its second axis.

    cuDNN has no gradients of dilated convolutions over [B, T, C], and XLA would transpose x for them.
    """
    whole = isinstance(x.shape[1], int) and not any(n % dilation for n in (x.shape[1], *padding))
    if dilation == 1 or not whole:
        return direct(x, kernel, dilation, padding)
    edges, dims = (padding[0] // dilation, padding[1] // dilation), ("NHWC", "HWIO", "NHWC")
    x = x.reshape(x.shape[0], -1, dilation, x.shape[-1])
    y = lax.conv_general_dilated(x, kernel[:, None], (1, 1), [edges, (0, 0)], dimension_numbers=dims)
    return y.reshape(y.shape[0], -1, y.shape[-1])


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(x: Array, kernel: Array, dilation: int, padding: tuple[int, int]) -> Array:
    """y_t = Σ_k kernel[k] x_{t + k·dilation - padding[0]}. x: [B, T, C_in], kernel: [K, C_in, C_out] -> [B, T, C_out].

    On a CPU, wide convolutions of three taps use Winograd's algorithm, and gradients are convolutions in the layout of
    the forward pass. XLA's own gradients are transposed, and XLA converts them to its fast layout only in the main
    function of a program: in a scan they take forty times as long, and the gradient of the kernel in a batch of 4 twice
    as long anywhere. A convolution of one tap is a matrix product. Its residual is the whole kernel, because kernel[0]
    would be a copy of the weights in every scan.
    """
    if len(kernel) == 1:
        return x @ kernel[0]
    how: Any = {"dilation": dilation, "padding": padding}
    plain = partial(on_gpu, partial(folded, **how), partial(direct, **how))
    narrow = min(kernel.shape[1:]) < MIN_CHANNELS or kernel.dtype not in (jnp.float32, jnp.float64)
    if len(kernel) != winograd.TAPS or narrow:
        result: Array = plain(x, kernel)
        return result
    product: Array = on_cpu(partial(winograd.convolve, dilation=dilation, before=padding[0]), plain, x, kernel)
    return product


def _forward(x: Array, kernel: Array, dilation: int, padding: tuple[int, int]) -> Any:
    return convolve(x, kernel, dilation, padding), (x, kernel)


def _backward(dilation: int, padding: tuple[int, int], residuals: Any, dy: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    if len(kernel) == 1:
        return dy @ kernel[0].T, jnp.tensordot(x, dy, ((0, 1), (0, 1)))[None]

    def forward_layout(x: Array, kernel: Array, dy: Array) -> tuple[Array, Array]:
        dx = direct(dy, kernel[::-1].swapaxes(1, 2), dilation, padding[::-1])
        dkernel = direct(x.transpose(2, 1, 0), dy.transpose(1, 0, 2), 1, padding, stride=dilation)  # sums over T and B
        return dx, dkernel.swapaxes(0, 1)

    how: Any = {"dilation": dilation, "padding": padding}
    plain = partial(on_gpu, gradient(partial(folded, **how)), gradient(partial(direct, **how)))
    gradients: tuple[Array, Array] = on_cpu(forward_layout, plain, x, kernel, dy)
    return gradients


convolve.defvjp(_forward, _backward)
