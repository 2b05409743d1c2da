"""Memory, time and rounding error of FloWaveNet's three gradients (config.model.gradient) against the number of flows.

    python benchmarks/gradient_memory.py
    python benchmarks/gradient_memory.py --n_flow=6 --n_block=8 --channels=256 --frames=62

All weights are random: at their initial values couplings are the identity. Memory is XLA's figure for the temporary
arrays of one compiled loss and gradient (`memory_analysis().temp_size_in_bytes`), without weights and their gradients,
which every choice needs. Time is the minimum of several runs that alternate between the three gradients.
off: norm of the difference from the gradient of "plain", relative to the norm of that gradient, over all weights and
for the weight array where it is largest.
"""

import time
from typing import Any

import jax
import numpy as np
from absl import flags

from fwn import cli, shipped
from fwn.systems import build

GRADIENTS = ("plain", "remat", "invert")
N_FLOW = flags.DEFINE_multi_integer("n_flow", [2, 4, 8, 16, 32], "Flows per block; may be repeated.", 1)
N_BLOCK = flags.DEFINE_integer("n_block", 2, "Blocks.", 1, 8)
CHANNELS = flags.DEFINE_integer("channels", 64, "Width of the couplings' WaveNets.", 1)
FRAMES = flags.DEFINE_integer("frames", 16, "Mel frames per crop, 256 samples each.", 1)
BATCH = flags.DEFINE_integer("batch_size", 1, "Crops per step.", 1)
RUNS = flags.DEFINE_integer("runs", 5, "Timed runs of each gradient.", 1)
DTYPE = flags.DEFINE_string("dtype", None, "Type of the networks, such as bfloat16. By default float32.")
OPTIMISATION = flags.DEFINE_integer("optimisation", None, "XLA's xla_backend_optimization_level; 0 compiles fastest.")


def system(n_flow: int, gradient: str) -> Any:
    config = shipped.experiment("base")
    sizes = {"channels": CHANNELS.value, "prior_channels": CHANNELS.value, "block_per_split": 1}
    config.model.update(
        {"n_flow": n_flow, "n_block": N_BLOCK.value, "dtype": DTYPE.value, "gradient": gradient, **sizes}
    )
    return build(config)


def random_weights(shapes: Any) -> Any:
    """Random weights: outputs of every convolution are of order 1, log-scales of order 0.1."""
    rng = np.random.default_rng(0)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        value, name = rng.normal(size=leaf.shape), path[-1].key
        if name == "kernel":
            value *= (0.3 if path[-2].key == "out" else 1) / np.sqrt(np.prod(leaf.shape[:-1]))
        else:
            value = np.exp(0.3 * value) if name == "scale" else 0.1 * value
        return value.astype(leaf.dtype)

    return jax.tree.map_with_path(draw, shapes)


def off(found: Any, expected: Any) -> tuple[float, float]:
    """Relative difference over all weights, and the largest of one weight array."""
    pairs = list(zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True))
    squares = np.array([[np.sum(np.square(a - b), dtype="f8"), np.sum(np.square(b), dtype="f8")] for a, b in pairs])
    total, nonzero = squares.sum(0), squares[squares[:, 1] > 0]
    return (total[0] / total[1]) ** 0.5, (nonzero[:, 0] / nonzero[:, 1]).max() ** 0.5


def compare(n_flow: int, batch: dict[str, np.ndarray]) -> None:
    """Prints one table row per gradient."""
    key, one = jax.random.key(0), {name: a[:1] for name, a in batch.items()}
    weights = random_weights(jax.eval_shape(system(n_flow, "plain").init, key, one, {}))
    options = None if OPTIMISATION.value is None else {"xla_backend_optimization_level": OPTIMISATION.value}
    weights, batch = jax.device_put((weights, batch))
    steps, gradients = {}, {}
    for name in GRADIENTS:
        step = jax.jit(jax.grad(lambda w, name=name: system(n_flow, name).loss(w, (), batch, key)[0]))
        steps[name] = step.lower(weights).compile(options)
        gradients[name] = jax.block_until_ready(steps[name](weights))
    took: dict[str, list[float]] = {name: [] for name in GRADIENTS}
    for _ in range(RUNS.value):
        for name in GRADIENTS:
            start = time.perf_counter()
            jax.block_until_ready(steps[name](weights))
            took[name].append(time.perf_counter() - start)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(weights)) / 1e6
    for name in GRADIENTS:
        memory = steps[name].memory_analysis().temp_size_in_bytes / 1e6
        ratio = min(took[name]) / min(took["plain"])
        whole, worst = off(*jax.device_get((gradients[name], gradients["plain"])))
        cli.say(
            f"| {n_flow} | {name} | {memory:,.1f} | {size:,.1f} | {min(took[name]):.3f} | {ratio:.2f} | "
            f"{whole:.0e} | {worst:.0e} |"
        )


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    rng = np.random.default_rng(0)
    audio = rng.normal(0, 0.3, (BATCH.value, 256 * FRAMES.value)).astype("float32")
    mel = rng.uniform(size=(BATCH.value, FRAMES.value, 80)).astype("float32")
    batch = {"audio": audio, "mel": mel, "index": np.arange(BATCH.value, dtype="int32")}
    cli.say(f"{jax.default_backend()}, T = {audio.shape[1]}, batch {BATCH.value}, {N_BLOCK.value} blocks")
    cli.say("| flows a block | gradient | temporary MB | weights MB | s | of plain's time | off | off, worst array |")
    cli.say("|---|---|---|---|---|---|---|---|")
    for n_flow in N_FLOW.value:
        compare(n_flow, batch)


if __name__ == "__main__":
    cli.run(main)
