"""Compiled programs are kept on disk between runs of the tests, which otherwise spend most of their time compiling.

jax finds them by the program, the compiler's options, XLA_FLAGS and the version of jaxlib. ~/.cache/fwn/tests can be
removed at any time.
"""

import hashlib
import importlib.metadata
import os
import re
import tempfile
from pathlib import Path

LIMIT = 512 * 2**20  # bytes
# Most programs run once: the time to compile them is worth more than their speed.
FAST = ["--xla_backend_optimization_level=0"]
USUAL_ROUNDING: dict[str, bool] = {}  # compiler options for tests of exact equality within a program
if importlib.metadata.version("jaxlib").startswith("0.10."):  # 0.12 has no other emitters, and stops at the flag
    FAST.append("--xla_cpu_use_fusion_emitters=false")
    USUAL_ROUNDING["xla_cpu_use_fusion_emitters"] = True


def settings() -> dict[str, str]:
    """Environment variables for the tests and all processes that they start. What XLA_FLAGS sets already is kept."""
    flags = os.environ.get("XLA_FLAGS", "")
    fast = [flag for flag in FAST if flag.partition("=")[0] not in flags]
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": " ".join([flags, *fast]).strip(),
    }


def folder() -> Path:
    """One folder per version of jaxlib and kind of CPU, since machine code for one CPU may not run on another."""
    cpu = Path("/proc/cpuinfo")
    features = re.search(r"^(flags|Features)\s*:.*", cpu.read_text(), re.M) if cpu.exists() else None
    key = hashlib.sha256((features.group() if features else "").encode()).hexdigest()[:8]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = f"fwn/tests/jaxlib-{importlib.metadata.version('jaxlib')}-{key}"
    for parent in (home, Path(tempfile.gettempdir())):  # a home may be read-only
        try:
            (parent / name).mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(parent / name, os.W_OK):
            return parent / name
    raise OSError(f"neither {home} nor {tempfile.gettempdir()} can be written to")


def trim(limit: int = LIMIT) -> None:
    """Deletes the oldest programs until the rest takes no more than `limit` bytes, of all versions together."""
    files = [(file.stat(), file) for file in folder().parent.glob("*/*-cache")]
    total = 0
    for stat, file in sorted(files, key=lambda pair: -pair[0].st_mtime):
        total += stat.st_size
        if total > limit:
            file.unlink(missing_ok=True)
