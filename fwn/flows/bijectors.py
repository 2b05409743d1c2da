"""Invertible maps as pairs of pure functions. A list of them is folded one way for forward, the other for inverse.

Contracts of the whole project:
- `forward` is audio -> noise (likelihood), `inverse` is noise -> audio (sampling).
- Arrays are `[B, T, C]`; `x, z` are the data, `c` the conditioning, at the same rate or at the rate of mel frames, or
  None. A layer may permute a `c` of the same rate (official code: model.py, change_order and Block), so `c` goes
  through the pair as well.
- `logdet` is log|det dz/dx| in nats, `[B]`, *summed* over time and channels, at least float32.
- `mask` is boolean `[B, T, 1]`, true in the sequence and false in its padding; None: no padding. Padding does not
  count in `logdet`. A float mask is the weight of each position in `logdet`, and 0 in padding: the derivative of
  `logdet` by it tells how much each position adds (systems.base.nats_by_frame).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array


class Bijector(NamedTuple):
    """forward (x, c) -> (z, c', logdet);  inverse (z, c') -> (x, c)."""

    forward: Callable[[Array, Array], tuple[Array, Array, Array]]
    inverse: Callable[[Array, Array], tuple[Array, Array]]


def halves(x: Array) -> tuple[Array, Array]:
    """[..., C] -> two of [..., C/2]."""
    first, second = jnp.split(x, 2, axis=-1)
    return first, second


def join(first: Array, second: Array) -> Array:
    """The inverse of `halves`."""
    return jnp.concatenate([first, second], axis=-1)


def swap(x: Array) -> Array:
    """(x_a, x_b) -> (x_b, x_a) along the channels."""
    return join(*reversed(halves(x)))


def total(values: Array, mask: Array | None) -> Array:
    """Sum of [B, T, C] over time (where mask is true, or weighted by it) and channels -> [B], in float32 or wider."""
    values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    if mask is not None:
        values = jnp.where(mask, values, 0)
        values = values if mask.dtype == bool else values * mask.astype(values.dtype)
    return jnp.sum(values, axis=(1, 2))


def unchanged(x: Array) -> Array:
    """logdet of a volume-preserving map: 0 for each example, [B], in float32 or wider."""
    return jnp.zeros(x.shape[0], jnp.promote_types(x.dtype, jnp.float32))


def chain(*bijectors: Any) -> Bijector:
    """b_n ∘ … ∘ b_1; logdets add. Anything with `forward` and `inverse` of a Bijector's signature will do."""

    def forward(x: Array, c: Array) -> tuple[Array, Array, Array]:
        logdet = unchanged(x)
        for b in bijectors:
            x, c, change = b.forward(x, c)
            logdet = logdet + change
        return x, c, logdet

    def inverse(z: Array, c: Array) -> tuple[Array, Array]:
        for b in reversed(bijectors):
            z, c = b.inverse(z, c)
        return z, c

    return Bijector(forward, inverse)


def on_first_half(b: Any) -> Bijector:
    """b on the first half of the channels; the others stay as they are (multi-scale factor-out)."""

    def forward(x: Array, c: Array) -> tuple[Array, Array, Array]:
        x_a, x_b = halves(x)
        z_a, c, logdet = b.forward(x_a, c)
        return join(z_a, x_b), c, logdet

    def inverse(z: Array, c: Array) -> tuple[Array, Array]:
        z_a, z_b = halves(z)
        x_a, c = b.inverse(z_a, c)
        return join(x_a, z_b), c

    return Bijector(forward, inverse)


def within(b: Any, mask: Array) -> Bijector:
    """b where mask is true; elsewhere x stays as it is. b must not use x elsewhere, and not count it in logdet."""

    def forward(x: Array, c: Array) -> tuple[Array, Array, Array]:
        z, c, logdet = b.forward(x, c)
        return jnp.where(mask, z, x), c, logdet

    def inverse(z: Array, c: Array) -> tuple[Array, Array]:
        x, c = b.inverse(z, c)
        return jnp.where(mask, x, z), c

    return Bijector(forward, inverse)


