"""Only programs for CPUs have the workarounds for CPUs, only programs for GPUs the forms for GPUs, which are equal.

Checked by lowering, without a device. The forms for GPUs run on the CPU here.
"""

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from fwn.evaluation import measure
from fwn.flows import prediction
from fwn.mel import PRESETS
from fwn.models.weight_forms import ready
from fwn.nn import upsample
from fwn.synthesis.vocoder import Vocoder
from fwn.systems import build
from fwn.training.checkpoints import Run
from fwn.training.step import complete, train_step
from fwn.xla import convolution, layout, options, scheduling, sums

USERS = {  # the files that call each
    "on_cpu": (convolution, prediction, scheduling, sums),
    "on_gpu": (convolution, prediction, scheduling, upsample),
}


def operations(text):
    """The arithmetic operations in order, without names.

    The choice of a platform leaves unused constants and a `case` with one branch in a program; these are left out.
    """
    arithmetic = re.compile(r'= "?stablehlo\.(?!constant|case|while|return)')
    return [re.sub(r"[%@][\w#.]+", "%", line.strip()) for line in text.splitlines() if arithmetic.search(line)]


def plain(workaround, other, *args):
    return other(*args)


@cache
def texts(platform, without=None, known=None):
    """`lowered` for a platform; without: as if that chooser always took the plain form."""
    with pytest.MonkeyPatch.context() as patch:
        for module in USERS.get(without, ()):
            patch.setattr(module, without, plain)
        return lowered(platform, known)


def lowered(platform, known):
    """The lowered programs of sampling and of a training step that uses every workaround.

    known: the platform for which the step is traced; None: the choice is left to its lowering.
    """
    config = small.config("data", ema_decay=0.9)
    config.model.update({"channels": 128, "n_flow": 2, "gradient": "remat"})
    system = build(config)
    batch = measure.synthetic(2, 8, PRESETS["flowavenet"], 0, system)
    params = jax.eval_shape(lambda batch: system.init(jax.random.key(0), batch, {}), batch)
    state = jax.eval_shape(partial(complete, config), params)
    step = train_step(system, config, known)
    step = partial(step, mean=lambda g: lambda p, f, b, k: g(p, f, b | {"other": b["mel"]}, k))
    jax.clear_caches()
    trained = jax.jit(step).trace(state, (), batch).lower(lowering_platforms=(platform,)).as_text()
    keys = jax.random.split(jax.random.key(0), 2)
    args = params, batch["mel"], keys, 0.8, np.array([8, 8]), jnp.zeros((), int)
    sampled = jax.jit(system.sample).trace(*args).lower(lowering_platforms=(platform,)).as_text()
    return trained, sampled


@pytest.mark.parametrize(
    ("chooser", "platform", "equal"),
    [
        ("on_cpu", "cuda", True),
        ("on_cpu", "tpu", True),
        ("on_cpu", "cpu", False),
        ("on_gpu", "cuda", False),
        ("on_gpu", "tpu", True),
        ("on_gpu", "cpu", True),
    ],
)
def test_programs_have_what_is_for_their_platform_only(chooser, platform, equal):
    for with_them, without in zip(texts(platform), texts(platform, chooser), strict=True):
        assert (operations(with_them) == operations(without)) == equal


@pytest.mark.parametrize(("known", "platform"), [("cpu", "cpu"), ("gpu", "cuda"), ("tpu", "tpu")])
def test_a_step_traced_for_one_platform_is_that_lowered_for_it(known, platform):
    ours, theirs = (sorted(operations(texts(platform, known=name)[0])) for name in (known, None))
    assert ours == theirs
    others = sorted(operations(texts("tpu" if platform == "cpu" else "cpu")[0]))
    assert ours != others


MODELS = {
    "squeezed": {"n_block": 3, "n_layer": 2},
    "frames, odd": {"conditioner": "frames", "n_flow": 3, "n_layer": 2, "odd": True},
    "frames, in half precision": {"conditioner": "frames", "n_layer": 2, "dtype": "bfloat16"},
}


def for_gpus(workaround, other, *args):
    return workaround(*args)


