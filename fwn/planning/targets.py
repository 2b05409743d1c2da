"""Devices to compile for, with the figures of their makers. Nothing here needs such a device."""

import math
import os
import re
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from fwn.errors import UserError, nearest, short

LAUNCH, KERNEL = 2.5e-6, 1e-6  # seconds, assumed
PREALLOCATED = 0.75  # share of a GPU's memory (JAX's documentation of XLA_PYTHON_CLIENT_MEM_FRACTION)
CUDA = "13.0.0"  # of driver and libraries; if it is not told, XLA uses no command buffers
VERSIONS = f'driver_version: "{CUDA}" runtime_version: "{CUDA}" compile_time_toolkit_version: "{CUDA}"'
COMMON = """
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
"""
HOPPER = f"""{COMMON} shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448 core_count: 132
  fpus_per_core: 128 l2_cache_size: 52428800 clock_rate_ghz: 1.98 cuda_compute_capability {{ major: 9 }}
"""
AMPERE = f"""{COMMON} shared_memory_per_core: 167936 shared_memory_per_block_optin: 166912 core_count: 108
  fpus_per_core: 64 l2_cache_size: 41943040 clock_rate_ghz: 1.41 cuda_compute_capability {{ major: 8 }}
"""


class Chip(NamedTuple):
    """One device.

    memory: bytes. usable: the share of it that JAX takes. bandwidth: bytes/s to memory. half, single: peak operations/s
    of dense matrix products in bfloat16, and as XLA computes float32 by default (GPU: TF32, TPU: one bfloat16 pass).
    link: bytes/s in one direction, to devices of the same host (GPU) or slice (TPU). network: the same, to other hosts,
    of a device's own network card; 0: as `link`. per_host: devices of a host. description: fields of XLA's
    GpuDeviceInfoProto. source: of these figures.
    """

    name: str
    memory: float
    bandwidth: float
    half: float
    single: float
    link: float
    network: float
    per_host: int
    source: str
    description: str = ""

    @property
    def platform(self) -> str:
        return "gpu" if self.description else "tpu"

    @property
    def usable(self) -> float:
        return PREALLOCATED if self.platform == "gpu" else 1.0

    @property
    def launch(self) -> float:
        """Seconds of the host for each launch."""
        return LAUNCH if self.platform == "gpu" else 0.0

    @property
    def kernel(self) -> float:
        """Seconds of the device between two kernels."""
        return KERNEL if self.platform == "gpu" else 0.0


NVIDIA = "NVIDIA's data sheets of {0} (SXM) and DGX {0}"
GOOGLE = "Google Cloud's page of TPU {0}"
CHIPS = {
    "a100": Chip(
        "NVIDIA A100-SXM4-80GB", 80 * 2**30, 2.039e12, 312e12, 156e12, 300e9, 25e9, 8, NVIDIA.format("A100"), AMPERE
    ),
    "h100": Chip(
        "NVIDIA H100 80GB HBM3", 80 * 2**30, 3.35e12, 989e12, 494e12, 450e9, 50e9, 8, NVIDIA.format("H100"), HOPPER
    ),
    "h200": Chip("NVIDIA H200", 141e9, 4.8e12, 989e12, 494e12, 450e9, 50e9, 8, NVIDIA.format("H200"), HOPPER),
    "v5e": Chip("TPU v5e", 16 * 2**30, 819e9, 197e12, 197e12, 200e9, 0, 8, GOOGLE.format("v5e")),
    "v5p": Chip("TPU v5p", 95 * 2**30, 2765e9, 459e12, 459e12, 600e9, 0, 4, GOOGLE.format("v5p")),
}
ASSUMED = {
    "gpu": f"assumed: {1e6 * LAUNCH:g} µs a launch by the host, {1e6 * KERNEL:g} µs between kernels, also in a command "
    f"buffer; {PREALLOCATED:.0%} of the memory, JAX's default",
    "tpu": "assumed: no time between the parts of a program",
}
PACKAGES = {"gpu": ("jax_cuda13_plugin", "jax_cuda12_plugin"), "tpu": ("libtpu",)}
ACCELERATORS = {"v5e": "v5litepod-8", "v5p": "v5p-8"}  # what libtpu asks for; any size of the kind will do
EXAMPLES = "h100, h200:8, a100:2x8 (hosts × devices), v5e:2x4, v5p:4x4x4"


