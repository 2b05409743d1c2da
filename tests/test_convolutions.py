"""Optimised convolutions, weight norm, activations and sums equal the plain formulas, with their gradients."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fwn.nn import conv, weight_norm
from fwn.nn.wavenet import gated, relu
from fwn.xla import convolution, winograd
from fwn.xla.sums import norm, products

WIDE = convolution.MIN_CHANNELS
KERNEL = np.random.default_rng(7).normal(size=(1, 3, 4))


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> jax.Array:
    return jnp.asarray(scale * np.random.default_rng(seed).normal(size=shape))


def by_definition(x: jax.Array, kernel: jax.Array, dilation: int, padding: tuple[int, int]) -> jax.Array:
    dims = ("NHC", "HIO", "NHC")
    return lax.conv_general_dilated(x, kernel, (1,), [padding], rhs_dilation=(dilation,), dimension_numbers=dims)


def with_gradients(f: Callable[..., jax.Array], dy: jax.Array, *args: jax.Array) -> tuple[jax.Array, ...]:
    y, pull = jax.jit(lambda *args: jax.vjp(f, *args))(*args)
    return y, *pull(dy)


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 31, 62])
@pytest.mark.parametrize("dilation", [1, 2, 4])
@pytest.mark.parametrize("side", ["both", "causal", "future"])
def test_convolution_and_gradients_equal_the_definition(x64: None, length: int, dilation: int, side: str) -> None:
    padding = {"both": (dilation, dilation), "causal": (2 * dilation, 0), "future": (0, 2 * dilation)}[side]
    kernel, dy = random(3, WIDE, WIDE, seed=1, scale=0.1), random(2, length, WIDE, seed=2)
    args = random(2, length, WIDE), kernel
    ours = with_gradients(lambda x, k: convolution.convolve(x, k, dilation, padding), dy, *args)
    plain = with_gradients(lambda x, k: by_definition(x, k, dilation, padding), dy, *args)
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-11, rtol=0)


@pytest.mark.parametrize(
    ("shape", "dtype", "fast"),
    [
        ((3, WIDE, 2 * WIDE), "float32", True),
        ((3, WIDE, 2 * WIDE), "bfloat16", False),  # too few digits for the transforms
        ((3, WIDE - 1, WIDE), "float32", False),
        ((2, WIDE, WIDE), "float32", False),
    ],
)
def test_which_convolutions_use_winograd(shape: tuple[int, ...], dtype: str, fast: bool) -> None:
    x, kernel = jnp.zeros((1, 16, shape[1]), dtype), jnp.zeros(shape, dtype)
    lower = jax.jit(lambda x, k: convolution.convolve(x, k, 1, (1, shape[0] - 2))).trace(x, kernel).lower
    for platform, expected in (("cpu", fast), ("cuda", False), ("tpu", False)):
        text = lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.convolution" not in text) == expected, platform


def test_rounding_in_float32_is_close_to_that_of_the_definition() -> None:
    x, kernel = random(1, 480, 256), random(3, 256, 256, seed=1, scale=0.03)
    exact = sum(np.asarray(x, np.float64)[:, k : 478 + k] @ np.asarray(kernel, np.float64)[k] for k in range(3))
    off = np.asarray(winograd.convolve(x, kernel, 1, 0), np.float64)[:, :478] - exact
    assert np.sqrt(np.mean(off**2) / np.mean(exact**2)) < 1e-6  # 6e-7; plain sums of 768 products: 2e-7


@pytest.mark.parametrize("shape", [(3, 32, 8), (2, 1, 48, 8), (3, 5, 8)])
def test_weight_norm_and_gradient_equal_the_formula(x64: None, shape: tuple[int, ...]) -> None:
    v, dw = random(*shape), random(*shape, seed=2)
    scale = random(*shape[:-3], shape[-1], seed=1)

    def formula(v: jax.Array, scale: jax.Array) -> jax.Array:
        return v * (scale / jnp.sqrt((v**2).sum((-3, -2))))[..., None, None, :]

    ours = with_gradients(weight_norm.normalised, dw, v, scale)
    for a, b in zip(ours, with_gradients(formula, dw, v, scale), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-13, rtol=1e-12)


@pytest.mark.parametrize("shape", [(1, 2, 3), (6, 3, 160, 8), (2, 3, 3, 160, 64)])  # the last is over sums.JOINED
def test_sums_equal_the_formula(x64: None, shape: tuple[int, ...]) -> None:
    a, b = random(*shape), random(*shape, seed=1)
    expected = np.asarray((a * b).sum(axis=(-3, -2)))
    for found in (products(a, b), products(np.asarray(a), np.asarray(b)), jax.jit(products)(a, b)):
        np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max(), rtol=0)
    np.testing.assert_allclose(norm({"a": a, "b": [b]}), jnp.sqrt((a**2).sum() + (b**2).sum()), rtol=1e-13)


@pytest.mark.parametrize("length", [1, 5])
def test_a_convolution_of_one_tap_equals_the_definition(x64: None, length: int) -> None:
    args, dy = (random(2, length, 6), random(1, 6, 4, seed=1)), random(2, length, 4, seed=2)
    ours = with_gradients(lambda x, k: convolution.convolve(x, k, 1, (0, 0)), dy, *args)
    plain = with_gradients(lambda x, k: by_definition(x, k, 1, (0, 0)), dy, *args)
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("ours", "plain"),
    [
        (lambda a: conv.product(a[..., :3], a[..., 3:], KERNEL), lambda a: (a[..., :3] * a[..., 3:]) @ KERNEL[0]),
        (gated, lambda a: jnp.tanh(a[..., :3]) * jax.nn.sigmoid(a[..., 3:])),
        (relu, jax.nn.relu),
    ],
)
def test_gradients_of_activations_equal_autodiff(x64: None, ours: Callable[..., jax.Array], plain: Any) -> None:
    x = random(2, 5, 6, scale=3.0)
    dy = random(*ours(x).shape, seed=1)
    for a, b in zip(with_gradients(ours, dy, x), with_gradients(plain, dy, x), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12, rtol=0)
