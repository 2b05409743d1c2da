"""Samples per second of several sampling loops of an autoregressive WaveNet of the paper's size, untrained.

    python benchmarks/sampling_loops.py
    python benchmarks/sampling_loops.py --batch=8 --official=ClariNet

naive: the network over the whole receptive field for each sample, in one compiled loop.
block 1: ring buffers, one sample per iteration.
block n: ring buffers, n samples per iteration; what does not depend on the last n samples is computed for all n at once
(fwn/nn/incremental.py).
--official: a checkout of ksw0306/ClariNet, whose loop is timed too; needs PyTorch.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import lax

from fwn import cli, shipped
from fwn import config as configs
from fwn.flows.densities import DISTRIBUTIONS
from fwn.models.autoregressive import Autoregressive, from_fields, sample

BATCH = flags.DEFINE_multi_integer("batch", [1], "Utterances per batch; may be repeated.")
BLOCKS = flags.DEFINE_multi_integer("block", [1, 4, 16, 64], "Samples per iteration; may be repeated.")
FRAMES = flags.DEFINE_integer("frames", 16, "Mel frames to sample, 256 samples each.", 1)
NAIVE = flags.DEFINE_integer("naive", 32, "Samples to make with the naive loop, which is slow; 0: skip it.", 0)
OFFICIAL = flags.DEFINE_string("official", None, "Folder of a checkout of ksw0306/ClariNet; needs PyTorch.")


def seconds(f: Callable[[], Any]) -> float:
    """Minimum of three runs, after one that compiles."""
    f()
    took = []
    for _ in range(3):
        start = time.perf_counter()
        f()
        took.append(time.perf_counter() - start)
    return min(took)


def naive(model: Autoregressive, params: Any, c: jax.Array, noise: jax.Array, draw: Any) -> jax.Array:
    """Audio [B, T]: for each sample, the network over a window of one receptive field."""
    net = model.wavenet
    window = (net.kernel_size - 1) * sum(net.dilations) + net.front_kernel
    c = jnp.pad(c, ((0, 0), (window - 1, 0), (0, 0)))

    def step(recent: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        seen = lax.dynamic_slice_in_dim(c, t, window, axis=1)
        theta: Any = net.apply({"params": params["net"]}, recent[..., None], seen)
        x = draw(theta[:, -1], noise[:, t])
        return jnp.concatenate([recent[:, 1:], x[:, None]], axis=1), x

    return lax.scan(step, jnp.zeros((len(c), window)), jnp.arange(noise.shape[1]))[1].T


def official(mel: np.ndarray) -> float:
    """Seconds per sample of the official `generate` with a full receptive field: its network over that window."""
    import torch

    sys.path.insert(0, OFFICIAL.value)
    import wavenet as code  # in the checkout

    model = code.Wavenet(
        out_channels=2, num_blocks=2, num_layers=10, residual_channels=128, gate_channels=256,
        skip_channels=128, kernel_size=2, cin_channels=80, upsample_scales=[16, 16],
    ).eval()  # fmt: skip
    window = model.receptive_field_size()
    with torch.no_grad():
        c = model.upsample(torch.from_numpy(np.resize(mel[:1], (1, window // 256 + 1, 80)).swapaxes(1, 2).copy()))
        return seconds(lambda: model.wavenet(torch.zeros(1, 1, window), c[..., :window]))


def compare(model: Autoregressive, params: Any, mel: np.ndarray) -> None:
    """Prints one line per loop."""
    batch, samples = len(mel), mel.shape[1] * model.hop

    def line(name: str, n: int, took: float) -> None:
        cli.say(f"batch {batch}, {name}: {n * batch / took:,.1f} samples/s in total, {n / took:,.1f} per utterance")

    noise = DISTRIBUTIONS["gaussian"]().noise(jax.random.key(1), (batch, samples))
    draw = partial(DISTRIBUTIONS["gaussian"]().sample, temperature=1.0)
    if OFFICIAL.value and batch == 1:
        line("official generate (PyTorch)", 1, official(mel))
    if NAIVE.value:
        c = jax.jit(partial(model.apply, method="condition"))({"params": params}, mel)
        loop = jax.jit(partial(naive, model, draw=draw))
        line("naive", NAIVE.value, seconds(lambda: loop(params, c, noise[:, : NAIVE.value]).block_until_ready()))
    for block in BLOCKS.value:
        run = jax.jit(partial(sample, model, draw=draw, block=block))
        line(f"block {block}", samples, seconds(partial(lambda run: run(params, mel, noise).block_until_ready(), run)))


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    fields = configs.copied(shipped.experiment("wavenet_gaussian")).model.to_dict()
    del fields["prediction"]
    _, model = from_fields(**fields)
    mel = np.random.default_rng(0).uniform(size=(max(BATCH.value), FRAMES.value, 80)).astype("float32")
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, model.hop, 1)), mel[:1, :1])["params"]
    cli.say(f"{sum(leaf.size for leaf in jax.tree.leaves(params)):,} parameters, {jax.default_backend()}")
    for batch in BATCH.value:
        compare(model, params, mel[:batch])


if __name__ == "__main__":
    cli.run(main)
