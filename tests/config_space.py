"""Configs drawn from all that can be written: the validator refuses one by name, or it builds, trains and is kept.

tests/test_config_space.py runs a few, `python tests/chaos.py --configs=200` many.
"""

import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
from hypothesis import strategies as st
from ml_collections import ConfigDict

from fwn import config as configs
from fwn.errors import UserError
from fwn.evaluation.measure import synthetic
from fwn.nn.conv import draw
from fwn.nn.weight_norm import fold_weight_norm
from fwn.shipped import experiment
from fwn.systems import build
from fwn.training import checkpoints
from fwn.training.parallel import Parallel
from fwn.training.step import compiled_step, initial

INVERSE = 1e-3  # of full scale, of networks in float32 with initial weights; a step of learning rate 1 may ruin it
SYSTEMS = {"flowavenet": "tiny", "wavenet": "tiny_wavenet", "clarinet": "tiny_clarinet"}
SYSTEMS |= {"parallel_wavenet": "tiny_parallel_wavenet"}
SIZE, EVEN = st.sampled_from([1, 2, 3, 4, 6, 8]), st.sampled_from([2, 4, 6, 8])
ODD = st.sampled_from([0, -1, 1.5, "8", None, True, [8], [4, 0], 2**40, float("nan")])  # mostly wrong
WAVENET = {
    "channels": SIZE,
    "n_layer": st.integers(1, 3),
    "n_stack": st.integers(1, 2),
    "kernel_size": st.integers(1, 3),
    "front_kernel": st.integers(1, 4),
    "gate_channels": st.none() | SIZE,
    "skip_channels": st.none() | SIZE,
    "dtype": st.sampled_from([None, "float32", "bfloat16", "float16"]),
}
FLOW = {
    "n_block": st.integers(0, 3),
    "n_flow": st.integers(1, 2),
    "n_layer": st.integers(1, 2),
    "channels": EVEN,
    "block_per_split": st.integers(1, 3),
    "prior_layer": st.integers(1, 2),
    "prior_channels": EVEN,
    "conditioner": st.sampled_from(["squeezed", "frames"]),
    "conditioner_channels": SIZE,
    "upsample_init": st.sampled_from(["linear", "random"]),
    "causal": st.booleans(),
    "odd": st.booleans(),
    "s_max": st.none() | st.sampled_from([1e-3, 1.0, 1e6]),
    "dtype": st.sampled_from([None, "float32", "bfloat16"]),
    "gradient": st.sampled_from(["plain", "remat", "invert"]),
}
PREDICTION = {"order": st.sampled_from([0, 12, 24]), "first_order": st.integers(1, 11), "channels": SIZE}
PREDICTION |= {"subframe": st.sampled_from([32, 64, 256])}
AUTOREGRESSION = {"coefficients": st.integers(0, 4), "block": st.sampled_from([4, 16, 32]), "channels": SIZE}
AUTOREGRESSION |= {"n_layer": st.integers(1, 2), "taps": st.integers(0, 3)}
OPTIMIZER = {
    "kind": st.sampled_from(["adam", "muon"]),
    "learning_rate": st.sampled_from([1e-8, 1e-4, 1e-2, 1]),
    "warmup": st.integers(0, 3),
    "halve_every": st.integers(1, 3),
    "max_grad_norm": st.sampled_from([1e-6, 1.0, float("inf")]),
}
OUTSIDE = {
    "frames": st.integers(1, 9),
    "batch_size": st.sampled_from([4, 8]),
    "dequantise": st.booleans(),
    "seed": st.sampled_from([0, 7, 2**32 - 1]),
    "ema_decay": st.sampled_from([0.0, 0.5, 0.9999]),
    "parallel": st.sampled_from(["jit", "zero", "pmap"]),
}


