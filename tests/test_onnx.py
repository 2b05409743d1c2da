"""tools.onnx_export: the sampler in operations that ONNX knows, and in onnxruntime where that is installed."""

import os
import re
import subprocess
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from jax import lax
from test_portable import SYSTEMS, drawn

from fwn import config as configs
from fwn.models.weight_forms import unstack
from fwn.nn.weight_norm import fold_weight_norm
from tools.plain import inverse, plain, plain_decode


def reverse(x):
    return lax.scan(lambda total, row: (total + row, total * row), jnp.zeros(x.shape[1]), x, reverse=True)[1]


def chosen(x):
    return lax.platform_dependent(x, cpu=jnp.sin, default=jnp.sin)


X = np.random.default_rng(0).normal(size=(5, 8)).astype("float32")
FUNCTIONS = {
    "a scan that runs backwards": reverse,
    "an FFT": lambda x: jnp.abs(jnp.fft.rfft(x, 32, axis=0).imag),
    "an inverse FFT": lambda x: jnp.fft.irfft(x, axis=1),
    "a triangular system": lambda x: lax.linalg.triangular_solve(
        jnp.tril(x[:, :5], -1) + jnp.eye(5), x, left_side=True, lower=True, unit_diagonal=True
    ),
    "a convolution": lambda x: lax.conv_general_dilated(
        x[None], x[:3, :, None] * jnp.ones(2), (1,), [(2, 2)], (1,), (2,), ("NHC", "HIO", "NHC")
    ),
    "code for platforms": chosen,
    "a gradient of its own": jax.custom_vjp(lambda x: x + 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_plain_function_is_the_function(name):
    function = FUNCTIONS[name]
    if isinstance(function, jax.custom_vjp):
        function.defvjp(lambda x: (x + 1, None), lambda _, dy: (dy,))
    (found,) = plain(function, X)(X)
    np.testing.assert_allclose(found, function(X), rtol=1e-5, atol=1e-5)


def test_the_inverse_of_a_triangular_matrix():
    lower = np.tril(np.random.default_rng(0).normal(size=(3, 37, 37)), -1) * 0.3 + np.eye(37)
    identity = np.broadcast_to(np.eye(37), lower.shape)
    np.testing.assert_allclose(inverse(jnp.asarray(lower, "float32")) @ lower, identity, atol=1e-3)


@pytest.mark.parametrize("name", ["odd, at the frame rate", "a ClariNet", "with prediction and autoregression"])
def test_a_sampler_in_plain_operations(name):
    """It gives the same audio, and has none of the operations that jax2onnx 0.17 does not convert."""
    config = SYSTEMS[name]()
    system, params = drawn(config)
    params = jax.tree.map(jnp.asarray, unstack(fold_weight_norm(params)))
    bands = configs.mel_of(config).n_mels
    mel = np.random.default_rng(1).uniform(0, 0.6, (1, 3, bands)).astype("float32")
    noise, scale = system.draw(mel, jax.random.key(0)[None]), np.float32(0.8)

    function = plain_decode(system, params, mel, noise, scale)
    expected = jax.jit(system.decode)(params, mel, noise, scale)
    (found,) = jax.jit(function)(mel, noise, scale)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    text = str(jax.make_jaxpr(function)(mel, noise, scale))
    layouts = set(re.findall(r"lhs_spec=\(([\d, ]+)\)", text))
    assert layouts <= {"0, 1, 2", "0, 1, 2, 3"}
    assert "reverse=True" not in text
    assert not re.search(r"= (triangular_solve|custom_vjp_call|platform_index)\[", text)


def test_in_onnxruntime(tmp_path):
    """tools.onnx_export compares a stored export there with ours; FWN_ONNX_PYTHON is the Python of its environment."""
    python = os.environ.get("FWN_ONNX_PYTHON")
    if not python:
        pytest.skip("needs jax2onnx and onnxruntime, in an environment of their own: FWN_ONNX_PYTHON (docs/export.md)")
    with zipfile.ZipFile(small.ROOT / "tests" / "golden" / "export_1.zip") as file:
        file.extractall(tmp_path / "export")
    flags = f"--ckpt={tmp_path / 'export'}", "--frames=4", f"--output={tmp_path / 'a.onnx'}", "--largest=1e-5"
    command = [python, "-m", "tools.onnx_export", *flags]
    result = subprocess.run(command, cwd=small.ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "s of audio in" in result.stdout
    assert (tmp_path / "a.onnx").stat().st_size > 40_000  # with its weights
