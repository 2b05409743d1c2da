"""Silences C libraries: libmpg123, inside libsndfile, prints dozens of lines on stderr for a damaged mp3."""

import contextlib
import os
import threading
from collections.abc import Iterator

_lock = threading.Lock()  # two threads would restore each other's stderr


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What is written to the process's stderr inside the block is lost; exceptions are not."""
    with _lock:
        try:
            kept = os.dup(2)
        except OSError:  # the process has no stderr
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
