"""The flow layers by themselves, without networks or Flax: for teaching, and for flows of one's own.

    import jax, jax.numpy as jnp
    from fwn.bijectors import actnorm, chain, change_order, coupling, squeeze

    flow = chain(squeeze, coupling(lambda x_a, c: (jnp.tanh(x_a), x_a**2)), change_order)
    x = jax.random.normal(jax.random.key(0), (1, 8, 1))  # [batch, time, channels]
    z, c, logdet = flow.forward(x, None)  # None: no conditioning
    again, _ = flow.inverse(z, c)

Each is a pair of pure functions, `Bijector(forward, inverse)`. Contracts are in fwn.flows.bijectors; docs/bijectors.md
goes through them one by one.
"""

from fwn.flows.bijectors import (
    Bijector,
    actnorm,
    actnorm_statistics,
    chain,
    change_order,
    change_order_of_x,
    coupling,
    on_first_half,
    permutation,
    squeeze,
    unsqueeze,
    within,
)
from fwn.flows.prediction import prediction

__all__ = [
    "Bijector",
    "actnorm",
    "actnorm_statistics",
    "chain",
    "change_order",
    "change_order_of_x",
    "coupling",
    "on_first_half",
    "permutation",
    "prediction",
    "squeeze",
    "unsqueeze",
    "within",
]
