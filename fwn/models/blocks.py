"""What a FloWaveNet is made of: flows, priors and blocks of them (official code: model.py).

Every module has `forward` and `inverse` with a Bijector's signature, and one compact method that lists its bijectors:
the two directions are the same list of layers folded both ways.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fwn.flows.bijectors import (
    Bijector,
    actnorm,
    actnorm_statistics,
    chain,
    change_order,
    change_order_of_x,
    coupling,
    halves,
    squeeze,
    squeeze_of_x,
    unchanged,
    unsqueeze,
    unsqueeze_of_x,
)
from fwn.flows.layers import Layer
from fwn.nn.wavenet import WaveNet

Array = jax.Array


def bound(log_s: Array, s_max: float | None) -> Array:
    """s_max · tanh(log_s / s_max), or log_s itself without a bound (the paper's form)."""
    return log_s if s_max is None else s_max * jnp.tanh(log_s / s_max)


def fixed(b: Bijector) -> Layer:
    """A bijector without weights, as a layer."""
    return Layer(lambda *_: [b])


# By whether c is at the frame rate.
SQUEEZE, UNSQUEEZE = (fixed(squeeze), fixed(squeeze_of_x)), (fixed(unsqueeze), fixed(unsqueeze_of_x))


def on_first_half_of(layer: Layer) -> Layer:
    """The layer on the first half of the channels; a squeeze may take both halves, as they stay apart in it."""
    return layer if layer in SQUEEZE + UNSQUEEZE else layer._replace(halved=layer.halved + 1)


class Reversible(nn.Module):
    """A module whose compact `parts(x, mask)` are its bijectors; x is its input, ActNorm's data at `init`."""

    def forward(self, x: Array, c: Array, mask: Array | None = None) -> tuple[Array, Array, Array]:
        return chain(*self.parts(x, mask)).forward(x, c)

    def inverse(self, z: Array, c: Array, mask: Array | None = None) -> tuple[Array, Array]:
        return chain(*self.parts(z, mask)).inverse(z, c)

    def layer(self, mask: Array | None) -> Layer:
        """This module, inside another, as a Layer; at `init`, which makes the weights, they are none of its own."""
        if self.is_mutable_collection("params"):
            bound = Bijector(partial(self.forward, mask=mask), partial(self.inverse, mask=mask))
            return Layer(lambda *_: [bound])
        alone, weights = self.unbind()
        return Layer(lambda weights, mask, x: alone.bind(weights).parts(x, mask), weights, mask)


class Flow(Reversible):
    """ActNorm -> affine coupling -> change order. The net sees the first halves of x and of c.

    frames: c is at the frame rate. The net hears all of it, and its order stays. odd: forward(-x) is -forward(x), if
    the net is odd (nn/odd.py): ActNorm is without loc, whose mean is then 0.
    """

    net: Callable[..., WaveNet]
    s_max: float | None = None
    frames: bool = False
    odd: bool = False

    @nn.compact
    def parts(self, x: Array, mask: Array | None) -> Sequence[Any]:
        def initial(_: Any) -> dict[str, Array]:
            loc, scale = actnorm_statistics(jnp.concatenate([x, -x]) if self.odd else x)
            return {"scale": scale} if self.odd else {"loc": loc, "scale": scale}

        normal = self.param("actnorm", initial)
        loc = jnp.zeros((), x.dtype) if self.odd else normal["loc"]
        net = self.net(features=x.shape[-1], name="net")

        def shift_and_scale(x_a: Array, c: Array) -> tuple[Array, Array]:
            log_s, t = halves(net(x_a, c if self.frames else halves(c)[0], mask))
            return bound(log_s, self.s_max), t

        order = change_order_of_x if self.frames else change_order
        return actnorm(loc, normal["scale"], mask), coupling(shift_and_scale, mask), order


class Prior(Reversible):
    """ε = (z - μ) / σ for the half that leaves; (μ, log σ) from the half that stays and all of c."""

    net: Callable[..., WaveNet]
    s_max: float | None = None

    @nn.compact
    def parts(self, x: Array, mask: Array | None) -> Sequence[Any]:
        net = self.net(features=x.shape[-1], name="net")

        def shift_and_scale(x_a: Array, c: Array) -> tuple[Array, Array]:
            mean, log_sd = halves(net(x_a, c, mask))
            return bound(log_sd, self.s_max), mean

        return [coupling(shift_and_scale, mask)]


def unstack(params: Any) -> Any:
    """The same parameters with those of each block's flows as a list: every flow is then compiled by itself.

    For sampling: nothing is copied out of the common arrays then, a tenth of the time of a short utterance on a CPU.
    """
    if not isinstance(params, dict):
        return params
    if not isinstance(params.get("flows"), dict):  # none, or a list already
        return {name: unstack(node) for name, node in params.items()}
    flows, others = params["flows"], {name: node for name, node in params.items() if name != "flows"}
    return others | {"flows": [jax.tree.map(lambda a, i=i: a[i], flows) for i in range(len(jax.tree.leaves(flows)[0]))]}


class Block(Reversible):
    """squeeze -> flows [-> prior]: [B, T, C] -> [B, T/2, 2C]. mask is at the squeezed rate."""

    n_flow: int
    net: Callable[..., WaveNet]
    prior: Callable[..., WaveNet] | None = None
    s_max: float | None = None
    frames: bool = False
    odd: bool = False

    @nn.compact
    def layers(self, mask: Array | None) -> list[Layer]:
        flows = self.initialised(mask) if self.is_mutable_collection("params") else self.flows(mask)
        prior = [] if self.prior is None else [Prior(self.prior, self.s_max, name="prior").layer(mask)]
        return [SQUEEZE[self.frames], flows, *prior]

    def flows(self, mask: Array | None) -> Layer:
        """All flows: one that is compiled once, as every array of their weights has an axis for them in front."""
        flow = Flow(self.net, self.s_max, self.frames, self.odd, parent=None)
        weights: Any = self.get_variable("params", "flows")
        return Layer(lambda w, mask, x: flow.bind({"params": w}).parts(x, mask), weights, mask, self.n_flow)

    def initialised(self, mask: Array | None) -> Layer:
        """The same at `init`, forward alone: it makes the weights, and each ActNorm's of what reaches it."""
        flow = Flow(self.net, self.s_max, self.frames, self.odd, name="flows")

        def step(flow: Flow, state: Any, _: None) -> tuple[Any, None]:
            x, c, logdet = state
            z, c, change = flow.forward(x, c, mask)
            return (z, c, logdet + change), None

        every = nn.scan(
            step, variable_axes={"params": 0, "intermediates": 0}, split_rngs={"params": True}, length=self.n_flow
        )

        def forward(x: Array, c: Array) -> tuple[Array, Array, Array]:
            start = x, c, unchanged(x)
            result: tuple[Array, Array, Array] = every(flow, start, None)[0]
            return result

        def inverse(z: Array, c: Array) -> Any:
            raise ValueError("a model is initialised by its forward pass")

        return Layer(lambda *_: [Bijector(forward, inverse)])

    def parts(self, x: Array, mask: Array | None) -> Sequence[Any]:
        return self.layers(mask)
