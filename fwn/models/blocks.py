"""What a FloWaveNet is made of: flows, priors and blocks of them, as pure functions of their weights.

Official code: model.py, Flow and Block. `init` makes weights, and `steps` or `bijector` makes bijectors of weights.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fwn.flows.bijectors import (
    Bijector,
    actnorm,
    actnorm_statistics,
    chain,
    change_order,
    change_order_of_c,
    change_order_of_x,
    coupling,
    halves,
    on_first_half,
    squeeze,
    squeeze_of_x,
    unsqueeze,
    unsqueeze_of_x,
    within,
)
from fwn.flows.repeated import repeated
from fwn.nn.wavenet import WaveNet, conditions

Array = jax.Array
ShiftAndScale = Callable[[Array, Array], tuple[Array, Array]]  # (x_a, c) -> (log_s, t)


def bound(log_s: Array, s_max: float | None) -> Array:
    """s_max · tanh(log_s / s_max), or log_s itself without a bound (the paper's form)."""
    return log_s if s_max is None else s_max * jnp.tanh(log_s / s_max)


def net_weights(net: WaveNet, key: Array, c_channels: int) -> Any:
    """Initial weights of a coupling's network. Its input has features / 2 channels."""
    return net.init(key, jnp.zeros((1, 1, net.features // 2)), jnp.zeros((1, 1, c_channels)))["params"]


class Flow(NamedTuple):
    """ActNorm -> affine coupling -> change order, of x [B, T, net.features].

    The net sees the first halves of x and of c. frames: c is at the frame rate; the net hears all of it, and its order
    stays. odd: forward(-x) is -forward(x), if the net is odd (nn/odd.py); ActNorm has no loc then.
    """

    net: WaveNet
    s_max: float | None = None
    frames: bool = False
    odd: bool = False

    def init(self, key: Array, c_channels: int) -> Any:
        """{"actnorm", "net"}. ActNorm is the identity until it is given the statistics of a batch."""
        size = (self.net.features,)
        normal = {"scale": jnp.ones(size)} | ({} if self.odd else {"loc": jnp.zeros(size)})
        return {"actnorm": normal, "net": net_weights(self.net, key, c_channels if self.frames else c_channels // 2)}

    def statistics(self, x: Array) -> dict[str, Array]:
        """ActNorm's weights by which x [B, T, C] leaves it with mean 0 and standard deviation 1 in every channel."""
        if self.odd:
            return {"scale": actnorm_statistics(jnp.concatenate([x, -x]))[1]}
        return dict(zip(("loc", "scale"), actnorm_statistics(x), strict=True))

    def shift_and_scale(self, weights: Any, mask: Array | None) -> ShiftAndScale:
        """What the coupling does to the second half, by its network."""

        def of(x_a: Array, c: Array) -> tuple[Array, Array]:
            heard = weights.get("heard", c) if self.frames else halves(c)[0]
            theta: Any = self.net.apply({"params": weights["net"]}, x_a, heard, mask)
            log_s, t = halves(theta)
            return bound(log_s, self.s_max), t

        return of

    def steps(self, weights: Any, mask: Array | None) -> Sequence[Bijector]:
        normal = weights["actnorm"]
        loc = jnp.zeros_like(normal["scale"]) if self.odd else normal["loc"]
        order = change_order_of_x if self.frames else change_order
        return actnorm(loc, normal["scale"], mask), coupling(self.shift_and_scale(weights, mask), mask), order


class Prior(NamedTuple):
    """ε = (z - μ) / σ for the half that leaves; (μ, log σ) from the half that stays and all of c."""

    net: WaveNet
    s_max: float | None = None

    def init(self, key: Array, c_channels: int) -> Any:
        return {"net": net_weights(self.net, key, c_channels)}

    def shift_and_scale(self, weights: Any, mask: Array | None) -> ShiftAndScale:
        """(log σ, μ) of the half that leaves."""

        def of(x_a: Array, c: Array) -> tuple[Array, Array]:
            theta: Any = self.net.apply({"params": weights["net"]}, x_a, weights.get("heard", c), mask)
            mean, log_sd = halves(theta)
            return bound(log_sd, self.s_max), mean

        return of

    def steps(self, weights: Any, mask: Array | None) -> Sequence[Bijector]:
        return [coupling(self.shift_and_scale(weights, mask), mask)]


class Block(NamedTuple):
    """squeeze -> flows [-> prior] -> what comes after, at its rate -> unsqueeze: [B, T, C] -> [B, T, C].

    After a prior, only the first half of the channels goes on. The squeeze is undone at the end, so noise has the
    layout of audio, as in the official `reverse`.
    """

    n_flow: int
    flow: Flow
    prior: Prior | None = None

    def init(self, key: Array, c_channels: int) -> Any:
        """{"flows", "prior"}, those of the flows stacked along axis 0. c_channels: after the squeeze."""
        first, *keys = jax.random.split(key, 1 + self.n_flow)
        flows = jax.vmap(lambda key: self.flow.init(key, c_channels))(jnp.stack(keys))
        return {"flows": flows} | ({} if self.prior is None else {"prior": self.prior.init(first, c_channels)})

    def hearing(self, weights: Any, c: Array) -> Any:
        """Unstacked weights with "heard": the networks' products with c (nn.wavenet.conditions), at the frame rate.

        All flows hear the same frames, so one product for all of them replaces two in each. Stacked weights stay as
        they are: a training step on a CPU takes a tenth longer with it.
        """
        if not isinstance(weights["flows"], list):
            return weights
        parts = [*weights["flows"], *([] if self.prior is None else [weights["prior"]])]
        found = conditions([part["net"] for part in parts], c, self.flow.net.dtype)
        parts = [part | {"heard": heard} for part, heard in zip(parts, found, strict=True)]
        return {"flows": parts[: self.n_flow]} | ({} if self.prior is None else {"prior": parts[-1]})

    def bijector(
        self,
        weights: Any,
        later: Bijector,
        mask: Array | None = None,
        gradient: str = "plain",
        whole: bool = True,
    ) -> Bijector:
        """mask: at the squeezed rate. later: the blocks after this one. gradient: as in flows.repeated.

        whole: positions outside of the mask have no real samples; else they stay as they are.
        """
        frames = self.flow.frames
        flows = repeated(self.flow.steps, weights["flows"], mask, gradient)
        leaving = chain()
        if self.prior is not None:
            once = jax.tree.map(lambda a: a[None], weights["prior"])
            leaving, later = repeated(self.prior.steps, once, mask, gradient), on_first_half(later)
        # An odd number of flows leaves the halves of c swapped. The official `reverse` does not swap them back, and is
        # then no inverse of its `forward`.
        swap_back = chain() if frames or self.n_flow % 2 == 0 else change_order_of_c
        here, back = (squeeze_of_x, unsqueeze_of_x) if frames else (squeeze, unsqueeze)
        inside = chain(flows, leaving, later)
        return chain(here, inside if whole or mask is None else within(inside, mask), swap_back, back)

    def statistics(self, weights: Any, x: Array, c: Array) -> tuple[Array, Array, Any]:
        """(input x and c of the next block, ActNorm's weights in a tree like `weights`) for a real batch."""
        x, c, _ = (squeeze_of_x if self.flow.frames else squeeze).forward(x, c)

        def step(state: Any, w: Any) -> tuple[Any, Any]:
            w = w | {"actnorm": self.flow.statistics(state[0])}
            z, c, _ = chain(*self.flow.steps(w, None)).forward(*state)
            return (z, c), w["actnorm"]

        (x, c), found = lax.scan(step, (x, c), weights["flows"])
        return x if self.prior is None else halves(x)[0], c, {"flows": {"actnorm": found}}
