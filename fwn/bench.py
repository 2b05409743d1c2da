"""Measures the speed of an experiment's model on this machine, with untrained weights and random mels.

    python -m fwn.bench --config=experiments/base.py
    python -m fwn.bench --config=experiments/base.py --config.model.dtype=bfloat16 --batch_size=1 --batch_size=32
    python -m fwn.bench --config=experiments/base.py --only=sampling --seconds=1 --seconds=10 --output=bench.json

For each compiled program it prints: the time to compile, from scratch and from the persistent cache; the median time
of --repeats runs after one warm-up; samples per second, times real time; operations, counted from the weights
(fwn.evaluation.flops) and by XLA; their share of the machine's matrix-product peak, measured in the same run; and the
memory that XLA reports. The share is effective: operations are counted as those of plain convolutions, and on a CPU
wide ones take half as many multiplications (fwn.xla.winograd), so it can exceed 100%. --output writes all of it as
JSON, with machine, versions and commit.
"""

import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.experimental.compilation_cache import compilation_cache
from ml_collections import config_flags

from fwn import cli
from fwn import config as configs
from fwn.data.corpus import Corpus
from fwn.disk import write_text
from fwn.errors import UserError
from fwn.evaluation import flops, measure
from fwn.models.weight_forms import ready
from fwn.systems import System, build
from fwn.training.parallel import Parallel
from fwn.training.step import carried, initial, train_step
from fwn.xla.layout import placed
from fwn.xla.malloc import keep_memory

PARTS = ("sampling", "training", "data")
CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Experiment: a Python file with get_config(), or the name of one that comes with fwn. Required."
)
ONLY = flags.DEFINE_multi_enum("only", [], PARTS, "Only this part; may be repeated. By default sampling and training.")
SECONDS = flags.DEFINE_multi_float("seconds", [1.0, 5.0], "Seconds of audio to sample; may be repeated.")
BATCH_SIZE = flags.DEFINE_multi_integer(
    "batch_size", [1], "Utterances at a time in sampling; may be repeated. Training uses config.batch_size."
)
REPEATS = flags.DEFINE_integer("repeats", 5, "Timed runs; the median is reported.", 1)
DATA = flags.DEFINE_string("data", None, "Data set made by data_prep.prepare, whose reading --only=data measures.")
OUTPUT = flags.DEFINE_string("output", None, "JSON file for all figures. By default they are only printed.")


def median(f: Callable[[], Any], repeats: int) -> float:
    """Median seconds of f(), after one warm-up run."""
    took = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        jax.block_until_ready(f())
        took.append(time.perf_counter() - start)
    return statistics.median(took[1:])


def peak(dtype: str) -> float:
    """Operations a second of one square matrix product of the size that does best."""
    best = 0.0
    for n in (1024, 2048, 4096) if jax.default_backend() == "cpu" else (4096, 8192, 16384):
        a = jnp.ones((n, n), dtype)
        product = jax.jit(jnp.matmul)
        best = max(best, 2 * n**3 / median(partial(product, a, a), 5))
    return best


def compiled(f: Any, *args: Any) -> tuple[Any, dict[str, float]]:
    """The program of jitted f, with the seconds that tracing and compiling took, at first and out of the cache."""
    found: dict[str, float] = {}
    held = jax.config.values["jax_compilation_cache_dir"]
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        for name in ("compile_seconds", "compile_again_seconds"):
            jax.clear_caches()
            compilation_cache.reset_cache()
            start = time.perf_counter()
            program = f.lower(*args).compile()
            found[name] = time.perf_counter() - start
    jax.config.update("jax_compilation_cache_dir", held)
    compilation_cache.reset_cache()
    memory, cost = program.memory_analysis(), program.cost_analysis()
    found["memory_bytes"] = float(
        memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    )
    found["memory_bytes"] -= float(memory.alias_size_in_bytes)
    found["xla_flops"] = float(cost["flops"])
    return program, found


def measured(what: str, batch: int, samples: int, rate: int, work: float, seconds: float, top: float) -> dict[str, Any]:
    """A record: `work` operations in `seconds`, for `batch` utterances of `samples` samples."""
    speed = batch * samples / seconds
    return {"what": what, "batch": batch, "audio_seconds": samples / rate, "seconds": seconds} | {
        "samples_per_second": speed,
        "times_real_time": speed / rate,
        "flops": work,
        "flops_per_second": work / seconds,
        "share_of_peak": work / seconds / top,
    }


