"""Bijectors with weights: repeated by one compiled loop, and with gradients that compute instead of keeping."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
from jax import lax

from fwn.flows.bijectors import Bijector, chain, join, unchanged
from fwn.xla.scheduling import after

Array = jax.Array


class Layer(NamedTuple):
    """The bijectors `of(weights, mask, x)`, in order, as one; of x, which is z in the inverse, only the shape counts.

    What they depend on is explicit, because a gradient that computes them a second time must be handed it. times: so
    often, the weights' arrays having an axis in front for it (or being a list, whose items are then compiled one by
    one). halved: it is on the first 2^-halved of the channels; the others stay as they are (multi-scale factor-out).
    """

    of: Callable[[Any, Array | None, Array], Sequence[Any]]
    weights: Any = ()
    mask: Array | None = None
    times: int | None = None
    halved: int = 0

    def once(self, weights: Any, x: Array) -> Bijector:
        """With the weights of one of the times."""
        return chain(*self.of(weights, self.mask, x))

    def each(self, step: Callable[[Any, Any], Any], state: Any, inputs: Any, reverse: bool = False) -> tuple[Any, Any]:
        """(state, outputs) of step(state, input) -> (state, output) for every time: of inputs like the weights."""
        if self.times is None:
            return step(state, inputs)
        if not isinstance(inputs, list):
            return lax.scan(step, state, inputs, reverse=reverse)
        for one in reversed(inputs) if reverse else inputs:
            state, _ = step(state, one)
        return state, None

    def forward(self, x: Array, c: Array) -> tuple[Array, Array, Array]:
        return self.through(x, c)[0]

    def through(self, x: Array, c: Array) -> tuple[tuple[Array, Array, Array], tuple[Array, Array]]:
        """What `forward` returns, and the (x, c) that each time began with."""

        def step(state: Any, weights: Any) -> tuple[Any, Any]:
            x, c, logdet = state
            z, c_z, change = self.once(weights, x).forward(x, c)
            return (z, after(z, c_z), logdet + change), (x, c)

        x, rest = split(x, self.halved)
        (x, c, logdet), begun = self.each(step, (x, c, unchanged(x)), self.weights)
        return (merge(x, rest), c, logdet), begun

    def inverse(self, z: Array, c: Array) -> tuple[Array, Array]:
        def step(state: Any, weights: Any) -> tuple[Any, None]:
            return self.once(weights, state[0]).inverse(*state), None

        z, rest = split(z, self.halved)
        (x, c), _ = self.each(step, (z, c), self.weights, reverse=True)
        return merge(x, rest), c

    def backward(self, z: Array, c: Array, begun: Any, dz: Array, dc: Array, dlogdet: Array) -> Any:
        """(x, c, dx, dc, dweights) from what it returned, (z, c), and gradients with respect to that.

        begun: the inputs by `through`; None: they are got from (z, c) by inverting bijector by bijector, so that a
        coupling's net sees the same x_a in both directions, and XLA computes it once.
        """

        def step(state: Any, inputs: Any) -> tuple[Any, Any]:
            x, c, dx, dc = state
            weights, begun = inputs
            x, c = after(dx, x), after(dx, c)
            if begun is not None:
                x, c = begun
                _, pull = jax.vjp(lambda w, x, c: self.once(w, x).forward(x, c), weights, x, c)
                change, dx, dc = pull((dx, dc, dlogdet))
                return (x, c, dx, dc), change
            changes = []
            for j in reversed(range(len(self.of(weights, self.mask, x)))):
                x, c = self.of(weights, self.mask, x)[j].inverse(x, c)
                _, pull = jax.vjp(lambda w, x, c, j=j: self.of(w, self.mask, x)[j].forward(x, c), weights, x, c)
                change, dx, dc = pull((dx, dc, dlogdet))
                changes.append(change)
            return (x, c, dx, dc), jax.tree.map(lambda *all: sum(all), *changes)

        (z, rest), (dz, drest) = split(z, self.halved), split(dz, self.halved)
        (x, c, dx, dc), dweights = self.each(step, (z, c, dz, dc), (self.weights, begun), reverse=True)
        return merge(x, rest), c, merge(dx, drest), dc, dweights


def split(x: Array, halved: int) -> tuple[Array, Array]:
    """The first 2^-halved of the channels, and the others."""
    n = x.shape[-1] >> halved
    return x[..., :n], x[..., n:]


def merge(x: Array, rest: Array) -> Array:
    """The inverse of `split`."""
    return join(x, rest) if rest.shape[-1] else x


def recomputed(layers: Sequence[Layer], *, invert: bool) -> Bijector:
    """chain(*layers), whose backward pass computes the layers again, the last first, instead of keeping their insides.

    It begins with each layer's input, kept from the forward pass (Chen et al. 2016, arXiv:1604.06174); or, by `invert`,
    got from the output by the layer's inverse (Gomez et al. 2017, arXiv:1707.04585): what is kept does not grow with
    the number of layers then, and gradients carry the inverses' rounding.
    """

    def given(weights: Any, masks: Any) -> list[Layer]:
        each = zip(layers, weights, masks, strict=True)
        return [layer._replace(weights=w, mask=mask) for layer, w, mask in each]

    def keep(weights: Any, masks: Any, x: Array, c: Array) -> tuple[Any, Any]:
        inputs, logdet = [], unchanged(x)
        for layer in given(weights, masks):
            (x, c, change), begun = layer.through(x, c)
            logdet = logdet + change
            inputs.append(None if invert else begun)
        return (x, c, logdet), (weights, masks, x, c, inputs)

    def backward(kept: Any, gradients: Any) -> tuple[Any, None, Array, Array]:
        weights, masks, x, c, inputs = kept
        dx, dc, dlogdet = gradients
        dweights = []
        for layer, begun in zip(reversed(given(weights, masks)), reversed(inputs), strict=True):
            x, c, dx, dc, change = layer.backward(x, c, begun, dx, dc, dlogdet)
            dweights.append(change)
        return dweights[::-1], None, dx, dc

    run = jax.custom_vjp(lambda *args: keep(*args)[0])
    run.defvjp(keep, backward)
    explicit = [layer.weights for layer in layers], [layer.mask for layer in layers]
    return Bijector(partial(run, *explicit), chain(*layers).inverse)
