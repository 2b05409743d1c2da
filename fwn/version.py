"""What `fwn --version` prints: the versions, the git commit, and the devices that JAX finds.

Only the standard library is imported at the top: setup.py uses `commit` where nothing is installed.
"""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from fwn import __version__

HERE = Path(__file__).parent
COMMIT = "commit.txt"  # in fwn/ of a wheel or sdist; setup.py writes it


def report() -> str:
    """Lines: fwn and its commit, Python, JAX, devices. Starts JAX's devices."""
    installed = ", ".join(f"{name} {_installed(name)}" for name in ("jax", "jaxlib"))
    return (
        f"fwn {__version__}, commit {commit()}\nPython {platform.python_version()} on {platform.system()} "
        f"{platform.machine()}\n{installed}\ndevices: {_devices()}"
    )


def commit() -> str:
    """The commit that a wheel or sdist was built from, or that of a checkout, with "-dirty" if files of it are changed.

    "unknown" in a copy of the files without either, and without git.
    """
    recorded = HERE / COMMIT
    if recorded.is_file():
        return recorded.read_text(encoding="utf-8").strip()
    if not (HERE.parent / ".git").exists():  # git would look in the folders above, for another project's
        return "unknown"
    describe = ["git", "-C", str(HERE.parent), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        said = subprocess.run(describe, capture_output=True, text=True)
    except OSError:  # git is not installed
        return "unknown"
    return said.stdout.strip() if said.returncode == 0 else "unknown"


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "is not installed"


def _devices() -> str:
    """Platform, number and kind of the devices, or why there is none."""
    try:
        import jax

        devices = jax.devices()
    except Exception as error:  # of an import or a driver: whatever it is, the versions help to find it
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
        asked = os.environ.get("JAX_PLATFORMS")
        return f"none can be used ({reason}{f'; JAX_PLATFORMS={asked}' if asked else ''})"
    kinds = {device.device_kind: sum(d.device_kind == device.device_kind for d in devices) for device in devices}
    return f"{devices[0].platform}, {', '.join(f'{count} × {kind}' for kind, count in kinds.items())}"
