"""A function of JAX as the same function in fewer kinds of operation: those that converters to ONNX know.

It is traced, and each equation is computed again, but for these:
- convolutions have the layout NCH or NCHW, with transposes around them (fwn's have NHC)
- scans that run backwards, and scans of one step, are unrolled
- FFTs of real arrays, and their inverses of real spectra, are products with a matrix
- triangular systems are solved by an inverse that is made of products (`inverse`)
- where there is code for a platform, it is that of no platform
- functions with gradients of their own are these functions
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal, jaxpr_as_fun
from jax.scipy.fft import dct, idct

from fwn.models import blockwise
from fwn.systems import System

Array = jax.Array
CALLS = {"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "remat2", "checkpoint"}


class Complex(NamedTuple):
    """A complex array as two real ones; im None: zero."""

    re: Any
    im: Any


def plain(function: Callable[..., Any], *shapes: Any) -> Callable[..., Any]:
    """The function in the operations above, for arguments of these shapes.

    It is traced here and not later, because jax2onnx changes functions of jax.numpy while it traces.
    """
    closed = jax.make_jaxpr(function)(*shapes)
    simple = jax.make_jaxpr(lambda *args: _run(closed.jaxpr, closed.consts, args))(*shapes)
    return jaxpr_as_fun(simple)


def plain_decode(system: System, params: Any, *shapes: Any) -> Callable[..., Any]:
    """`plain` of System.decode (mel, noise, temperature), with its cosine transforms as products with a matrix too."""

    def decode(mel: Any, noise: Any, temperature: Any) -> Any:
        return system.decode(params, mel, noise, temperature)

    with mock.patch.object(blockwise, "dct", _by_matrix(dct)), mock.patch.object(blockwise, "idct", _by_matrix(idct)):
        return plain(decode, *shapes)


def _by_matrix(transform: Callable[..., Any]) -> Callable[..., Any]:
    """A linear transform of the last axis as a product with its matrix."""

    def product(x: Array, norm: str) -> Array:
        with jax.ensure_compile_time_eval():
            matrix = np.asarray(transform(jnp.eye(x.shape[-1], dtype=x.dtype), norm=norm))
        return x @ matrix

    return product


def inverse(lower: Array) -> Array:
    """The inverse of lower triangular matrices [..., N, N] with ones on the diagonal, by blocks of half the size."""
    n = lower.shape[-1]
    if n == 1:
        return jnp.ones_like(lower)
    half = n // 2
    first, last = inverse(lower[..., :half, :half]), inverse(lower[..., half:, half:])
    beside = jnp.zeros((*lower.shape[:-2], half, n - half), lower.dtype)
    below = -(last @ lower[..., half:, :half] @ first)
    return jnp.concatenate(
        [jnp.concatenate([first, beside], axis=-1), jnp.concatenate([below, last], axis=-1)], axis=-2
    )


def _run(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    values = dict(zip(jaxpr.constvars, consts, strict=True)) | dict(zip(jaxpr.invars, args, strict=True))

    def read(name: Any) -> Any:
        return name.val if isinstance(name, Literal) else values[name]

    for equation in jaxpr.eqns:
        values |= zip(equation.outvars, _equation(equation, [read(name) for name in equation.invars]), strict=True)
    return [read(name) for name in jaxpr.outvars]


def _equation(equation: Any, args: list[Any]) -> Sequence[Any]:
    name, how = equation.primitive.name, equation.params
    if name in CALLS:
        inner = next(how[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in how)
        return _run(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), args)
    if name == "platform_index":
        return [len(how["platforms"]) - 1]  # that of lax.platform_dependent's default
    if name == "cond" and isinstance(args[0], int):
        branch = how["branches"][args[0]]
        return _run(branch.jaxpr, branch.consts, args[1:])
    if name == "scan":
        return _scan(how, args)
    if name == "conv_general_dilated":
        return [_convolution(how, *args)]
    if name == "triangular_solve":
        assert how["left_side"], how
        assert how["lower"], how
        assert how["unit_diagonal"], how
        assert not how["transpose_a"], how
        return [inverse(args[0]) @ args[1]]
    if name == "convert_element_type" and np.dtype(how["new_dtype"]).kind == "c":
        return [Complex(args[0], None)]
    if name == "fft":
        return [_fft(args[0], how["fft_lengths"][0])]
    if args and isinstance(args[0], Complex):
        if name in ("real", "imag"):
            return [args[0].re if name == "real" else args[0].im]
        assert len(args) == 1, name
        return [Complex(*(None if part is None else equation.primitive.bind(part, **how) for part in args[0]))]
    result = equation.primitive.bind(*args, **how)
    return result if equation.primitive.multiple_results else [result]


def _scan(how: dict[str, Any], args: list[Any]) -> list[Any]:
    n, n_carry, inner = how["num_consts"], how["num_carry"], how["jaxpr"]
    consts, carry, inputs = args[:n], args[n : n + n_carry], args[n + n_carry :]

    def body(carry: Any, inputs: Any) -> tuple[list[Any], list[Any]]:
        out = _run(inner.jaxpr, inner.consts, [*consts, *carry, *inputs])
        return out[:n_carry], out[n_carry:]

    if not how["reverse"] and how["length"] > 1:
        carry, outputs = lax.scan(body, list(carry), list(inputs), length=how["length"])
        return [*carry, *outputs]
    rows: list[Any] = []
    for i in range(how["length"])[:: -1 if how["reverse"] else 1]:
        carry, row = body(carry, [a[i] for a in inputs])
        rows.append(row)
    ordered = rows[::-1] if how["reverse"] else rows
    return [*carry, *(jnp.stack(each) for each in zip(*ordered, strict=True))]


def _convolution(how: dict[str, Any], x: Array, kernel: Array) -> Array:
    layout = how["dimension_numbers"]
    names = ("NCH", "OIH", "NCH") if x.ndim == 3 else ("NCHW", "OIHW", "NCHW")
    settings: Any = {key: how[key] for key in ("window_strides", "padding", "lhs_dilation", "rhs_dilation")}
    y = lax.conv_general_dilated(
        x.transpose(layout.lhs_spec), kernel.transpose(layout.rhs_spec), dimension_numbers=names, **settings
    )
    return y.transpose(np.argsort(layout.out_spec))


def _fft(x: Any, n: int) -> Any:
    """Along the last axis: of n real numbers, or the inverse to n real numbers of a spectrum with no imaginary part."""
    bins = np.arange(n // 2 + 1)
    angle = 2 * np.pi * np.outer(np.arange(n), bins) / n
    if not isinstance(x, Complex):
        return Complex(x @ jnp.asarray(np.cos(angle), x.dtype), -x @ jnp.asarray(np.sin(angle), x.dtype))
    assert x.im is None
    twice = np.where((bins == 0) | (2 * bins == n), 1, 2)[:, None]  # all bins but the first and the last occur twice
    return x.re @ jnp.asarray(twice * np.cos(angle).T / n, x.re.dtype)