def permutation(
    there: Callable[[Array], Array], back: Callable[[Array], Array], *, x: bool = True, c: bool = True
) -> Bijector:
    """Permutes the elements of x and of c in the same way, or of one of them. logdet is 0. A c of None stays."""

    def move(f: Callable[[Array], Array], a: Array, b: Array | None) -> tuple[Array, Any]:
        return f(a) if x else a, f(b) if c and b is not None else b

    return Bijector(
        lambda x, c: (*move(there, x, c), unchanged(x)),
        lambda z, c: move(back, z, c),
    )


def fold_time(x: Any) -> Any:
    """[B, T, C] -> [B, T/2, 2C], channel-major and phase-minor: element (t, c) goes to (t // 2, 2c + t % 2).

    Official code: model.py, Block.forward (there channels-first).
    """
    batch, time, channels = x.shape
    if time % 2:
        raise ValueError(f"squeeze needs an even number of time steps, got {time}")
    return x.reshape(batch, time // 2, 2, channels).swapaxes(2, 3).reshape(batch, time // 2, 2 * channels)


def unfold_time(x: Array) -> Array:
    """[B, T, 2C] -> [B, 2T, C], the inverse of `fold_time`."""
    batch, time, channels = x.shape
    return x.reshape(batch, time, channels // 2, 2).swapaxes(2, 3).reshape(batch, 2 * time, channels // 2)


squeeze = permutation(fold_time, unfold_time)
unsqueeze = permutation(unfold_time, fold_time)
change_order = permutation(swap, swap)
change_order_of_c = permutation(swap, swap, x=False)
# For c at the frame rate, which is neither squeezed nor swapped with x:
squeeze_of_x = permutation(fold_time, unfold_time, c=False)
unsqueeze_of_x = permutation(unfold_time, fold_time, c=False)
change_order_of_x = permutation(swap, swap, c=False)


def actnorm(loc: Array, scale: Array, mask: Array | None = None) -> Bijector:
    """z = scale · (x + loc) per channel (official code: ActNorm); scale may be negative. logdet = T · Σ log|scale|."""

    def forward(x: Array, c: Array) -> tuple[Array, Array, Array]:
        # T · Σ, not a sum over T: adding one number 15,872 times in float32 loses 1e-4 nats/sample.
        steps = total(jnp.ones_like(x[..., :1]), mask)
        return scale * (x + loc), c, steps * jnp.sum(jnp.log(jnp.abs(scale)))

    return Bijector(forward, lambda z, c: (z / scale - loc, c))


def actnorm_statistics(x: Array, floor: float = 1e-6) -> tuple[Array, Array]:
    """(loc, scale) that give x of shape [B, T, C] mean 0 and (unbiased) standard deviation 1 in every channel.

    `floor` is added to the deviation. Official code: model.py, ActNorm.initialize.
    """
    return -jnp.mean(x, axis=(0, 1)), 1 / (jnp.std(x, axis=(0, 1), ddof=1) + floor)


def coupling(net: Callable[[Array, Array], tuple[Array, Array]], mask: Array | None = None) -> Bijector:
    """z_a = x_a, z_b = (x_b - t) · exp(-log_s) with (log_s, t) = net(x_a, c) (RealNVP)."""

    def forward(x: Array, c: Array) -> tuple[Array, Array, Array]:
        x_a, x_b = halves(x)
        log_s, t = net(x_a, c)
        return join(x_a, (x_b - t) * jnp.exp(-log_s)), c, -total(log_s, mask)

    def inverse(z: Array, c: Array) -> tuple[Array, Array]:
        z_a, z_b = halves(z)
        log_s, t = net(z_a, c)
        return join(z_a, z_b * jnp.exp(log_s) + t), c

    return Bijector(forward, inverse)
