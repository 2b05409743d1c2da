"""Our side of benchmarks/peer.py. It does not import PyTorch, so that its process holds only JAX's memory."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from fwn import config as configs
from fwn.errors import UserError
from fwn.evaluation import measure
from fwn.systems import build
from fwn.training.parallel import Parallel
from fwn.training.step import carried, compiled_step, initial
from fwn.xla import malloc

DEVICE = jax.default_backend()


def prepare(config: Any, part: str, frames: int) -> Callable[[], Any]:
    """The function to time: one training step, or sampling one batch, until the result is ready."""
    malloc.keep_memory(DEVICE)
    if jax.device_count() > 1:
        raise UserError(f"JAX has {jax.device_count()} devices and PyTorch uses one; set CUDA_VISIBLE_DEVICES=0")
    batch = config.batch_size
    example = measure.synthetic(batch, frames, configs.mel_of(config), seed=0)
    if part == "sampling":
        vocoder = measure.untrained(config, example, seed=0)
        keys = jax.random.split(jax.random.key(0), batch)
        sample = partial(jax.jit(vocoder.system.sample), vocoder.params, example["mel"], keys, np.float32(1.0))
        return lambda: sample().block_until_ready()
    system, parallel = build(config), Parallel("jit", batch)
    state = carried(config, parallel, initial(system, config, parallel, example))
    step = compiled_step(system, config, parallel, state, example)
    malloc.give_back_memory()
    local = parallel.batch(example)

    def training() -> None:
        nonlocal state
        state, metrics = step(state, (), local)
        jax.block_until_ready(metrics)

    return training


def peak() -> int:
    """Peak bytes in use on the GPU; 0 on a CPU."""
    stats = jax.local_devices()[0].memory_stats()
    return stats["peak_bytes_in_use"] if stats else 0