class Target(NamedTuple):
    """Devices to compile for. shape: hosts × devices of each (GPU), or the torus (TPU)."""

    text: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def link(self) -> float:
        """Bytes/s in one direction, of the slowest link in a ring over all devices.

        Of several hosts, there are as many rings as a host has devices, each through another network card. Together
        they pass through all cards of a host, and each device's link.
        """
        if not self.chip.network or self.shape[0] == 1:
            return self.chip.link
        return min(self.chip.link, self.chip.network * self.shape[1])


def target(text: str) -> Target:
    """The target of a text such as those of EXAMPLES. Raises UserError."""
    name, colon, rest = text.partition(":")
    said, examples = f"--target={short(text)}", f"as in {EXAMPLES}"
    if (chip := CHIPS.get(name)) is None:
        raise UserError(f"{said}: there are {', '.join(CHIPS)}{nearest(name, CHIPS)}; {examples}")
    if not re.fullmatch(r"[1-9]\d{0,3}(x[1-9]\d{0,3}){0,2}", rest) if colon else chip.platform == "tpu":
        raise UserError(f"{said}: its devices are to follow the name, {examples}")
    shape = tuple(int(n) for n in rest.split("x")) if colon else (1, 1)
    if chip.platform == "gpu" and len(shape) == 3:
        raise UserError(f"{said}: three numbers; GPUs have hosts × devices, {examples}")
    if chip.platform == "gpu" and len(shape) == 1:  # of full hosts
        (n,) = shape
        shape = (1, n) if n <= chip.per_host else (n // chip.per_host, chip.per_host)
        if math.prod(shape) != n:
            raise UserError(
                f"{said}: {n} devices are no full hosts of {chip.per_host}; give hosts × devices, {examples}"
            )
    return Target(text, chip, shape)


def devices(wanted: Target) -> list[Any]:
    """JAX's descriptions of the devices, to compile for. Raises UserError if a package is missing.

    Call it before anything else uses JAX: the process then sees no device but its CPU.
    """
    platform, shape = wanted.chip.platform, "x".join(str(n) for n in wanted.shape)
    if not any(find_spec(name) for name in PACKAGES[platform]):
        raise UserError(
            f"--target={wanted.text}: XLA's compiler for it is missing ({PACKAGES[platform][0]}); install it, in an "
            f"environment of its own: pip install 'fwn[plan-{platform}]'"
        )
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)  # such a program cannot be read back without its device
    if platform == "gpu":
        os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")  # of the driver, which is not there
        chip = wanted.chip
        description = (
            f"gpu_device_info {{ {chip.description} memory_bandwidth: {chip.bandwidth:.0f} "
            f'device_memory_size: {chip.memory:.0f} {VERSIONS} }} platform_name: "CUDA" '
            f'dnn_version_info {{ major: 9 minor: 8 }} device_description_str: "{chip.name}"'
        )
        return list(topologies.get_topology_desc("", "cuda", target_config=description, topology=f"1x{shape}").devices)
    settings = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}
    settings["TPU_ACCELERATOR_TYPE"] = ACCELERATORS[wanted.text.partition(":")[0]]
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    try:
        return list(topologies.get_topology_desc(wanted.text, "tpu").devices)
    except jax.errors.JaxRuntimeError as error:
        raise UserError(
            f"--target={wanted.text}: XLA knows no such slice ({short(str(error))}); give another, as in {EXAMPLES}"
        ) from error