@st.composite
def drawn(draw_: Any) -> dict[str, Any]:
    """{field with dots: value} on top of the small experiment of `system`; one in four has a value of another type."""
    system = draw_(st.sampled_from(["flowavenet"] * 3 + ["wavenet", "clarinet", "parallel_wavenet"]))
    model = FLOW if system == "flowavenet" else WAVENET
    space = {f"model.{name}": values for name, values in model.items()}
    if system in ("clarinet", "parallel_wavenet"):
        del space["model.n_stack"]
        space["model.stacks"] = st.lists(st.integers(1, 2), min_size=1, max_size=2)
    else:
        space |= {f"model.prediction.{name}": values for name, values in PREDICTION.items()}
    if system == "flowavenet":
        space |= {f"model.autoregression.{name}": values for name, values in AUTOREGRESSION.items()}
    if system == "wavenet":
        space["model.distribution"] = st.sampled_from(["gaussian", "mixture_of_logistics"])
    space |= {f"optimizer.{name}": values for name, values in OPTIMIZER.items()} | OUTSIDE
    found = {"system": system} | {name: draw_(values) for name, values in space.items()}
    if "model.n_block" in found and draw_(st.booleans()):
        found["model.channels"] = draw_(st.lists(EVEN, min_size=max(1, found["model.n_block"]), max_size=3))
    if "model.prediction.order" in found and not found["model.prediction.order"]:
        found.pop("model.autoregression.coefficients", None)
    if found.get("model.distribution") == "mixture_of_logistics":
        found["model.prediction.order"] = 0
    if draw_(st.integers(0, 3)) == 0:
        found[draw_(st.sampled_from(sorted(space)))] = draw_(ODD)
    return found


def made(fields: dict[str, Any]) -> ConfigDict:
    """The config of drawn fields."""
    values = experiment(SYSTEMS[fields["system"]]).to_dict()
    for name, value in fields.items():
        *above, last = name.split(".")
        node = values
        for part in above:
            node = node.setdefault(part, {})
        node[last] = tuple(value) if isinstance(value, list) else value
    return ConfigDict(values)


def teacher_of(config: ConfigDict) -> tuple[Any, Any]:
    """(config, plain weights) of a small teacher of a student, or (None, ())."""
    if not config.loss:
        return None, ()
    name = "tiny_wavenet" if config.system == "clarinet" else "tiny_wavenet_mol"
    teacher = experiment(name)
    teacher.model.update({"channels": 4, "n_layer": 2, "gate_channels": 4, "skip_channels": 4})
    system = build(teacher)
    batch = synthetic(4, 2, configs.mel_of(teacher), 0, system)
    drawn = draw(jax.eval_shape(system.init, jax.random.key(0), batch, {}), np.random.default_rng(0))
    return teacher, jax.device_get(fold_weight_norm(system.init(jax.random.key(0), batch, drawn)))


def end_of(fields: dict[str, Any], workdir: Path) -> str:
    """ "refused" in one line that names a field, or "trained": also inverted, saved and read. Otherwise it raises."""
    config = made(fields)
    try:
        mel = configs.mel_of(config)
        configs.check(config, mel, "config")
        build(config, mel=mel)
        parallel = Parallel(config.parallel, config.batch_size)
    except UserError as error:
        said = str(error)
        assert "\n" not in said, said
        assert any(name.rpartition(".")[2] in said for name in fields), said
        return "refused"
    teacher, frozen = teacher_of(config)
    system = build(config, teacher, mel)
    frozen = parallel.replicate(frozen)
    batch = synthetic(config.batch_size, config.frames, mel, 0, system)
    state = initial(system, config, parallel, batch, frozen)
    if system.roundtrip is not None and fields.get("model.dtype") in (None, "float32"):
        plain = fold_weight_norm(jax.device_get(parallel.global_arrays(state).split()[0]))
        back = jax.jit(system.roundtrip)(plain, batch["audio"], batch["mel"])
        error = float(np.abs(np.asarray(back, np.float32) - batch["audio"]).max())
        assert error < INVERSE, error
    step = compiled_step(system, config, parallel, state, batch, frozen)
    state, metrics = step(state, frozen, parallel.batch(batch))
    assert np.isfinite(float(metrics["loss"])), metrics
    # float16 has no scaling of the loss: a gradient may overflow, and the step is then skipped
    assert int(metrics["skipped"]) == 0 or fields.get("model.dtype") == "float16", metrics
    weights, rest = parallel.global_arrays(state).split()
    shutil.rmtree(workdir, ignore_errors=True)
    kept = checkpoints.Checkpoints(workdir, config, mel)
    kept.save(1, weights, rest, 1.0)
    kept.wait()
    loaded = kept.load(1, weights, rest)
    kept.close()
    configs.write(workdir, config, mel)
    for there, here in ((loaded, (weights, rest)), (checkpoints.read(workdir).params, weights)):
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(there), jax.device_get(here))
    assert configs.plain(configs.read(workdir)[0]) == configs.plain(config)
    return "trained"
