"""Convolutions of three taps with half the multiplications (Lavin & Gray 2016, arXiv:1509.09308), for CPUs.

y = A^T ((G w) * (B x)) for every four results, which hear six inputs. Taps, inputs and results are coefficients of
polynomials there, whose product is found from its values at six points; over channels, each * is a matrix product.
"""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

TAPS, RESULTS = 3, 4
INPUTS = TAPS + RESULTS - 1
# And infinity. The paper's 0, ±1, ±2 would round half as much again in float32, and twice as much at worst.
POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2.0**0.5, -(2.0**0.5))


def values(coefficients: int) -> np.ndarray:
    """What makes the values at all points of a polynomial's coefficients: [INPUTS, coefficients]."""
    return np.vstack([np.vander(POINTS, coefficients, increasing=True), np.eye(coefficients)[-1:]])


A, G, B = values(RESULTS), values(TAPS), np.linalg.inv(values(INPUTS)).T


def combine(matrix: np.ndarray, parts: Array) -> Array:
    """matrix @ parts, of whatever axes behind the first: as a product, which XLA has not to compile."""
    return jnp.tensordot(jnp.asarray(matrix, parts.dtype), parts, 1)


def cut(x: Array, dilation: int, before: int) -> Array:
    """The six inputs of every tile of four positions: [6, tiles, C] of [B, T, C].

    A tile's positions are `dilation` apart; `before` zeros are in front of x.
    """
    batch, length, channels = x.shape
    tiles = -(-length // (RESULTS * dilation))
    after = RESULTS * (tiles + 1) * dilation - before - length
    x = jnp.pad(x, ((0, 0), (before, after), (0, 0))).reshape(batch, -1, RESULTS, dilation, channels)
    x = jnp.concatenate([x[:, :-1], x[:, 1:, : INPUTS - RESULTS]], 2)
    return x.transpose(2, 0, 1, 3, 4).reshape(INPUTS, -1, channels)


def convolve(x: Array, kernel: Array, dilation: int, before: int) -> Array:
    """Σ_k kernel[k] x_{t + k·dilation - before} of [B, T, C_in] and [3, C_in, C_out], as long as x: [B, T, C_out]."""
    batch, length, _ = x.shape
    results = combine(A.T, combine(B, cut(x, dilation, before)) @ combine(G, kernel))
    results = results.reshape(RESULTS, batch, -1, dilation, results.shape[-1]).transpose(1, 2, 0, 3, 4)
    return results.reshape(batch, -1, results.shape[-1])[:, :length]
