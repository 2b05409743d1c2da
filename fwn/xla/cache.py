"""JAX's cache of compiled programs, with entries that are whole or absent.

JAX writes an entry in place and never replaces it. Killed meanwhile, it would compile that program anew, with a
warning, at every later start.
"""

import importlib
import os
from pathlib import Path
from typing import Any


def enable() -> None:
    """Sets JAX's compilation cache to ~/.cache/fwn/compiled, so that a program compiles only when it first runs.

    JAX_COMPILATION_CACHE_DIR names another folder, or "" for no cache. One that is set already is kept. Without a
    writable folder there is no cache.
    """
    write_atomically()
    config = importlib.import_module("jax").config  # not at the top: some programs never import it
    if config.values["jax_compilation_cache_dir"] is not None:
        return
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fwn" / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        config.update("jax_compilation_cache_dir", str(folder))


def write_atomically() -> None:
    """Changes how this process writes entries. A cache with a limit of size, or on a remote disk, stays as it is."""
    cache = importlib.import_module("jax._src.lru_cache").LRUCache  # as of jax 0.10 to 0.12, which setup.cfg names
    in_place = cache.put

    def put(self: Any, key: str, value: bytes) -> None:
        if self.eviction_enabled or not (folder := Path(str(self.path))).is_dir():
            return in_place(self, key, value)
        if not _put(folder, f"{key}-cache", value):
            in_place(self, key, value)

    if in_place.__module__ != __name__:
        cache.put = put


def _put(folder: Path, name: str, value: bytes) -> bool:
    """Writes a file, unless it is there or another process is writing it. A partial one of a killed process is redone.

    False, and nothing is written, where files cannot be locked. fwn.disk.atomic will not do: these files are written by
    many processes at a time.
    """
    import fcntl  # not on Windows, where this can be imported but not run: fwn.posix

    partial = folder / f".{name}.partial"
    with partial.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # of some network file systems
            partial.unlink(missing_ok=True)
            return False
        if (folder / name).exists():  # another process has replaced it since
            partial.unlink(missing_ok=True)
            return True
        try:
            file.truncate(0)
            file.write(value)
            file.flush()
            partial.replace(folder / name)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
    return True