def sampling(system: System, config: Any, mel: Any, params: Any, top: float) -> list[dict[str, Any]]:
    """One inverse pass, or the loop of an autoregressive system, for each length and batch size."""
    records = []
    params = placed(ready(params, config.model.get("dtype")))
    for seconds in SECONDS.value:
        frames = math.ceil(seconds * mel.sample_rate / mel.hop_length)
        for batch in BATCH_SIZE.value:
            mels = np.random.default_rng(0).uniform(size=(batch, frames, mel.n_mels)).astype("float32")
            mels = np.pad(mels, ((0, 0), (0, 0), (0, system.speakers.channels)))
            args = params, mels, jax.random.split(jax.random.key(0), batch), np.float32(0.8)
            program, found = compiled(jax.jit(system.sample), *args)
            samples = frames * mel.hop_length
            work = flops.per_sample(params, config.model) * batch * samples
            took = median(partial(program, *args), REPEATS.value)
            records.append(measured("sampling", batch, samples, mel.sample_rate, work, took, top) | found)
            cli.say(line(records[-1]))
    return records


def training(
    system: System, config: Any, state: Any, batch: Any, parallel: Parallel, mel: Any, top: float
) -> list[dict[str, Any]]:
    """A step of fwn.train at config.batch_size. A backward pass counts as two forward passes."""
    work = 3 * flops.per_sample(state.params, config.model) * batch["audio"].size
    state = carried(config, parallel, state)
    step = parallel.compile(train_step(system, config, parallel.platform), donate=True, carried=state)
    local = parallel.batch(batch)
    program, found = compiled(step, state, (), local)

    def run() -> Any:
        nonlocal state
        state, metrics = program(state, (), local)
        return metrics

    size, samples = batch["audio"].shape
    record = measured("training step", size, samples, mel.sample_rate, work, median(run, REPEATS.value), top) | found
    cli.say(line(record))
    return [record]


def reading(config: Any, folder: str) -> list[dict[str, Any]]:
    """Reads batches of a data set as a training run does."""
    corpus = Corpus(folder)
    took, rate = measure.reading(corpus, config), corpus.contract.sample_rate
    audio = config.batch_size * config.frames * corpus.contract.hop_length / rate
    cli.say(f"data: a batch of {config.batch_size} in {1e3 * took:.2f} ms, {audio / took:,.0f} s of audio a second")
    return [{"what": "data", "batch": config.batch_size, "seconds": took, "audio_seconds_per_second": audio / took}]


def line(record: dict[str, Any]) -> str:
    """A record as one line of text."""
    return (
        f"{record['what']}, {record['batch']} × {record['audio_seconds']:.2f} s: {record['seconds']:.3f} s, "
        f"{record['samples_per_second']:,.0f} samples/s, {record['times_real_time']:.2f} × real time, "
        f"{record['flops_per_second'] / 1e9:,.1f} effective GFLOP/s, {100 * record['share_of_peak']:.0f}% of the peak; "
        f"compiled in {record['compile_seconds']:.1f} s, again in {record['compile_again_seconds']:.1f} s; "
        f"{record['memory_bytes'] / 2**20:,.0f} MiB"
    )


def main(args: list[str]) -> None:
    keep_memory(jax.default_backend())
    cli.flags_alone(args)
    config = configs.copied(CONFIG.value)
    mel = configs.mel_of(config)
    configs.check(config, mel, "--config")
    parts = ONLY.value or ["sampling", "training"]
    if "data" in parts and DATA.value is None:
        raise UserError("--only=data measures a data set; name it: --data=DIR")
    for seconds in SECONDS.value:
        if not 0 < seconds < math.inf:
            raise UserError(f"--seconds={seconds:g}: it must be a positive number, as 5")
    system, parallel = build(config), Parallel(config.parallel, config.batch_size)
    batch = measure.synthetic(config.batch_size, config.frames, mel, 0, system)
    shapes = jax.eval_shape(system.init, jax.random.key(0), batch, {})
    dtype = str(config.model.dtype or "float32") if "dtype" in config.model else "float32"
    top = peak(dtype)
    cli.say(
        f"{config.system}, {sum(leaf.size for leaf in jax.tree.leaves(shapes)):,} parameters, "
        f"{flops.per_sample(shapes, config.model) / 1e6:.2f} MFLOP per audio sample; on "
        f"{jax.device_count()} × {jax.devices()[0].device_kind}, matrix products in {dtype} at {top / 1e9:,.0f} GFLOP/s"
    )
    records: list[dict[str, Any]] = []
    if {"sampling", "training"} & set(parts):
        state = initial(system, config, parallel, batch)
        if "sampling" in parts:
            records += sampling(system, config, mel, jax.tree.map(np.asarray, state.params), top)
        if "training" in parts and config.loss:
            cli.say(f"training step: not measured, {config.system} learns from a teacher")
        elif "training" in parts:
            records += training(system, config, state, batch, parallel, mel, top)
    if "data" in parts and DATA.value is not None:
        records += reading(config, DATA.value)
    if OUTPUT.value:
        result = {
            "machine": measure.machine(),
            "peak_flops_per_second": top,
            "config": configs.plain(config),
            "records": records,
        }
        write_text(OUTPUT.value, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    cli.run(main)
