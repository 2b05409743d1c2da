"""Programs for GPUs and TPUs have no workarounds for XLA on CPUs. Checked by lowering, without a device."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from fwn.evaluation import measure
from fwn.flows import prediction
from fwn.mel import PRESETS
from fwn.systems import build
from fwn.training.step import complete, train_step
from fwn.xla import convolution, options, scheduling, sums

USERS = (convolution, prediction, scheduling, sums)  # the files that call `on_cpu`


def operations(text):
    """The arithmetic operations in order, without names.

    The choice of a platform leaves unused constants and a `case` with one branch in a program; these are left out.
    """
    arithmetic = re.compile(r'= "?stablehlo\.(?!constant|case|while|return)')
    return [re.sub(r"[%@][\w#.]+", "%", line.strip()) for line in text.splitlines() if arithmetic.search(line)]


def plain(workaround, other, *args):
    return other(*args)


def texts(platform):
    """The lowered programs of sampling and of a training step that uses every workaround."""
    config = small.config("data", ema_decay=0.9)
    config.model.update({"channels": 128, "n_flow": 2, "gradient": "remat"})
    system = build(config)
    batch = measure.synthetic(2, 8, PRESETS["flowavenet"], 0, system)
    params = jax.eval_shape(lambda batch: system.init(jax.random.key(0), batch, {}), batch)
    state = jax.eval_shape(partial(complete, config), params)
    step = partial(train_step(system, config), mean=lambda g: lambda p, f, b, k: g(p, f, b | {"other": b["mel"]}, k))
    jax.clear_caches()
    trained = jax.jit(step).trace(state, (), batch).lower(lowering_platforms=(platform,)).as_text()
    keys = jax.random.split(jax.random.key(0), 2)
    args = params, batch["mel"], keys, 0.8, np.array([8, 8]), jnp.zeros((), int)
    sampled = jax.jit(system.sample).trace(*args).lower(lowering_platforms=(platform,)).as_text()
    return trained, sampled


@pytest.mark.parametrize(("platform", "equal"), [("cuda", True), ("tpu", True), ("cpu", False)])
def test_only_programs_for_cpus_have_workarounds(platform, equal, monkeypatch):
    ours = texts(platform)
    for module in USERS:
        monkeypatch.setattr(module, "on_cpu", plain)
    for with_them, without in zip(ours, texts(platform), strict=True):
        assert (operations(with_them) == operations(without)) == equal


def test_compiler_options_are_for_cpus_only():
    assert options.training_step("cpu")
    assert not options.training_step("cuda")
    assert not options.training_step("tpu")


def test_every_file_with_a_workaround_is_tested_here():
    using = {path for path in (small.ROOT / "fwn").rglob("*.py") if "on_cpu(" in path.read_text()}
    tested = {small.ROOT.joinpath(*module.__name__.split(".")).with_suffix(".py") for module in USERS}
    assert using == tested | {small.ROOT / "fwn" / "xla" / "platform.py"}
