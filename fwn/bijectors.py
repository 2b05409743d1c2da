"""The mathematics of flows: invertible maps as pairs of pure functions, composed by folding one list both ways.

Contracts, here once for the whole project:
- `forward` is audio -> noise (likelihood), `inverse` is noise -> audio (sampling).
- Arrays are `[B, T, C]`; `x, z` carry the data, `c` the conditioning at the same rate. A layer may permute `c`
  (official code: model.py, change_order and Block), so `c` goes through the pair as well.
- `logdet` is log|det dz/dx| in nats, `[B]`, *summed* over time and channels, at least float32.
- `mask`, where a function takes one, is boolean `[B, T, 1]`, true where the sequence is real and false in its
  padding; None means real everywhere. Padding takes no part in `logdet`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

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
    """Sum over the real part of [B, T, C] -> [B], in float32 or wider."""
    values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    return jnp.sum(values if mask is None else jnp.where(mask, values, 0), axis=(1, 2))


def chain(*bijectors: Any) -> Bijector:
    """b_n ∘ … ∘ b_1 of anything with this signature (Flax modules included); logdets add."""

    def forward(x: Array, c: Array) -> tuple[Array, Array, Array]:
        logdet = jnp.zeros(x.shape[0], jnp.promote_types(x.dtype, jnp.float32))
        for b in bijectors:
            x, c, change = b.forward(x, c)
            logdet = logdet + change
        return x, c, logdet

    def inverse(z: Array, c: Array) -> tuple[Array, Array]:
        for b in reversed(bijectors):
            z, c = b.inverse(z, c)
        return z, c

    return Bijector(forward, inverse)


class Layer(NamedTuple):
    """Bijectors `of(weights, mask, x)`, in order; of x, or z, only the shape counts. What they depend on is explicit,
    because a gradient that computes them a second time must be handed it."""

    of: Callable[[Any, Array | None, Array], Sequence[Any]]
    weights: Any = ()
    mask: Array | None = None


GRADIENTS = ("plain", "remat", "invert")


def stack(layers: Sequence[Layer], gradient: str = "plain") -> Bijector:
    """chain of layers; `gradient` says what it keeps for the backward pass, and changes no value.

    plain: all that the networks computed. remat: each layer's input, from which it is computed again (Chen et al. 2016).
    invert: the last output alone, from which the backward pass takes each input by its inverse (Gomez et al. 2017), so
    that memory does not grow with the number of layers; gradients then carry the inverse's rounding.
    """
    if gradient not in GRADIENTS:
        raise ValueError(f"gradient is {gradient!r}; it is one of {', '.join(GRADIENTS)}")

    def through(i: int, weights: Any, mask: Array | None, x: Array, c: Array) -> tuple[Array, Array, Array]:
        return chain(*layers[i].of(weights, mask, x)).forward(x, c)

    step = jax.checkpoint(through, static_argnums=0) if gradient == "remat" else through
    all_weights, masks = [layer.weights for layer in layers], [layer.mask for layer in layers]

    def run(all_weights: Any, masks: Any, x: Array, c: Array) -> tuple[Array, Array, Array]:
        logdet = jnp.zeros(x.shape[0], jnp.promote_types(x.dtype, jnp.float32))
        for i, (weights, mask) in enumerate(zip(all_weights, masks, strict=True)):
            x, c, change = step(i, weights, mask, x, c)
            logdet = logdet + change
        return x, c, logdet

    def keep(all_weights: Any, masks: Any, x: Array, c: Array) -> tuple[Any, Any]:
        z, c, logdet = run(all_weights, masks, x, c)
        return (z, c, logdet), (all_weights, masks, z, c)

    def backward(kept: Any, gradients: Any) -> tuple[Any, None, Array, Array]:
        all_weights, masks, z, c = kept
        dz, dc, dlogdet = gradients
        of_weights = []
        for layer, weights, mask in reversed(list(zip(layers, all_weights, masks, strict=True))):
            dweights = jax.tree.map(jnp.zeros_like, weights)
            for i in reversed(range(len(layer.of(weights, mask, z)))):
                # The bijector one by one: a coupling's net sees the same x_a in both directions, and XLA computes it once.
                part = lambda w, z, i=i, layer=layer, mask=mask: layer.of(w, mask, z)[i]  # noqa: E731
                z, c = part(weights, z).inverse(z, c)
                _, pull = jax.vjp(lambda w, x, c, part=part: part(w, x).forward(x, c), weights, z, c)
                change, dz, dc = pull((dz, dc, dlogdet))
                dweights = jax.tree.map(jnp.add, dweights, change)
            # The inverses do not wait for gradients: without the barrier XLA may do them all first, and keep all nets.
            z, c, dz, dc, dweights = lax.optimization_barrier((z, c, dz, dc, dweights))
            of_weights.append(dweights)
        return of_weights[::-1], None, dz, dc

    if gradient == "invert":
        inverting = jax.custom_vjp(run)
        inverting.defvjp(keep, backward)
    else:
        inverting = run

    def inverse(z: Array, c: Array) -> tuple[Array, Array]:
        for layer in reversed(layers):
            z, c = chain(*layer.of(layer.weights, layer.mask, z)).inverse(z, c)
        return z, c

    return Bijector(lambda x, c: inverting(all_weights, masks, x, c), inverse)


def permutation(there: Callable[[Array], Array], back: Callable[[Array], Array], *, x: bool = True) -> Bijector:
    """Moves elements of c, and of x unless `x=False`: volume-preserving, logdet 0."""
    apply = (lambda f, a: f(a)) if x else (lambda f, a: a)
    return Bijector(
        lambda x, c: (apply(there, x), there(c), jnp.zeros(x.shape[0], jnp.promote_types(x.dtype, jnp.float32))),
        lambda z, c: (apply(back, z), back(c)),
    )


def fold_time(x: Array) -> Array:
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


def actnorm(loc: Array, scale: Array, mask: Array | None = None) -> Bijector:
    """z = scale · (x + loc) per channel (official code: ActNorm); scale may be negative. logdet = T · Σ log|scale|."""

    def forward(x: Array, c: Array) -> tuple[Array, Array, Array]:
        # T · Σ, not a sum over T: adding one number 15,872 times in float32 loses 1e-4 nats/sample.
        steps = total(jnp.ones_like(x[..., :1]), mask)
        return scale * (x + loc), c, steps * jnp.sum(jnp.log(jnp.abs(scale)))

    return Bijector(forward, lambda z, c: (z / scale - loc, c))


def actnorm_statistics(x: Array, floor: float = 1e-6) -> tuple[Array, Array]:
    """(loc, scale) that give x of shape [B, T, C] mean 0 and (unbiased) standard deviation 1 in every channel.

    Official code: model.py, ActNorm.initialize; `floor` is added to the deviation, as there.
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


def on_first_half(b: Any) -> Bijector:
    """b on the first half of the channels; the second stays as it is (multi-scale factor-out)."""

    def forward(x: Array, c: Array) -> tuple[Array, Array, Array]:
        x_a, x_b = halves(x)
        z_a, c, logdet = b.forward(x_a, c)
        return join(z_a, x_b), c, logdet

    def inverse(z: Array, c: Array) -> tuple[Array, Array]:
        z_a, z_b = halves(z)
        x_a, c = b.inverse(z_a, c)
        return join(x_a, z_b), c

    return Bijector(forward, inverse)
