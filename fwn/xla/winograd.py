"""Winograd convolutions F(4, 3) for CPUs: three taps, half the multiplications (Lavin & Gray 2016, arXiv:1509.09308).

A tile of four results y = A^T ((G w) * (B x)) depends on six inputs x. The matrices evaluate polynomials at six points,
whose coefficients are taps, inputs and results. Over channels, each * is a matrix product.
"""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

TAPS, RESULTS = 3, 4
INPUTS = TAPS + RESULTS - 1
# The sixth point is infinity. The paper's 0, ±1, ±2 have 1.5 times the float32 rounding error, and twice the worst one.
POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2.0**0.5, -(2.0**0.5))


def evaluation(coefficients: int) -> np.ndarray:
    """The matrix [INPUTS, coefficients] that evaluates a polynomial, given by its coefficients, at all points."""
    return np.vstack([np.vander(POINTS, coefficients, increasing=True), np.eye(coefficients)[-1:]])


A, G, B = evaluation(RESULTS), evaluation(TAPS), np.linalg.inv(evaluation(INPUTS)).T


def transform(matrix: np.ndarray, x: Array) -> Array:
    """`matrix` times the first axis of x. As a matrix product it needs less compile time than sums of slices."""
    return jnp.tensordot(jnp.asarray(matrix, x.dtype), x, 1)


def tiled(x: Array, dilation: int, before: int) -> Array:
    """The six inputs of every tile of four results: [B, T, C] -> [6, tiles, C].

    The positions of a tile are `dilation` apart. x is padded with `before` zeros at the start.
    """
    batch, length, channels = x.shape
    tiles = -(-length // (RESULTS * dilation))
    after = RESULTS * (tiles + 1) * dilation - before - length
    x = jnp.pad(x, ((0, 0), (before, after), (0, 0))).reshape(batch, -1, RESULTS, dilation, channels)
    x = jnp.concatenate([x[:, :-1], x[:, 1:, : INPUTS - RESULTS]], 2)
    return x.transpose(2, 0, 1, 3, 4).reshape(INPUTS, -1, channels)


def convolve(x: Array, kernel: Array, dilation: int, before: int) -> Array:
    """y_t = Σ_k kernel[k] x_{t + k·dilation - before}. x: [B, T, C_in], kernel: [3, C_in, C_out] -> [B, T, C_out]."""
    batch, length, _ = x.shape
    results = transform(A.T, transform(B, tiled(x, dilation, before)) @ transform(G, kernel))
    results = results.reshape(RESULTS, batch, -1, dilation, results.shape[-1]).transpose(1, 2, 0, 3, 4)
    return results.reshape(batch, -1, results.shape[-1])[:, :length]
