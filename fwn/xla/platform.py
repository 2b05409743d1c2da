"""Chooses a workaround or plain code by the platform that a program is lowered for, not by the default backend."""

from collections.abc import Callable
from typing import Any

from jax import lax


def on_cpu(workaround: Callable[..., Any], plain: Callable[..., Any], *args: Any) -> Any:
    """workaround(*args) in programs lowered for CPUs, plain(*args) in programs for other platforms."""
    return lax.platform_dependent(*args, cpu=workaround, default=plain)
