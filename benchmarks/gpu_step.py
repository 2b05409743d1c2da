"""Calculates the time of a training step on an H100 or A100 that is not there. Nothing is run, so nothing is measured.

    JAX_PLATFORMS=cpu JAX_SKIP_CUDA_CONSTRAINTS_CHECK=1 python benchmarks/gpu_step.py --config=experiments/lite.py \
        --config.model.dtype=bfloat16 --gpu=h100

XLA compiles the step for the GPU from its description; this needs `pip install jax[cuda13]`, but no GPU and no driver.
From the compiled program are counted: kernels, each loop by its known trip count, and the bytes that they read and
write (arguments and results of each kernel; of an array that is only sliced, the slice). Operations of matrix products
are counted from the weights (fwn.evaluation.flops), three times for forward and backward pass. The two bounds:

- at least the largest of: kernels × 2.5 µs, bytes / bandwidth, operations / half of the peak.
- at most, the sum of: kernels × 5 µs, bytes / 70% of the bandwidth, operations / a tenth of the peak.

Bandwidth and peak are NVIDIA's data sheets': H100 SXM 3.35 TB/s and 989 TFLOP/s (bfloat16, dense), A100 80 GB SXM 2.039
TB/s and 312 TFLOP/s. The shares of these and the times of a launch are assumptions.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import config_flags

from fwn import cli
from fwn import config as configs
from fwn.evaluation import flops, measure
from fwn.systems import build
from fwn.training.parallel import AXIS, Parallel
from fwn.training.step import abstract, train_step

LAUNCH = 2.5e-6, 5e-6  # seconds a kernel: at least, at most
SHARE_OF_BANDWIDTH = 1.0, 0.7
SHARE_OF_PEAK = 0.5, 0.1
COMMON = """
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
"""


class Gpu(NamedTuple):
    bandwidth: float  # bytes/s
    peak: float  # operations/s, bfloat16
    description: str  # fields of XLA's GpuTargetConfigProto


GPUS = {
    "h100": Gpu(
        3.35e12,
        989e12,
        f"""gpu_device_info {{ {COMMON} shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
        core_count: 132 fpus_per_core: 128 memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
        device_memory_size: 84978434048 cuda_compute_capability {{ major: 9 }} }}
        platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 8 }}
        device_description_str: "NVIDIA H100 80GB HBM3" """,
    ),
    "a100": Gpu(
        2.039e12,
        312e12,
        f"""gpu_device_info {{ {COMMON} shared_memory_per_core: 167936 shared_memory_per_block_optin: 166912
        core_count: 108 fpus_per_core: 64 memory_bandwidth: 2039000000000 l2_cache_size: 41943040 clock_rate_ghz: 1.41
        device_memory_size: 84978434048 cuda_compute_capability {{ major: 8 }} }}
        platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 8 }}
        device_description_str: "NVIDIA A100-SXM4-80GB" """,
    ),
}
FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id")
CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment. Required.")
GPU = flags.DEFINE_enum("gpu", "h100", list(GPUS), "The GPU to compile for.")
HLO = flags.DEFINE_string("hlo", None, "File for the compiled program.")


class Instruction(NamedTuple):
    name: str
    shape: str
    kind: str
    operands: list[str]
    line: str
    root: bool


class OneGpu(Parallel):
    """A single GPU of a description."""

    def __init__(self, mode: str, gpu: Gpu):
        devices = topologies.get_topology_desc("", "cuda", target_config=gpu.description, topology="1x1x1").devices
        mesh = Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))
        self.mode, self.platform = mode, "gpu"
        self.replicated, self.split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))


def size(shape: str) -> int:
    """Bytes of a shape in HLO, or of all in a tuple; workspaces (u8) do not count."""
    arrays = [
        (int(bits or 8), dims.split(","))
        for kind, bits, dims in re.findall(r"\b(pred|bf|[fsuc])(\d*)\[([\d,]*)\]", shape)
        if kind + bits != "u8"
    ]
    return sum(bits // 8 * math.prod(int(n) for n in dims if n) for bits, dims in arrays)


def parsed(hlo: str) -> tuple[dict[str, list[Instruction]], str]:
    """(the instructions of each computation, the name of the entry)."""
    computations: dict[str, list[Instruction]] = {}
    entry = name = ""
    for line in hlo.splitlines():
        if head := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{", line):
            name = head[2]
            computations[name] = []
            entry = name if head[1] else entry
        elif line.startswith("}"):
            name = ""
        elif name and (found := re.match(r"\s+(ROOT )?%([\w.\-]+) = (.*?) ([a-z][a-z\-]*)\((.*)", line)):
            operands = re.findall(r"%([\w.\-]+)", found[5].split("), ")[0])
            computations[name].append(Instruction(found[2], found[3], found[4], operands, line, bool(found[1])))
    return computations, entry


def moved(one: Instruction, shapes: dict[str, str], computations: dict[str, list[Instruction]]) -> int:
    """Bytes that a kernel reads and writes."""
    called = re.search(r"calls=%?([\w.\-]+)", one.line)
    if one.kind != "fusion" or not called:
        return size(one.shape) + sum(size(shapes.get(name, "")) for name in one.operands)
    inside = {i.name: i for i in computations[called[1]]}
    users: dict[str, list[Instruction]] = {}
    for i in inside.values():
        for operand in i.operands:
            users.setdefault(operand, []).append(i)

    def read(name: str, shape: str) -> int:
        total = 0
        for user in users.get(name, []):
            if user.kind == "bitcast":
                total += read(user.name, user.shape)
            elif user.kind in ("dynamic-slice", "slice", "gather") and user.operands[0] == name:
                total += size(user.shape)
            elif not (user.kind == "dynamic-update-slice" and user.operands[0] == name):
                return size(shape)
        return min(total, size(shape))

    def written(name: str) -> int:
        i = inside[name]
        if i.kind in ("bitcast", "tuple"):
            return sum(written(operand) for operand in i.operands)
        return size(inside[i.operands[1]].shape if i.kind == "dynamic-update-slice" else i.shape)

    inputs = sum(read(i.name, i.shape) for i in inside.values() if i.kind == "parameter")
    return inputs + sum(written(i.name) for i in inside.values() if i.root)


def kernels(hlo: str) -> Iterator[tuple[str, int, int]]:
    """(kind, how often it is run, bytes each time) of each kernel."""
    computations, entry = parsed(hlo)

    def walk(name: str, times: int) -> Iterator[tuple[str, int, int]]:
        shapes = {i.name: i.shape for i in computations[name]}
        for one in computations[name]:
            if one.kind == "while":
                trips = re.search(r'known_trip_count"?:\{"n":"(\d+)"', one.line)
                body = re.search(r"body=%?([\w.\-]+)", one.line)
                if trips is None or body is None:
                    raise ValueError(f"a loop whose number of trips is not known: {one.line}")
                yield from walk(body[1], times * int(trips[1]))
            elif one.kind == "call":
                yield from walk(re.findall(r"to_apply=%?([\w.\-]+)", one.line)[0], times)
            elif one.kind not in FREE and not one.kind.endswith("-done"):
                target = re.search(r'custom_call_target="([^"]+)"', one.line)
                yield one.kind + (f" {target[1]}" if target else ""), times, moved(one, shapes, computations)

    return walk(entry, 1)


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    jax.config.update("jax_enable_compilation_cache", False)  # a program without its device cannot be read back
    config, gpu = configs.copied(CONFIG.value), GPUS[GPU.value]
    mel = configs.mel_of(config)
    configs.check(config, mel, "--config")
    system, parallel = build(config), OneGpu(config.parallel, gpu)
    batch: Any = measure.synthetic(config.batch_size, config.frames, mel, seed=0, system=system)
    state = abstract(system, config, parallel, batch)
    local = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=parallel.split), batch)
    step = parallel.compile(train_step(system, config), donate=True, carried=state)
    program = step.trace(state, (), local).lower(lowering_platforms=("cuda",)).compile()
    hlo = program.as_text()
    if HLO.value:
        with open(HLO.value, "w", encoding="utf-8") as file:
            file.write(hlo)
    found, counts, traffic = list(kernels(hlo)), Counter[str](), Counter[str]()
    for kind, times, size_ in found:
        counts[kind] += times
        traffic[kind] += times * size_
    work = 3 * flops.per_sample(state.params, config.model) * batch["audio"].size
    launches, total = counts.total(), traffic.total()
    memory = program.memory_analysis()
    cli.say(
        f"{GPU.value}, {config.batch_size} crops of {config.frames * mel.hop_length} samples: {launches:,} kernels, "
        f"{total / 1e9:.1f} GB moved, {work / 1e12:.2f} TFLOP; temporary {memory.temp_size_in_bytes / 2**20:,.0f} MiB"
    )
    for kind, n in counts.most_common(12):
        cli.say(f"  {kind}: {n:,} kernels, {traffic[kind] / 1e9:.2f} GB")
    times = [
        (launches * LAUNCH[i], total / gpu.bandwidth / SHARE_OF_BANDWIDTH[i], work / gpu.peak / SHARE_OF_PEAK[i])
        for i in range(2)
    ]
    for (a, b, c), total_, word in zip(times, (max(times[0]), sum(times[1])), ("least", "most"), strict=True):
        cli.say(
            f"at {word} {1e3 * total_:.1f} ms (launches {1e3 * a:.1f}, memory {1e3 * b:.1f}, products {1e3 * c:.1f}), "
            f"{total_ * 1e5 / 3600:.2f} hours for 100,000 steps"
        )


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    cli.run(main)
