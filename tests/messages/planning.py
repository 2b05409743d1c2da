"""Errors of fwn.plan. No compiler for GPUs or TPUs is needed."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
from jax.experimental import topologies

from fwn.planning import programs, targets
from fwn.shipped import experiment

from . import PLAN, Place, Row

UNUSED: Any = None  # a refused config needs no system and no mel
START = "--config=tiny --target=h100"
EXAMPLES = "as in h100, h200:8, a100:2x8 (hosts × devices), v5e:2x4, v5p:4x4x4"


def without_compiler(_: Place) -> Any:
    return mock.patch.object(targets, "find_spec", return_value=None)


@contextlib.contextmanager
def no_room(_: Place) -> Iterator[None]:
    """Devices, and a compiler that finds too little memory on them for any batch."""
    with (
        mock.patch.object(targets, "devices", return_value=[None]),
        mock.patch.object(programs, "training", side_effect=programs.TooLarge("'no memory'")),
    ):
        yield


def no_such_slice(_: Place) -> Any:
    with (
        mock.patch.object(targets, "find_spec"),
        mock.patch("jax.config.update"),
        mock.patch.dict("os.environ"),
        mock.patch.object(topologies, "get_topology_desc", side_effect=jax.errors.JaxRuntimeError("no 3x3")),
    ):
        return targets.devices(targets.target("v5e:3x3"))


def local_devices_only(_: Place) -> Any:
    config = experiment("tiny")
    config.parallel = "pmap"
    return programs.training(UNUSED, config, UNUSED, [])


def a_student(_: Place) -> Any:
    return programs.training(UNUSED, experiment("tiny_clarinet"), UNUSED, [])


def broken_compiler(_: Place) -> Any:
    """It fails as that of jaxlib 0.10.2 does for lite on an A100."""
    traced = mock.Mock()
    traced.return_value.lower.return_value.compile.side_effect = jax.errors.JaxRuntimeError("INTERNAL: no tile sizes")
    return programs.compiled(traced, "gpu", {})


ROWS = [
    Row(PLAN, "--target=h100", "--config is missing; give it (--help lists the flags)", code=2),
    Row(PLAN, "--config=tiny", "--target is missing; give it (--help lists the flags)", code=2),
    Row(PLAN, f"{START} more", "unexpected argument 'more': all settings are flags (--help lists them)"),
    Row(
        PLAN,
        "--config=tiny --target=h1000",
        f"--target='h1000': there are a100, h100, h200, v5e, v5p; did you mean 'h100'?; {EXAMPLES}",
    ),
    Row(PLAN, "--config=tiny --target=v5e", f"--target='v5e': its devices are to follow the name, {EXAMPLES}"),
    Row(
        PLAN,
        "--config=tiny --target=h100:12",
        f"--target='h100:12': 12 devices are no full hosts of 8; give hosts × devices, {EXAMPLES}",
    ),
    Row(
        PLAN,
        "--config=tiny --target=h100:2x2x2",
        f"--target='h100:2x2x2': three numbers; GPUs have hosts × devices, {EXAMPLES}",
    ),
    Row(
        PLAN,
        START,
        "--target=h100: XLA's compiler for it is missing (jax_cuda13_plugin); install it, in an environment of its "
        "own: pip install 'fwn[plan-gpu]'",
        without_compiler,
    ),
    Row(
        PLAN,
        "--config=tiny --target=v5e:2x4",
        "--target=v5e:2x4: XLA's compiler for it is missing (libtpu); install it, in an environment of its own: "
        "pip install 'fwn[plan-tpu]'",
        without_compiler,
    ),
    Row(
        PLAN,
        f"{START} --what=sample --price=2",
        "--price is for training; leave it out with --what=sample",
    ),
    Row(PLAN, f"{START} --what=sample --seconds=nan", "--seconds=nan: not a finite number; give one"),
    Row(PLAN, f"{START} --price=inf", "--price=inf: not a finite number; give one"),
    Row(
        PLAN,
        f"{START} --batch_size=8",
        "--target=h100: a batch of 8 does not fit, the compiler ran out of memory ('no memory'); give a smaller "
        "--batch_size, or --largest_batch",
        no_room,
    ),
    Row(
        PLAN,
        f"{START} --largest_batch",
        "--target=h100: no batch fits, not even 1; give larger or more devices",
        no_room,
    ),
    Row(no_such_slice, "", f"--target=v5e:3x3: XLA knows no such slice ('no 3x3'); give another, {EXAMPLES}"),
    Row(
        local_devices_only,
        "",
        "config.parallel is 'pmap', which compiles for devices at hand only; give --config.parallel=jit, whose devices "
        "do the same work",
    ),
    Row(
        broken_compiler,
        "",
        "XLA cannot compile this program for a gpu ('INTERNAL: no tile sizes'); try "
        "XLA_FLAGS=--xla_gpu_enable_triton_gemm=false",
    ),
    Row(a_student, "", "config.system is 'clarinet', which learns from a teacher; give --what=sample"),
]
