"""Converted official weights give the results of the official code (golden values: computed by it in float64)."""

import ast
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import small

from fwn.audio import audio_file
from fwn.errors import UserError
from fwn.files import torch_reader
from fwn.flows.densities import normal_log_prob
from fwn.models.autoregressive import from_fields
from fwn.models.flowavenet import FloWaveNet
from fwn.nn.upsample import Upsample
from fwn.nn.weight_norm import fold_weight_norm
from fwn.official import importer
from fwn.training import checkpoints

GOLDEN = Path(__file__).parent / "golden"
CHECKPOINT = GOLDEN / "flowavenet_tiny.pth"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "flowavenet_tiny.npz") as file:
        return dict(file)


@pytest.fixture
def checkpoint() -> dict:
    return torch_reader.read(CHECKPOINT)


def test_architecture(golden, checkpoint):
    system, fields, params, n_mels = importer.flowavenet(checkpoint, "tiny")
    config = ast.literal_eval(str(golden["config"]))
    width = config.pop("filter_size")
    assert config.pop("cin_channels") == n_mels
    config |= {"channels": width, "prior_channels": width, "prior_layer": 2, "upsample_strides": (16, 16)}
    assert (system, fields) == ("flowavenet", config)
    assert sum(w.size for w in jax.tree.leaves(params)) == sum(w.size for w in checkpoint["state_dict"].values())


@pytest.mark.parametrize(("dtype", "likelihood", "audio"), [("float64", 1e-9, 1e-8), ("float32", 1e-5, 1e-3)])
def test_golden(golden, checkpoint, dtype, likelihood, audio):
    _, fields, params, _ = importer.flowavenet(checkpoint, "tiny")
    model = FloWaveNet(**fields)
    with jax.enable_x64(dtype == "float64"):
        params = fold_weight_norm(jax.tree.map(lambda w: w.astype(dtype), params))
        x, c, z = (golden[name].swapaxes(1, 2).astype(dtype) for name in ("x", "c", "z"))

        @partial(jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0})
        def run(method, *args):
            return model.apply({"params": params}, *args, method=method)

        noise, _, logdet = run("forward", x, c)
        ours = (normal_log_prob(noise).sum() + logdet.sum()) / x.size
        assert ours.dtype == dtype
        assert abs(ours - (golden["log_p"] + golden["logdet"])) < likelihood
        for name, temperature in (("reverse", 1.0), ("reverse_t08", 0.8)):
            expected = golden[name].swapaxes(1, 2)
            sample, _ = run("inverse", (temperature * z).astype(dtype), c)
            assert np.abs(sample - expected).max() < audio * np.abs(expected).max()
        upsampled = Upsample(model.upsample_strides).apply({"params": params["upsample"]}, c)
        expected = golden["upsampled"].swapaxes(1, 2)
        assert np.abs(upsampled[..., : expected.shape[-1]] - expected).max() < likelihood


def test_forms(checkpoint):
    """A state dict alone, and one with DataParallel's prefix, give the same weights."""
    weights = checkpoint["state_dict"]
    expected = importer.flowavenet(checkpoint, "tiny")
    for form in (weights, {"state_dict": {f"module.{key}": w for key, w in weights.items()}}):
        found = importer.flowavenet(form, "tiny")
        assert found.fields == expected.fields
        jax.tree.map(np.testing.assert_array_equal, found.params, expected.params)


NET = "blocks.1.flows.0.coupling.net"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({f"{NET}.front_conv.0.conv.bias": None}, f"it lacks {NET}.front_conv.0.conv.bias"),
        ({"blocks.0.flows.0.coupling.net.front_conv.0.conv.weight_v": None}, "it lacks blocks.0.flows.0"),
        ({"blocks.0.flows.0.coupling.net.odd": np.zeros(3)}, "use: blocks.0.flows.0.coupling.net.odd"),
        ({f"{NET}.res_blocks.2.skip_conv.bias": np.zeros(8)}, f"use: {NET}.res_blocks.2.skip_conv.bias"),
        ({f"{NET}.front_conv.0.conv.bias": np.zeros(9)}, rf"shapes of {NET}.front_conv.0.conv.bias \[9\]"),
        ({f"{NET}.final_conv.3.conv.weight": np.zeros((2, 8))}, rf"shapes of {NET}.final_conv.3.conv.weight \[2, 8\]"),
        ({"upsample_conv.2.weight_v": np.zeros((1, 1, 5, 32))}, r"shapes of upsample_conv.2.weight_v \[1, 1, 5, 32\]"),
        ({f"{NET}.front_conv.0.conv.bias": np.full(8, np.nan)}, f"NaN or infinity in {NET}.front_conv.0.conv.bias"),
    ],
)
def test_refused(checkpoint, changes, said):
    weights = {key: w for key, w in (checkpoint["state_dict"] | changes).items() if w is not None}
    with pytest.raises(UserError, match=f"^tiny.pth: .*{said}"):
        importer.flowavenet(weights, "tiny.pth")


