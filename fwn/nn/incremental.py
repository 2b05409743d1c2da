"""A causal WaveNet one sample at a time, at a cost per sample that does not depend on the receptive field.

Every dilated layer keeps the inputs that it still needs in a ring buffer. Samples are computed in blocks. In a layer
whose dilation is a multiple of the block, the past taps of the whole block are known before it begins, and so is the
conditioning. Both are one product per block, whose weights are read once per block instead of once per sample. The
inner loop has only what depends on the sample before. block=1 is the plain ring buffer.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fwn.nn.wavenet import RESIDUAL_SCALE, WaveNet, gated

Array = jax.Array
BLOCK = 16  # samples per block, if the hop is a multiple


class Linear(NamedTuple):
    """x W + b."""

    kernel: Array
    bias: Array

    def __call__(self, x: Array) -> Array:
        return x @ self.kernel + self.bias


class Layer(NamedTuple):
    """past [(k - 1) C, 2G], now [C, 2G]: kernels of the gates. onward [G, C + S]: residual and skip, concatenated."""

    past: Array
    now: Array
    onward: Linear


class Packed(NamedTuple):
    """A WaveNet's weights in the layout of the loop. condition [C_c, L · 2G]: of all layers, with the gates' biases."""

    front: Linear
    condition: Linear
    layers: tuple[Layer, ...]
    final: Linear
    out: Linear


class State(NamedTuple):
    """State after t samples. recent [B, n · C_in]: the newest n. rings: [(k - 1) dilation, B, C] for each layer."""

    t: Array
    recent: Array
    rings: tuple[Array, ...]


def pack(net: WaveNet, params: Any) -> Packed:
    """Packs the plain weights of a causal WaveNet."""

    def linear(name: str) -> Linear:
        kernel, bias = params[name]["kernel"], params[name]["bias"]
        gain = jnp.exp(3 * params[name]["log_scale"]) if "log_scale" in params[name] else 1  # of a ZeroConv
        return Linear(gain * kernel.reshape(-1, kernel.shape[-1]), gain * bias)

    layers, conditions = [], []
    for n in range(len(net.dilations)):
        dilated, residual, skip = (params[f"{kind}_{n}"] for kind in ("dilated", "residual", "skip"))
        *past, now = dilated["kernel"]
        kernel, bias = (jnp.concatenate([residual[w], skip[w]], axis=-1) for w in ("kernel", "bias"))
        layers.append(Layer(jnp.concatenate(past), now, Linear(kernel[0], bias)))
        condition = linear(f"condition_{n}")
        conditions.append((condition.kernel, condition.bias + dilated["bias"]))
    joined = Linear(*(jnp.concatenate(ws, axis=-1) for ws in zip(*conditions, strict=True)))
    return Packed(linear("front"), joined, tuple(layers), linear("final"), linear("out"))


def start(net: WaveNet, batch: int, dtype: Any, inputs: int = 1, recent: int = 0) -> State:
    """State before the first sample, with `inputs` channels: zeros, like the padding of a convolution.

    recent: number of newest samples to keep, if the first convolution needs fewer.
    """
    rings = tuple(jnp.zeros(((net.kernel_size - 1) * d, batch, net.channels), dtype) for d in net.dilations)
    return State(jnp.zeros((), jnp.int32), jnp.zeros((batch, max(recent, net.front_kernel) * inputs), dtype), rings)


def read(ring: Array, t: Array, dilation: int, n: int) -> Array:
    """The past taps of the n steps from t on, oldest first: [n, B, (k - 1) C]. They are contiguous in the ring."""
    taps = [(t - back) % len(ring) for back in range(len(ring), 0, -dilation)]
    return jnp.concatenate([lax.dynamic_slice_in_dim(ring, tap, n) for tap in taps], axis=-1)


def write(ring: Array, t: Array, h: Array) -> Array:
    """The inputs h [n, B, C] of the n steps from t on replace the oldest."""
    return lax.dynamic_update_slice_in_dim(ring, h, t % len(ring), 0)


def generate(
    net: WaveNet,
    weights: Packed,
    state: State,
    c: Array,
    noise: Array,
    draw: Callable[..., Array],
    block: int = BLOCK,
    heard: Callable[[Array], Array] | None = None,
) -> tuple[State, Array]:
    """Continues `state` by T samples: c [B, T, C_c], noise [B, T, N] -> (state after them, x [B, T] or [B, T, C_in]).

    draw: (the network's output [B, features], noise [B, N]) -> x [B] or [B, C_in]. block: samples per iteration of the
    outer loop, a divisor of T and of all earlier T; it does not change the result. heard: function from x to the
    network's input; with it, draw gets state.recent, the newest inputs, as a third argument.
    """
    batch, time, _ = c.shape
    if time % block:
        raise ValueError(f"{time} samples are not a whole number of blocks of {block}")
    dilations, n_layer = net.dilations, len(weights.layers)
    far = [d % block == 0 for d in dilations]  # whose past taps are known when a block begins

    def sample(carry: State, inputs: tuple[tuple[Array, ...], Array]) -> tuple[State, tuple[Array, tuple[Array, ...]]]:
        (t, recent, rings), (known, noise) = carry, inputs
        kept, inputs_of_far = list(rings), []
        h = jax.nn.relu(weights.front(recent[:, -len(weights.front.kernel) :]))
        skips = jnp.zeros((), h.dtype)
        for n, layer in enumerate(weights.layers):
            gates = known[n] + h @ layer.now
            if far[n]:
                inputs_of_far.append(h)
            else:
                gates = gates + read(kept[n], t, dilations[n], 1)[0] @ layer.past
                kept[n] = write(kept[n], t, h[None])
            residual, skip = jnp.split(layer.onward(gated(gates)), [h.shape[-1]], axis=-1)
            h, skips = (h + residual) * RESIDUAL_SCALE, skips + skip
        theta = weights.out(jax.nn.relu(weights.final(jax.nn.relu(skips))))
        x = draw(theta, noise, recent) if heard else draw(theta, noise)
        newest = (heard or (lambda x: x))(x.reshape(batch, -1))
        recent = jnp.concatenate([recent[:, newest.shape[1] :], newest], axis=1)
        return State(t + 1, recent, tuple(kept)), (x, tuple(inputs_of_far))

    def samples(state: State, inputs: tuple[Array, Array]) -> tuple[State, Array]:
        c, noise = inputs
        known = list(jnp.split(weights.condition(c), n_layer, axis=-1))
        for n, layer in enumerate(weights.layers):
            if far[n]:
                known[n] = known[n] + read(state.rings[n], state.t, dilations[n], block) @ layer.past
        # Rings of far layers stay outside of the inner loop, which returns their inputs for one write.
        near = tuple(jnp.zeros(()) if is_far else ring for is_far, ring in zip(far, state.rings, strict=True))
        after, (x, inputs_of_far) = lax.scan(sample, State(state.t, state.recent, near), (tuple(known), noise))
        new = iter(inputs_of_far)
        rings = tuple(
            write(ring, state.t, next(new)) if is_far else changed
            for is_far, ring, changed in zip(far, state.rings, after.rings, strict=True)
        )
        return State(after.t, after.recent, rings), x

    def blocks(a: Array) -> Array:
        """[B, T, ·] -> [T / block, block, B, ·]."""
        return a.swapaxes(0, 1).reshape(time // block, block, *a.shape[:1], *a.shape[2:])

    state, x = lax.scan(samples, state, (blocks(c), blocks(noise)))
    return state, x.reshape(time, *x.shape[2:]).swapaxes(0, 1)
