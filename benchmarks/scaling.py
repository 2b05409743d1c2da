"""Training speed and memory per device, on virtual CPU devices of one process and on several processes.

    python benchmarks/scaling.py --config=experiments/tiny.py
    python benchmarks/scaling.py --config=experiments/base.py --config.batch_size=4 --memory

config.batch_size is the batch of all devices together. Each row is measured in new processes with one core per device,
as far as there are enough cores. "efficiency" is the speed per device relative to the first row, one device on one
core; it falls when there are more devices than cores. Times are medians of --repeats steps after two warm-up steps. CPU
time, of all devices together, is the better figure on a machine with other load. Memory is XLA's figure for the
compiled step on each device: its arguments, nearly all of them the training state, and its temporary arrays, which are
gradients and activations. --memory compiles the steps and runs none.
"""

import json
import math
import multiprocessing
import os
import socket
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import config_flags

from fwn import cli
from fwn import config as configs
from fwn.evaluation import measure
from fwn.systems import build
from fwn.training.parallel import Parallel
from fwn.training.step import abstract, carried, train_step

CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment: a Python file with get_config(). Required.")
DEVICES = flags.DEFINE_multi_integer("devices", [1, 2, 4], "Virtual devices of one process; may be repeated.", 1)
MODES = flags.DEFINE_multi_enum("parallel", ["jit", "zero"], ["jit", "zero"], "config.parallel; may be repeated.")
PROCESSES = flags.DEFINE_multi_integer("processes", [2], "Processes of one device each; may be repeated.", 1)
REPEATS = flags.DEFINE_integer("repeats", 20, "Timed steps per row.", 1)
MEMORY = flags.DEFINE_bool("memory", False, "Only memory: compiles without running a step, and ignores --processes.")
OUTPUT = flags.DEFINE_string("output", None, "JSON file for the rows. By default they are only printed.")
COLUMNS = ("parallel", "devices", "processes", "cores", "ms a step", "CPU ms a step", "samples/s", "efficiency")
MEMORY_COLUMNS = ("arguments MB", "of which moments and average MB", "temporary MB")


def noise(a: Any) -> jax.Array:
    """A random array with the shape, type and sharding of `a`; a step takes as long as with trained weights."""
    values = 0.1 * np.random.default_rng(a.size).normal(size=a.shape) if a.dtype == np.float32 else np.zeros(a.shape)
    return jax.make_array_from_callback(a.shape, a.sharding, lambda index: values[index].astype(a.dtype))


def row(config: Any, devices: int, address: str | None, processes: int, process: int, repeats: int) -> dict[str, Any]:
    """Measures one row in this new process, which has `devices` virtual devices. repeats 0: only memory."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[process * devices :][:devices] or cores)
    os.environ["PJRT_NPROC"] = str(devices)  # XLA's threads: more would split the work further, fewer may deadlock
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)
    if address:
        jax.distributed.initialize(address, processes, process)
    system, parallel, mel = build(config), Parallel(config.parallel, config.batch_size), configs.mel_of(config)
    batch = measure.synthetic(config.batch_size // processes, config.frames, mel, process, system)
    state, local = carried(config, parallel, abstract(system, config, parallel, batch)), parallel.batch(batch)
    step: Any = parallel.compile(train_step(system, config, parallel.platform), donate=True, carried=state)
    program = step.lower(state, (), local).compile()
    memory, shardable = program.memory_analysis(), jax.tree.leaves((state.opt, state.ema))
    sharded = sum(math.prod(a.sharding.shard_shape(a.shape)) * a.dtype.itemsize for a in shardable)
    sizes = memory.argument_size_in_bytes, sharded, memory.temp_size_in_bytes
    found = {"parallel": config.parallel, "devices": devices * processes, "processes": processes}
    found |= {"cores": min(len(cores), devices * processes)}
    found |= dict(zip(MEMORY_COLUMNS, (round(size / 1e6, 1) for size in sizes), strict=True))
    if not repeats:
        return found
    state, took, worked = jax.tree.map(noise, state), [], []
    for _ in range(repeats + 2):
        start, cpu = time.perf_counter(), time.process_time()
        state, _ = jax.block_until_ready(program(state, (), local))
        took.append(time.perf_counter() - start)
        worked.append(processes * (time.process_time() - cpu))
    seconds = statistics.median(took[2:])
    samples = config.batch_size * config.frames * mel.hop_length
    found |= {"ms a step": round(1e3 * seconds, 1), "CPU ms a step": round(1e3 * statistics.median(worked[2:]), 1)}
    return found | {"samples/s": round(samples / seconds)}


def measured(config: Any, devices: int, processes: int) -> dict[str, Any]:
    """Runs row() in new processes and returns the first one's result."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}" if processes > 1 else None
    repeats = 0 if MEMORY.value else REPEATS.value
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        tasks = [pool.submit(row, config, devices, address, processes, p, repeats) for p in range(processes)]
        first, *_ = [task.result() for task in tasks]
    return first


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    config, rows = configs.copied(CONFIG.value), []
    columns = ("parallel", "devices", *MEMORY_COLUMNS) if MEMORY.value else COLUMNS + MEMORY_COLUMNS
    cli.say(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", newlines=True)
    shapes = [(n, 1) for n in DEVICES.value] + ([] if MEMORY.value else [(1, n) for n in PROCESSES.value])
    for mode in MODES.value:
        for devices, processes in shapes:
            config.parallel = mode
            found = measured(config, devices, processes)
            if not MEMORY.value:
                first = (rows or [found])[0]
                relative = found["samples/s"] / found["devices"] / (first["samples/s"] / first["devices"])
                found["efficiency"] = f"{100 * relative:.0f}%"
            rows.append(found)
            cli.say(f"| {' | '.join(str(found[column]) for column in columns)} |")
    if OUTPUT.value:
        Path(OUTPUT.value).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    cli.run(main)
