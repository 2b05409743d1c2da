"""fwn.bench: counts of floating-point operations, and the program as a user runs it."""

import importlib
import json
import sys
from functools import partial

import jax
import numpy as np
import pytest
import small

from fwn.evaluation import flops
from fwn.mel import fitted
from fwn.models.blockwise import Blockwise
from fwn.models.flowavenet import FloWaveNet
from fwn.models.weight_forms import unstack
from fwn.systems import build
from fwn.xla import convolution


def of(experiment):
    """(config, system, batch, the parameters' shapes)."""
    config = fitted(importlib.import_module(f"experiments.{experiment}").get_config())
    system, frames = build(config), 16
    batch = {"audio": np.zeros((1, 256 * frames), "float32"), "mel": np.zeros((1, frames, 80), "float32")}
    batch |= {"index": np.zeros(1, "int32")}
    return config, system, batch, jax.eval_shape(partial(system.init, drawn={}), jax.random.key(0), batch)


@pytest.mark.parametrize(
    ("experiment", "mega"),
    [
        ("base", 16.81),
        ("tiny", None),
        ("lite", None),
        ("wavenet_gaussian", 9.48),
        ("clarinet", None),
        ("parallel_wavenet", None),
    ],
)
def test_operations_counted_from_weights(monkeypatch, experiment, mega):
    """The paper's model takes 16.8 million per sample. XLA counts elementwise operations too and finds up to 3% more.

    Convolutions are direct ones here, not Winograd's with half the multiplications (fwn/xla/winograd.py).
    XLA counts one iteration of a loop. So for autoregressive models the parallel pass is compared, and the flows of a
    block are unstacked.
    """
    monkeypatch.setattr(convolution, "MIN_CHANNELS", sys.maxsize)
    config, system, batch, shapes = of(experiment)
    counted = flops.per_sample(shapes, config.model)
    assert flops.per_sample(jax.eval_shape(unstack, shapes), config.model) == counted
    if mega is not None:
        assert counted / 1e6 == pytest.approx(mega, abs=0.01)
    if config.system == "wavenet":
        lowered = jax.jit(system.log_likelihood).lower(shapes, batch["audio"], batch["mel"])
    else:
        shapes = jax.eval_shape(unstack, shapes)
        lowered = jax.jit(system.sample).lower(shapes, batch["mel"], jax.random.split(jax.random.key(0), 1), 0.8)
    by_xla = lowered.cost_analysis()["flops"] / batch["audio"].size
    assert 0.98 < by_xla / counted < 1.04


def test_lite_is_small():
    """At most 10 million parameters and 2.5 MFLOP per sample."""
    config, _, _, shapes = of("lite")
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 9_449_970 <= 10e6
    assert flops.per_sample(shapes, config.model) == pytest.approx(1.3260e6, rel=1e-4)


def test_products_with_frames_are_counted_at_their_rate():
    """Counted by hand: two blocks of one flow each, a prior between them, 10 mel bands, hop 8."""
    sizes = {"channels": (5, 7), "prior_channels": 3, "n_layer": 1, "prior_layer": 1, "block_per_split": 1}
    model = FloWaveNet(2, 1, **sizes, conditioner="frames", conditioner_channels=4, upsample_strides=(2, 4))
    x, mel = np.zeros((1, 32, 1), "float32"), np.zeros((1, 4, 10), "float32")
    shapes = jax.eval_shape(partial(model.init, method="forward"), jax.random.key(0), x, mel)["params"]

    def net(width, inputs, outputs):
        """Products per position: front, filter and gate, skip, final, out."""
        return 3 * inputs * width + 3 * width * 2 * width + width * width + width * width + width * outputs

    by_position = net(5, 1, 2) / 2 + net(3, 1, 2) / 2 + net(7, 1, 2) / 4
    by_frame = 3 * 10 * 4 + 3 * 4 * 4 + 4 * 2 * 5 + 4 * 2 * 3 + 4 * 2 * 7
    assert flops.per_sample(shapes, {"upsample_strides": (2, 4)}) == pytest.approx(2 * (by_position + by_frame / 8))


def test_autoregression_is_counted_at_the_rate_of_its_blocks():
    """Counted by hand: one layer, 2 of 4 coefficients, 10 mel bands, hop 8."""
    sizes = {"coefficients": 2, "block": 4, "channels": 5, "n_layer": 1, "taps": 3}
    model = Blockwise(8, **sizes)
    e, mel = np.zeros((1, 32, 1), "float32"), np.zeros((1, 4, 10), "float32")
    shapes = jax.eval_shape(partial(model.init, method="forward"), jax.random.key(0), e, mel)["params"]
    by_block = 4 * 4 * 5 + 2 * 5 * 10 + 5 * 5 + 5 * 5 + 5 * 4 + 3 * 2 * 2  # front, gates, skip, final, out; matrices
    by_frame = 3 * 10 * 5 + 3 * 5 * 5 + 5 * 10 + 5 * 10 + 10 * 3 * 2 * 2
    counted = flops.per_sample({"autoregression": shapes}, {"upsample_strides": (2, 4), "autoregression": sizes})
    assert counted == pytest.approx(2 * (by_block / 4 + by_frame / 8))


def test_program(corpus, tmp_path):
    """All parts; the figures of a record are consistent."""
    output = tmp_path / "bench.json"
    settings = [flag for flag in small.config_flags(corpus) if "batch_size" not in flag]
    only = [f"--only={part}" for part in ("sampling", "training", "data")]
    more = ["--seconds=0.1", "--batch_size=2", "--repeats=1", f"--data={corpus}", f"--output={output}"]
    result = small.program("fwn.bench", *settings, "--config.batch_size=4", *only, *more)
    assert (result.code, result.err) == (0, ""), result
    found = json.loads(output.read_text())
    assert found["machine"]["backend"] == "cpu"
    assert found["peak_flops_per_second"] > 1e9
    sampling, training, data = found["records"]
    assert [r["what"] for r in found["records"]] == ["sampling", "training step", "data"]
    for record, samples in ((sampling, 2 * 9 * small.HOP), (training, 4 * 8 * small.HOP)):
        assert record["samples_per_second"] == pytest.approx(samples / record["seconds"])
        assert record["share_of_peak"] == pytest.approx(record["flops_per_second"] / found["peak_flops_per_second"])
        assert record["memory_bytes"] > 0
    assert data["batch"] == 4
    result = small.program("fwn.bench", *small.config_flags(corpus), "--only=data")
    assert (result.code, "name it: --data=DIR" in result.err) == (1, True), result