@pytest.mark.parametrize(
    ("checkpoint", "said"),
    [
        ({"global_step": 3}, "has no state dict"),
        ({"state_dict": {}}, "has no state dict"),
        ({"encoder.weight": np.zeros(3)}, "lacks blocks.0"),
        ({"iafs.0.front_conv.0.conv.bias": np.zeros(3)}, "is a ClariNet student"),
        ({"state_dict": {"module.res_blocks.0.res_conv.bias": np.zeros(3)}}, "lacks res_blocks.0.filter_conv"),
    ],
)
def test_something_else(checkpoint, said):
    with pytest.raises(UserError, match=f"^other.pth: .*{said}"):
        importer.convert(checkpoint, "other.pth", 1)


def test_clarinet_teacher(x64):
    """Its architecture, and its results to 1e-9: (mean, log_sd) of x without a shift, and their likelihood."""
    with np.load(GOLDEN / "clarinet_tiny.npz") as file:
        golden = dict(file)
    checkpoint = torch_reader.read(GOLDEN / "clarinet_tiny_teacher.pth")
    system, fields, params, n_mels = importer.convert(checkpoint, "teacher", 1)
    config = ast.literal_eval(str(golden["config"]))["teacher"]
    assert (system, n_mels) == ("wavenet", 80)
    assert fields == {
        "distribution": "gaussian",
        "n_stack": config["num_blocks"],
        "n_layer": config["num_layers"],
        "channels": config["residual_channels"],
        "gate_channels": config["gate_channels"],
        "skip_channels": config["skip_channels"],
        "kernel_size": config["kernel_size"],
        "front_kernel": config["front_channels"],
        "upsample_strides": (16, 16),
    }
    distribution, model = from_fields(**fields)
    params = fold_weight_norm(jax.tree.map(lambda w: w.astype("float64"), params))
    x, mel, out = (golden[name].swapaxes(1, 2) for name in ("x", "c", "teacher_out"))

    @jax.jit
    def run(params, x, mel):
        c = model.apply({"params": params}, mel, method="condition")
        theta = model.wavenet.apply({"params": params["net"]}, x, c)
        return theta, distribution.log_prob(theta, x[..., 0])

    theta, log_prob = run(params, x, mel)
    np.testing.assert_allclose(theta, out, atol=1e-9)
    np.testing.assert_allclose(log_prob, -golden["teacher_nll_same_step"], rtol=1e-9)


@pytest.mark.parametrize(
    ("stacks", "changes", "said"),
    [
        (3, {}, "has 4 layers, which cannot be 3 equal stacks"),
        (1, {"odd": np.zeros(3)}, "use: odd"),
        (2, {"res_blocks.3.res_conv.bias": None}, "it lacks res_blocks.3.res_conv.bias"),
        (2, {"final_conv.3.conv.weight_v": np.zeros((30, 8, 1))}, r"shapes of final_conv.3.conv.weight_v \[30, 8, 1\]"),
    ],
)
def test_refused_teacher(stacks, changes, said):
    weights = torch_reader.read(GOLDEN / "clarinet_tiny_teacher.pth")["state_dict"] | changes
    with pytest.raises(UserError, match=f"^teacher.pth: .*{said}"):
        importer.convert({key: w for key, w in weights.items() if w is not None}, "teacher.pth", stacks)


def test_program(checkpoint, tmp_path):
    """The converted workdir has the architecture, mel contract, step and weights of the checkpoint."""
    output = tmp_path / "out"

    def program(source):
        command = [sys.executable, "-m", "fwn.convert", str(source), f"--output={output}"]
        return subprocess.run(command, capture_output=True, text=True, cwd=GOLDEN.parents[1])

    done = program(CHECKPOINT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "56,028 parameters with weight-norm gains, float32; trained for 700,000 steps" in done.stdout
    config, mel, params, step = checkpoints.read(output)
    expected = importer.flowavenet(checkpoint, "tiny")
    assert (config.system, mel.name, step) == ("flowavenet", "flowavenet", 700_000)
    assert {name: config.model[name] for name in expected.fields} == {**expected.fields, "upsample_strides": [16, 16]}
    jax.tree.map(np.testing.assert_array_equal, params, expected.params)


def test_program_of_clarinet(tmp_path):
    """Converts a teacher and its student. The student has the upsampling of its teacher, and can sample."""

    def program(name, output, *flags):
        return small.program("fwn.convert", GOLDEN / f"{name}.pth", f"--output={tmp_path / output}", *flags)

    teacher = f"--teacher={tmp_path / 'teacher'}"
    for arguments in (
        ("clarinet_tiny_teacher", "teacher", "--stacks=1"),
        ("clarinet_tiny_student", "student", teacher),
    ):
        result = program(*arguments)
        assert (result.code, result.err) == (0, ""), result
    (_, _, taught, _), (config, _, params, _) = (checkpoints.read(tmp_path / name) for name in ("teacher", "student"))
    assert (config.system, config.teacher) == ("clarinet", str(tmp_path / "teacher"))
    jax.tree.map(np.testing.assert_array_equal, params["upsample"], fold_weight_norm(taught["upsample"]))
    np.save(tmp_path / "a.npy", np.random.default_rng(0).uniform(size=(3, 80)).astype("float32"))
    arguments = f"--ckpt={tmp_path / 'student'}", f"--mel={tmp_path / 'a.npy'}", f"--output={tmp_path}"
    result = small.program("fwn.sample", *arguments)
    assert (result.code, result.err) == (0, ""), result
    assert audio_file.read(tmp_path / "a.wav", small.RATE, 16)[0].shape == (3 * small.HOP,)
