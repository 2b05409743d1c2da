"""Chooses a workaround or plain code by the platform that a program is lowered for, not by the default backend."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax


def gradient(form: Callable[..., Any]) -> Callable[..., Any]:
    """(*args, dy) -> the gradient of form(*args) by each of the arguments, for a custom gradient.

    With it the form is chosen in the backward pass again. Autodiff through a choice would keep what either form needs.
    """
    return lambda *args: jax.vjp(form, *args[:-1])[1](args[-1])


def on_gpu(workaround: Callable[..., Any], plain: Callable[..., Any], *args: Any) -> Any:
    """workaround(*args) in programs lowered for GPUs, plain(*args) in programs for other platforms."""
    return lax.platform_dependent(*args, cuda=workaround, rocm=workaround, default=plain)


def on_cpu(workaround: Callable[..., Any], plain: Callable[..., Any], *args: Any) -> Any:
    """workaround(*args) in programs lowered for CPUs, plain(*args) in programs for other platforms."""
    return lax.platform_dependent(*args, cpu=workaround, default=plain)