@pytest.mark.parametrize("fields", MODELS.values(), ids=MODELS)
def test_a_step_as_for_a_gpu_is_the_same(fields, x64, monkeypatch):
    """Loss, its gradients (Adam's first moments) and the norm of these."""
    config = small.config("data")
    config.model.update(fields)
    system, rng = build(config), np.random.default_rng(3)
    batch = measure.synthetic(2, 8, PRESETS["flowavenet"], 0, system)
    shapes = jax.eval_shape(lambda batch: system.init(jax.random.key(0), batch, {}), batch)
    params = jax.tree.map(lambda a: 0.2 * rng.normal(size=a.shape) + 0.1, shapes)
    state, found = complete(config, params), {}
    for platform in ("cpu", "gpu"):
        if platform == "gpu":
            for module in USERS["on_gpu"]:
                monkeypatch.setattr(module, "on_gpu", for_gpus)
        step = partial(train_step(system, config, platform), mean=lambda g: lambda p, f, b, k: g(p, f, b, k))
        after, metrics = jax.jit(step)(state, (), batch)
        found[platform] = after.opt[0].mu, metrics["loss"], metrics["gradient_norm"]
    each = [[np.asarray(a, np.float64).ravel() for a in jax.tree.leaves(found[name])] for name in ("gpu", "cpu")]
    if "dtype" in fields:  # 8 bits: two biases are added before they are rounded, not after
        each = [[np.concatenate(leaves[:-2])] for leaves in each]
    for a, b in zip(*each, strict=True):
        assert np.linalg.norm(a - b) <= (1e-2 if "dtype" in fields else 1e-9) * np.linalg.norm(b)
    assert float(found["cpu"][2]) > 0


def test_weights_are_cast_only_where_the_networks_do():
    """Kernels and biases of the flows' and priors' networks, and the audio made with them is the same."""
    config = small.config("data")
    config.model.update({"conditioner": "frames", "dtype": "bfloat16"})
    system = build(config)
    batch = measure.synthetic(1, 8, PRESETS["flowavenet"], 0, system)
    params = jax.jit(lambda batch: system.init(jax.random.key(0), batch, {}))(batch)
    cast, whole = ready(params, "bfloat16"), ready(params)
    for (path, a), b in zip(jax.tree.leaves_with_path(cast), jax.tree.leaves(whole), strict=True):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        networks = re.fullmatch(r"block_\d+/(flows/\d+|prior)/net/\w+/(kernel|bias)", name)
        assert a.dtype == ("bfloat16" if networks else "float32"), name
        np.testing.assert_array_equal(np.asarray(a, np.float32), np.asarray(b.astype(a.dtype), np.float32))
    args = batch["mel"], jax.random.split(jax.random.key(1), 1), 0.8
    np.testing.assert_allclose(jax.jit(system.sample)(cast, *args), jax.jit(system.sample)(whole, *args), atol=1e-4)


def test_a_vocoder_keeps_the_weights_as_they_were_trained():
    """Exports are made of them; only the programs that sample have them cast."""
    config = small.config("data")
    config.model.update({"dtype": "bfloat16"})
    system = build(config)
    batch = measure.synthetic(1, 8, PRESETS["flowavenet"], 0, system)
    params = jax.eval_shape(lambda batch: system.init(jax.random.key(0), batch, {}), batch)
    params = jax.tree.map(lambda a: np.full(a.shape, 0.1, np.float32), params)
    vocoder = Vocoder(Run(config, PRESETS["flowavenet"], params, 0))
    assert {a.dtype for a in jax.tree.leaves(vocoder.params)} == {np.dtype("float32")}


def test_layouts_change_no_result():
    """Kernels of several taps lie otherwise in memory; no other weights, and none for other platforms."""
    config = small.config("data")
    system = build(config)
    batch = measure.synthetic(1, 8, PRESETS["flowavenet"], 0, system)
    params = ready(jax.jit(lambda batch: system.init(jax.random.key(0), batch, {}))(batch))
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    moved = jax.device_put(params, layout.formats(params, place, "gpu"))
    other = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, a in jax.tree.leaves_with_path(moved)
        if a.format.layout.major_to_minor != tuple(range(a.ndim))
    }
    assert "block_0/flows/0/net/dilated_0/kernel" in other
    assert all(name.endswith("/kernel") for name in other)
    assert all(a is place for a in jax.tree.leaves(layout.formats(params, place, "tpu")))
    args = batch["mel"], jax.random.split(jax.random.key(1), 1), 0.8
    np.testing.assert_allclose(
        jax.jit(system.sample)(moved, *args), jax.jit(system.sample)(params, *args), rtol=0, atol=1e-6
    )


def test_compiler_options_are_for_cpus_only():
    assert options.training_step("cpu")
    assert not options.training_step("cuda")
    assert not options.training_step("tpu")


@pytest.mark.parametrize("chooser", USERS)
def test_every_file_with_forms_for_a_platform_is_tested_here(chooser):
    using = {path for path in (small.ROOT / "fwn").rglob("*.py") if re.search(rf"\b{chooser}[(,]", path.read_text())}
    tested = {small.ROOT.joinpath(*module.__name__.split(".")).with_suffix(".py") for module in USERS[chooser]}
    assert using == tested | {small.ROOT / "fwn" / "xla" / "platform.py"}
