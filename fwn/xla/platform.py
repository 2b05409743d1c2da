"""Chooses a workaround or plain code by the platform that a program is lowered for, not by the default backend."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
from jax import lax

_known: ContextVar[str | None] = ContextVar("known", default=None)


@contextmanager
def known(platform: str | None) -> Iterator[None]:
    """What is traced inside is for this platform only ("cpu", "gpu", "tpu"), so that other forms are not traced.

    A step of lite has 600 choices. Not for functions whose traces JAX keeps for other platforms. None: not known.
    """
    token = _known.set(platform)
    try:
        yield
    finally:
        _known.reset(token)


def _chosen(platform: str, workaround: Callable[..., Any], plain: Callable[..., Any], *args: Any, **names: Any) -> Any:
    if (here := _known.get()) is not None:
        return (workaround if here == platform else plain)(*args)
    return lax.platform_dependent(*args, **names, default=plain)


def gradient(form: Callable[..., Any]) -> Callable[..., Any]:
    """(*args, dy) -> the gradient of form(*args) by each of the arguments, for a custom gradient.

    With it the form is chosen in the backward pass again. Autodiff through a choice would keep what either form needs.
    """
    return lambda *args: jax.vjp(form, *args[:-1])[1](args[-1])


def on_gpu(workaround: Callable[..., Any], plain: Callable[..., Any], *args: Any) -> Any:
    """workaround(*args) in programs lowered for GPUs, plain(*args) in programs for other platforms."""
    return _chosen("gpu", workaround, plain, *args, cuda=workaround, rocm=workaround)


def on_cpu(workaround: Callable[..., Any], plain: Callable[..., Any], *args: Any) -> Any:
    """workaround(*args) in programs lowered for CPUs, plain(*args) in programs for other platforms."""
    return _chosen("cpu", workaround, plain, *args, cpu=workaround)
