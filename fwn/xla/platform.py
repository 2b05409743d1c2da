"""Chooses a workaround by the platform that a program is lowered for, never by the process's default backend."""

from collections.abc import Callable
from typing import Any

from jax import lax


def on_cpu(workaround: Callable[..., Any], plain: Callable[..., Any], *args: Any) -> Any:
    """workaround(*args) in a program for the CPU, plain(*args) in one for any other platform."""
    return lax.platform_dependent(*args, cpu=workaround, default=plain)
