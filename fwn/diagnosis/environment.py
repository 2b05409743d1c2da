"""The machine: versions, devices, driver, disk, memory."""

import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import jax

from fwn import __version__
from fwn.diagnosis.finding import NOTE, WARNING, Examination, Finding, size
from fwn.shipped import HERE
from fwn.xla import memory

PINNED = HERE.parent / "constraints" / "pinned.txt"  # only in a checkout
LEAST_DISK = 2**30  # bytes; a run writes checkpoints, the compilation cache programs of some hundred MiB
LEAST_MEMORY = 2**31  # bytes; compiling a training step takes as much
OPTIONAL = {"pesq": "PESQ", "pyworld": "F0 errors by WORLD", "pystoi": "STOI"}


def examine(folder: Path | None = None) -> Examination:
    """folder: where something is to be written, whose disk is examined; None: only the cache's."""
    yield from _versions()
    yield from _devices()
    yield from _disk("this folder" if folder is None else str(folder), folder or Path())
    if cache := jax.config.values["jax_compilation_cache_dir"]:
        yield from _disk(f"compiled programs, {cache}", Path(cache))
    else:
        yield Finding(
            NOTE,
            "compiled programs are not kept: every start compiles them again",
            "make ~/.cache writable, or name a folder in JAX_COMPILATION_CACHE_DIR",
        )
    total, free = memory.machine()
    yield f"memory: {size(total)}, {size(free)} free; cores: {cores()} of {os.cpu_count()} for this process"
    if free < LEAST_MEMORY:
        yield Finding(
            WARNING,
            f"only {size(free)} of memory are free; compiling a training step can take {size(LEAST_MEMORY)}",
            "end other programs, or use a machine with more memory",
        )
    missing = [f"{label} ({name})" for name, label in OPTIONAL.items() if find_spec(name) is None]
    if missing:
        yield Finding(
            NOTE,
            f"metrics that fwn.evaluate leaves out: {', '.join(missing)}",
            "pip install 'fwn[eval]', which needs a C++ compiler",
        )


def _versions() -> Examination:
    versions = {name: metadata.version(name) for name in ("jax", "jaxlib", "flax")}
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    machine = f"{platform.system()} {platform.machine()}"
    yield f"fwn {__version__}, Python {platform.python_version()}, {machine}, {packages}"
    if versions["jax"].split(".")[:2] != versions["jaxlib"].split(".")[:2]:
        yield Finding(
            WARNING,
            f"jax {versions['jax']} with jaxlib {versions['jaxlib']}: they are made for each other by version",
            f"pip install jaxlib=={versions['jax']}",
        )
    if not PINNED.is_file():
        return
    pins = pinned(PINNED.read_text(encoding="utf-8"))
    installed = {name: version for name in pins if (version := _installed(name))}
    differ = [f"{name} {version}" for name, version in installed.items() if version not in pins[name]]
    yield f"{len(installed) - len(differ)} of {len(installed)} installed packages are of the pinned versions"
    if differ:
        yield Finding(
            NOTE,
            f"versions with which fwn was not tested: {', '.join(differ[:8])}{' …' if len(differ) > 8 else ''}",
            "make install, or pip install -c constraints/pinned.txt",
        )


def pinned(text: str) -> dict[str, set[str]]:
    """{package: its versions} of a file of constraints. A package may have one version for each Python."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> Examination:
    devices = jax.devices()
    each = "" if jax.default_backend() == "cpu" else f", {size(memory.device().total)} each"
    yield f"backend: {jax.default_backend()}, {len(devices)} × {devices[0].device_kind}{each}"
    if jax.default_backend() != "cpu":
        yield f"platform: {' '.join(str(devices[0].client.platform_version).split())}"
    gpus = _gpus()
    if gpus:
        yield f"GPU: {gpus}"
    if jax.default_backend() == "cpu" and gpus:
        yield Finding(
            WARNING,
            f"there is a GPU ({gpus}), but JAX computes on the CPU",
            "pip install 'fwn[gpu]'; if that is done, unset JAX_PLATFORMS and compare the driver with the one that "
            "the CUDA of jax needs",
        )


def _gpus() -> str:
    """Name, driver and memory of the GPUs that the NVIDIA driver knows; "" without one."""
    if program := shutil.which("nvidia-smi"):
        query = [program, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        try:
            said = subprocess.run(query, capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        if said.returncode == 0:
            return "; ".join(said.stdout.strip().splitlines())
    return "NVIDIA driver loaded" if Path("/proc/driver/nvidia/version").exists() else ""


def _disk(what: str, folder: Path) -> Examination:
    there = next((path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir()), Path("/"))
    usage = shutil.disk_usage(there)
    yield f"disk of {what}: {size(usage.free)} free of {size(usage.total)}"
    if usage.free < LEAST_DISK:
        yield Finding(
            WARNING,
            f"the disk of {what} has {size(usage.free)} free",
            "free some space, or use a folder on another disk",
        )


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
