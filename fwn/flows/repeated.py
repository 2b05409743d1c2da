"""One bijector many times, each with its own weights, and three ways to its gradient."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from jax import lax

from fwn.flows.bijectors import Bijector, chain, unchanged
from fwn.xla.scheduling import after

Array = jax.Array
Steps = Callable[[Any, Array | None], Sequence[Bijector]]


def repeated(steps: Steps, weights: Any, mask: Array | None = None, gradient: str = "plain") -> Bijector:
    """chain(*steps(w, mask)) for every w of the weights, in order.

    weights: each array stacked along axis 0, for one compiled loop; or a list, whose items are compiled one by one.
    gradient: "plain" keeps what the steps compute, for the backward pass. "remat" keeps each repetition's input and
    computes it again (Chen et al. 2016, arXiv:1604.06174). "invert" keeps z and c' and gets every input by the inverse
    (Gomez et al. 2017, arXiv:1707.04585): memory does not grow with the number of repetitions, and gradients carry the
    inverses' rounding.
    """
    if isinstance(weights, list):
        return chain(*(b for w in weights for b in steps(w, mask)))

    def forward(weights: Any, mask: Array | None, x: Array, c: Array) -> tuple[Array, Array, Array]:
        def step(state: Any, w: Any) -> tuple[Any, None]:
            x, c, logdet = state
            z, c, change = chain(*steps(w, mask)).forward(x, c)
            return (z, c, logdet + change), None

        if gradient == "remat":
            step = jax.checkpoint(step, prevent_cse=False)
        result: tuple[Array, Array, Array] = lax.scan(step, (x, c, unchanged(x)), weights)[0]
        return result

    def inverse(z: Array, c: Array) -> tuple[Array, Array]:
        def step(state: Any, w: Any) -> tuple[Any, None]:
            return chain(*steps(w, mask)).inverse(*state), None

        result: tuple[Array, Array] = lax.scan(step, (z, c), weights, reverse=True)[0]
        return result

    if gradient == "invert":
        forward = _inverting(forward, steps)
    return Bijector(partial(forward, weights, mask), inverse)


def _inverting(forward: Callable[..., Any], steps: Steps) -> Callable[..., Any]:
    """forward(weights, mask, x, c) -> (z, c', logdet) with a backward pass that begins with (z, c') alone.

    For each bijector it first inverts, then differentiates, so that a coupling's net sees the same x_a in both, and XLA
    computes it once. Weights and mask are arguments, because a custom gradient may not close over traced arrays.
    """

    def keep(weights: Any, mask: Array | None, x: Array, c: Array) -> tuple[Any, Any]:
        z, c, logdet = forward(weights, mask, x, c)
        return (z, c, logdet), (weights, mask, z, c)

    def backward(kept: Any, gradients: Any) -> tuple[Any, None, Array, Array]:
        weights, mask, z, c = kept
        dz, dc, dlogdet = gradients

        def step(state: Any, w: Any) -> tuple[Any, Any]:
            x, c, dx, dc = state
            x, c = after(dx, x), after(dx, c)
            changes = []
            for j, b in reversed(list(enumerate(steps(w, mask)))):
                x, c = b.inverse(x, c)
                _, pull = jax.vjp(lambda w, x, c, j=j: steps(w, mask)[j].forward(x, c), w, x, c)
                change, dx, dc = pull((dx, dc, dlogdet))
                changes.append(change)
            return (x, c, dx, dc), jax.tree.map(lambda *each: sum(each), *changes)

        (_, _, dx, dc), dweights = lax.scan(step, (z, c, dz, dc), weights, reverse=True)
        return dweights, None, dx, dc

    run = jax.custom_vjp(forward)
    run.defvjp(keep, backward)
    return run
