"""Memory of devices and of the machine, in bytes."""

import os
from pathlib import Path
from typing import NamedTuple

import jax

GROUPS = {  # control groups of versions 2 and 1: the file of the limit, that of the use, its name in there
    Path("/sys/fs/cgroup/memory.max"): (Path("/sys/fs/cgroup/memory.stat"), "anon"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"): (Path("/sys/fs/cgroup/memory/memory.stat"), "total_rss"),
}
INFO = Path("/proc/meminfo")


class Memory(NamedTuple):
    """total; free: what is left of it."""

    total: int
    free: int


def device() -> Memory:
    """Of the first local device, if it reports its memory; else, as on a CPU, the machine's."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" not in stats:
        return machine()
    return Memory(stats["bytes_limit"], stats["bytes_limit"] - stats["bytes_in_use"])


def most() -> int:
    """The most that the first local device, or on a CPU this process, held so far."""
    import resource  # not on Windows, where this can be imported but not run: fwn.posix

    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("peak_bytes_in_use") or 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def machine() -> Memory:
    """For this process: of the machine, or of its control group (a container, a batch job) if that has less.

    Where the system does not say how much is free, as on macOS, all of it.
    """
    total = free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if INFO.is_file():  # pages that hold copies of files can be used too
        free = 1024 * _numbers(INFO).get("MemAvailable:", total // 1024)
    for limit, (use, name) in GROUPS.items():
        text = limit.read_text().strip() if limit.is_file() else "max"
        if text.isdigit() and int(text) < total:
            total = int(text)
            free = min(free, total - (_numbers(use).get(name, 0) if use.is_file() else 0))
    return Memory(total, free)


def _numbers(file: Path) -> dict[str, int]:
    """Numbers by name from a file of the kernel with lines "name number …"."""
    return {words[0]: int(words[1]) for line in file.read_text().splitlines() if len(words := line.split()) > 1}
