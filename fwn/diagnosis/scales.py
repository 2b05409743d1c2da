"""The scales of a FloWaveNet's couplings on given audio: log_s of every flow and prior."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fwn.flows.bijectors import chain, halves, squeeze, squeeze_of_x
from fwn.mel import MelContract
from fwn.models.blocks import Block
from fwn.models.flowavenet import FloWaveNet
from fwn.systems import predictor
from fwn.systems.base import checked, speaker_input

Array = jax.Array


def largest(
    config: Any, contract: MelContract, params: Any, audio: np.ndarray, mel: np.ndarray
) -> dict[str, np.ndarray]:
    """For each block, as "block_0": largest |log_s| of its flows, in order, and of its prior, if it has one.

    config: of a system "flowavenet". params: plain, weight norm folded. audio [B, T], mel [B, F, M]: the beginnings of
    utterances. {} for a model without a flow.
    """
    fields = checked(config.model, FloWaveNet, predictor.FIELDS, zero=frozenset({"n_block"}))
    fields = {name: value for name, value in fields.items() if name not in predictor.FIELDS}
    model = FloWaveNet(**fields, speakers=speaker_input(config))
    if not model.n_block:
        return {}
    predict = predictor.Predictor(config, contract)

    @jax.jit
    def walk(params: Any, audio: Array, mel: Array) -> dict[str, Array]:
        x = predict(params, mel).forward(audio[..., None], mel)[0]
        conditioned: Any = partial(model.apply, {"params": params}, method="conditioned")
        c, weights = conditioned(mel)
        x, c = model.cut(x, c)
        found = {}
        for (name, own), block in zip(weights.items(), model.blocks, strict=True):
            x, c, found[name] = _of_block(block, own, x, c)
        return found

    return {name: np.asarray(values) for name, values in walk(params, audio, mel).items()}


def _of_block(block: Block, weights: Any, x: Array, c: Array) -> tuple[Array, Array, Array]:
    """(input x and c of the next block, largest |log_s| of each flow and of the prior)."""

    def peak(part: Any, w: Any, x: Array, c: Array) -> Array:
        return jnp.max(jnp.abs(part.shift_and_scale(w, None)(halves(x)[0], c)[0]))

    def step(state: Any, w: Any) -> tuple[Any, Array]:
        normalise, couple, order = block.flow.steps(w, None)
        x, c, _ = normalise.forward(*state)
        z, after, _ = chain(couple, order).forward(x, c)
        return (z, after), peak(block.flow, w, x, c)

    x, c, _ = (squeeze_of_x if block.flow.frames else squeeze).forward(x, c)
    (x, c), found = lax.scan(step, (x, c), weights["flows"])
    if block.prior is None:
        return x, c, found
    return halves(x)[0], c, jnp.append(found, peak(block.prior, weights["prior"], x, c))
