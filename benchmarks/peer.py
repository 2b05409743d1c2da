"""Ours beside a PyTorch peer of the paper's size, same shapes, same machine, one run: seconds and ratios.

    git clone https://github.com/ksw0306/FloWaveNet
    pip install torch
    python benchmarks/peer.py --flowavenet=FloWaveNet
    python benchmarks/peer.py --flowavenet=FloWaveNet --batch_size=4 --only=training

The official FloWaveNet samples by `reverse` and trains by its own loss, clipping and Adam. Both use all cores. Runs
alternate, ours and the peer's, so that both meet the same moments of the machine.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import base
from fwn import cli
from fwn.errors import UserError
from fwn.nn.conv import fold_weight_norm
from fwn.parallel import Parallel
from fwn.systems import build
from fwn.training import initial, train_step

FLOWAVENET = flags.DEFINE_string("flowavenet", None, "Folder of a checkout of ksw0306/FloWaveNet. Required.")
BATCH_SIZE = flags.DEFINE_multi_integer("batch_size", [1], "Crops in a step and utterances at a time; may be repeated.")
FRAMES = flags.DEFINE_integer("frames", 62, "Mel frames of each: 256 samples a frame.", 1)
REPEATS = flags.DEFINE_integer("repeats", 5, "Runs of each, of which the median is taken.", 1)
ONLY = flags.DEFINE_multi_enum("only", [], ("sampling", "training"), "Only this part. By default both.")


def peer(batch: int) -> dict[str, Callable[[], Any]]:
    """What the official code does, by part."""
    import model as code  # of the checkout
    import torch

    model = code.Flowavenet(1, 80, 8, 6, 2, True, False, 4)
    x, c = 0.1 * torch.randn(batch, 1, 256 * FRAMES.value), torch.rand(batch, 80, FRAMES.value)
    with torch.no_grad():
        model(x, c)  # ActNorm initialises itself
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)

    def sampling() -> None:
        with torch.no_grad():
            model.reverse(torch.randn_like(x), c)

    def training() -> None:
        adam.zero_grad()
        log_p, logdet = model(x, c)
        (-(log_p + logdet)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()

    return {"sampling": sampling, "training": training}


def ours(batch: int) -> dict[str, Callable[[], Any]]:
    """The same by fwn."""
    config = base.get_config()
    config.batch_size = batch
    system, parallel, rng = build(config), Parallel("jit", batch), np.random.default_rng(0)
    example = {"audio": 0.1 * rng.normal(size=(batch, 256 * FRAMES.value)).astype("float32")}
    example |= {"mel": rng.uniform(size=(batch, FRAMES.value, 80)).astype("float32"), "index": np.arange(batch)}
    state = initial(system, config, parallel, example)
    params = jax.tree.map(jnp.asarray, fold_weight_norm(jax.tree.map(np.asarray, state.params)))
    sample = jax.jit(system.sample)
    step = parallel.everywhere(train_step(system, config), donate=True)
    local, keys = parallel.batch(example), jax.random.split(jax.random.key(0), batch)

    def training() -> Any:
        nonlocal state
        state, metrics = step(state, (), local)
        return metrics

    return {"sampling": partial(sample, params, example["mel"], keys, np.float32(1.0)), "training": training}


def compare(batch: int) -> None:
    """Prints a line for each part."""
    theirs, own = peer(batch), ours(batch)
    for part in ONLY.value or theirs:
        took: dict[str, list[float]] = {"ours": [], "peer": []}
        for _ in range(REPEATS.value + 1):
            for name, run in (("ours", own[part]), ("peer", theirs[part])):
                start = time.perf_counter()
                jax.block_until_ready(run())
                took[name].append(time.perf_counter() - start)
        a, b = (statistics.median(seconds[1:]) for seconds in took.values())  # the first compiles
        cli.say(f"{part}, batch {batch}: ours {a:.3f} s, the peer {b:.3f} s: {b / a:.2f} times as fast")


def main(args: list[str]) -> None:
    if args or not (Path(FLOWAVENET.value) / "model.py").is_file():
        raise UserError(f"--flowavenet={FLOWAVENET.value}: no checkout of ksw0306/FloWaveNet (it has no model.py)")
    sys.path.insert(0, FLOWAVENET.value)
    for batch in BATCH_SIZE.value:
        compare(batch)


if __name__ == "__main__":
    flags.mark_flag_as_required("flowavenet")
    cli.run(main)
