"""Linear prediction as a bijector: audio to excitation, with another filter for each block of samples.

    e_t = (x_t + Σ_{k=1…p} a_k x_{t-k}) / g        audio -> excitation (an FIR filter)
    x_t = g e_t - Σ_k a_k x_{t-k}                  excitation -> audio (the recursion)
    log|det de/dx| = -Σ_t log g                    exactly: the Jacobian is lower triangular

Itakura & Saito 1968; Atal & Hanauer 1971. Its purpose: docs/prediction.md.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fwn.flows.bijectors import Bijector, total
from fwn.xla.platform import on_cpu, on_gpu

Array = jax.Array
WIDENING = 0.9998  # moves every pole inwards: a bandwidth of 1.4 Hz, far above float32 rounding
UNROLLED = 16  # orders of Levinson-Durbin in one step of its loop, on GPUs
LONGEST_BLOCK = 256  # most samples that the recursion computes at once, on accelerators


def prediction(a: Array, log_g: Array, past: Array | None = None, mask: Array | None = None) -> Bijector:
    """Audio x [B, T, 1] <-> excitation e [B, T, 1]; c is not used.

    a [B, S, p]: coefficients a_1 … a_p of S blocks of T / S samples. log_g [B, S]: log of their gains. past [B, p]: the
    samples before x; None: zeros. mask [B, T, 1]: constant within a block. Computed in x's type; for
    filters with a large gain, rounding is larger in the excitation than in the audio.
    """
    blocks, order = a.shape[1:]
    past = jnp.zeros((a.shape[0], order), a.dtype) if past is None else past

    def forward(x: Array, c: Array) -> tuple[Array, Array, Array]:
        e = filtered(jnp.concatenate([past.astype(x.dtype), x[..., 0]], axis=1), a)
        e = (e * jnp.exp(-log_g)[..., None]).reshape(x.shape)
        size = x.shape[1] // blocks
        return e, c, -size * total(log_g[..., None], None if mask is None else mask[:, ::size])

    def inverse(e: Array, c: Array) -> tuple[Array, Array]:
        driven = e.reshape(e.shape[0], blocks, -1) * jnp.exp(log_g)[..., None]
        by_block = partial(recursion, length=1), partial(recursion, length=LONGEST_BLOCK)
        x = on_cpu(*by_block, driven, a, past.astype(e.dtype))
        return x.reshape(e.shape), c

    return Bijector(forward, inverse)


def filtered(x: Array, a: Array) -> Array:
    """x_t + Σ_k a_k x_{t-k}: audio x [B, p + T], its past first, and a [B, S, p] -> [B, S, T / S]."""
    blocks, order = a.shape[1:]
    size = (x.shape[1] - order) // blocks
    heard = x[:, size * np.arange(blocks)[:, None] + np.arange(order + size - 1)]  # what each block needs
    history = heard[..., order + np.arange(size)[:, None] - 1 - np.arange(order)]  # [B, S, size, p]
    return x[:, order:].reshape(len(x), blocks, size) + jnp.einsum("bsnp,bsp->bsn", history, a)


def recursion(driven: Array, a: Array, past: Array, length: int) -> Array:
    """The inverse of `filtered`: driven [B, S, N], a [B, S, p], past [B, p] -> x [B, S · N].

    A block of N samples depends only on the p samples before it and on its own filter, so all of its samples are
    computed at once: x = L^-1 (driven - U past) with a lower triangular L [N, N]. L^-1 is computed for all blocks in
    parallel; a scan carries the last p samples from block to block. Neighbouring blocks are joined, up to `length`
    samples, for fewer scan steps and more arithmetic.
    """
    batch, blocks, size = driven.shape
    order = a.shape[2]
    joined = max(n for n in range(1, max(1, length // size) + 1) if blocks % n == 0)
    n = joined * size
    rows = np.arange(n)[:, None]
    lag = rows - np.arange(n)
    inside = (lag >= 1) & (lag <= order)
    # Index of x_{t-k}, k = 1 … p, among the p past samples and n zeros for the block itself.
    source = order + rows - 1 - np.arange(order)

    def grouped(values: Array) -> Array:
        """[B, S, …] -> [S / joined, B, joined, …], for the scan."""
        return values.reshape(batch, blocks // joined, joined, *values.shape[2:]).swapaxes(0, 1)

    a, driven = grouped(a), grouped(driven).reshape(blocks // joined, batch, n)
    of_row = jnp.repeat(a, size, axis=2)  # [S', B, n, p]
    lower = jnp.where(inside, of_row[..., rows, np.clip(lag - 1, 0, order - 1)], 0) + jnp.eye(n, dtype=a.dtype)
    identity = jnp.broadcast_to(jnp.eye(n, dtype=a.dtype), lower.shape)
    solved = lax.linalg.triangular_solve(lower, identity, left_side=True, lower=True, unit_diagonal=True)

    def step(past: Array, inputs: Any) -> tuple[Array, Array]:
        driven, a, solved = inputs
        padded = jnp.pad(past, ((0, 0), (0, n)))
        heard = padded[:, source].reshape(batch, joined, size, order)
        rest = driven - jnp.einsum("bjnp,bjp->bjn", heard, a).reshape(batch, n)
        x = jnp.einsum("bij,bj->bi", solved, rest)
        return jnp.concatenate([past, x], axis=1)[:, -order:], x

    _, x = lax.scan(step, past, (driven, a, solved))
    return x.swapaxes(0, 1).reshape(batch, blocks * size)


def two_stages(spectrum: Array, order: int, first: int, floors: tuple[float, float]) -> tuple[Array, Array]:
    """The predictor of a power spectrum: spectrum [K, S] at 0 … π -> (a [p, S], g² [S]), p = order.

    The first filter, of order `first`, flattens the spectrum. The second, of order p - first, predicts the rest, whose
    range is small enough for float32. The result is their product. first = 0: one stage. floors: power of the white
    noise added in each stage, relative to the signal's. Stable for every positive spectrum.
    """
    one = jnp.ones_like(spectrum[:1])
    envelope = one
    if first:
        envelope, _ = levinson(autocorrelation(spectrum, first, floors[0]), floors[0])
        gain = jnp.fft.rfft(envelope, 2 * len(spectrum) - 2, axis=0)
        spectrum = spectrum * (gain.real**2 + gain.imag**2)
    fine, power = levinson(autocorrelation(spectrum, order - first, floors[1]), floors[1])
    delayed = [envelope[i] * jnp.pad(fine, ((i, first - i), (0, 0))) for i in range(first + 1)]
    product = sum(delayed[1:], start=delayed[0])
    inwards = WIDENING ** np.arange(1, order + 1, dtype=np.float32)[:, None]
    return product[1:] * inwards.astype(spectrum.dtype), power


def autocorrelation(spectrum: Array, order: int, floor: float) -> Array:
    """r_0 … r_p [p + 1, S] of a power spectrum [K, S], with r_0 multiplied by 1 + floor."""
    r = jnp.fft.irfft(spectrum, axis=0)[: order + 1].astype(spectrum.dtype)
    return r.at[0].multiply(1 + floor)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def levinson(r: Array, floor: float) -> tuple[Array, Array]:
    """(a [p + 1, S] with a_0 = 1, error [S]) of autocorrelations r [p + 1, S]: R a = error · (1, 0, …, 0).

    Levinson-Durbin. floor: share of r_0 that is white noise, below which the error cannot fall. Where it would, by
    rounding, the reflection coefficient is set to 0. So all coefficients are below 1 for any r, and the filter is
    stable.
    """
    result: tuple[Array, Array] = on_gpu(partial(_levinson, floor, UNROLLED), partial(_levinson, floor, 1), r)
    return result


def _levinson(floor: float, unrolled: int, r: Array) -> tuple[Array, Array]:
    """a of order m is a of order m - 1 plus k times the same, turned around. unrolled: orders a step of the loop."""
    order, least = len(r) - 1, 0.5 * floor * r[0]

    def turned(x: Array, m: Array) -> Array:
        """x_{m-i} for i = 0 … p, where there is one; else 0."""
        longer = jnp.pad(x[::-1], ((0, order + 1), (0, 0)))
        return lax.dynamic_slice_in_dim(longer, order - m, order + 1)

    def step(state: Any, m: Array) -> tuple[Any, None]:
        a, error = state
        k = -jnp.sum(a * turned(r, m), axis=0) / error
        k = jnp.where(error * (1 - k * k) > least, k, 0)
        return (a + k * turned(a, m), error * (1 - k * k)), None

    start = jnp.zeros_like(r).at[0].set(1)
    (a, error), _ = lax.scan(step, (start, r[0]), jnp.arange(1, order + 1), unroll=unrolled)
    return a, error


def _levinson_backward(_: float, kept: tuple[Array, Array], gradients: tuple[Array, Array]) -> tuple[Array]:
    """By R a = error · e_0: nothing of the recursion is kept, and R^-1 is applied by products with a."""
    (a, error), (da, derror) = kept, gradients
    solved = _solve(a, error, da.at[0].set(0))
    weights = (solved[0] + derror) * a - solved
    dr = _correlate(weights, a) + _correlate(a, weights)
    return (dr.at[0].multiply(0.5),)


levinson.defvjp(lambda r, floor: (levinson(r, floor),) * 2, _levinson_backward)


def _solve(a: Array, error: Array, v: Array) -> Array:
    """R^-1 v by the formula of Gohberg & Semencul 1972: R^-1 = (A A^T - B B^T) / error, A and B triangular Toeplitz."""
    b = jnp.concatenate([jnp.zeros_like(a[:1]), a[:0:-1]])
    return (_convolve(a, _correlate(a, v)) - _convolve(b, _correlate(b, v))) / error


def _convolve(x: Array, y: Array) -> Array:
    """Σ_i x_i y_{n-i} for n = 0 … p, along axis 0."""
    return jnp.fft.irfft(_transform(x) * _transform(y), 2 * len(x), axis=0)[: len(x)].astype(x.dtype)


def _correlate(x: Array, y: Array) -> Array:
    """Σ_i x_i y_{i+n} for n = 0 … p, along axis 0."""
    return jnp.fft.irfft(jnp.conj(_transform(x)) * _transform(y), 2 * len(x), axis=0)[: len(x)].astype(x.dtype)


def _transform(x: Array) -> Array:
    return jnp.fft.rfft(x, 2 * len(x), axis=0)
