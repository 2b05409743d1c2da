"""Converts an export to ONNX by jax2onnx, for mels of one length, and compares it with the model in onnxruntime.

    python3 -m venv onnx-env
    onnx-env/bin/pip install jax2onnx onnxruntime absl-py ml-collections tqdm
    onnx-env/bin/python -m tools.onnx_export --ckpt=export/base --frames=64 --output=base.onnx

Run it in the checkout. It needs an environment of its own, because jax2onnx needs an older orbax than fwn. --ckpt is a
folder of fwn.export. The file has the weights in it, the inputs mel [1, frames, bands], noise and temperature as in
decode.stablehlo (contract.json), and the output audio [1, frames · hop]. It is refused if a sample differs by more than
--largest of full scale. The seconds of one pass in onnxruntime and in JAX are printed.
"""

import contextlib
import hashlib
import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from fwn import cli
from fwn import config as configs
from fwn.errors import UserError
from fwn.files import safetensors_reader
from fwn.models.weight_forms import tree
from fwn.systems import System, build
from tools.plain import plain_decode

CKPT = flags.DEFINE_string("ckpt", None, "Folder of fwn.export. Required.", required=True)
FRAMES = flags.DEFINE_integer("frames", 64, "Number of mel frames that the file is for.", 1)
OUTPUT = flags.DEFINE_string("output", None, "The .onnx file. Required.", required=True)
LARGEST = flags.DEFINE_float("largest", 1e-3, "Largest difference of a sample, of full scale.", 0.0)
REPEATS = 5  # of which the fastest is the time


def read(folder: Path) -> tuple[System, Any, Any]:
    """(system, its weights, the mel contract). Raises UserError if the folder is no whole export."""
    config, mel = configs.read(folder)
    file = folder / "weights.safetensors"
    if not file.is_file():
        raise UserError(f"{folder}: no {file.name} in it; give a folder of fwn.export")
    stated = json.loads((folder / configs.FILE).read_text(encoding="utf-8"))["sha256"][file.name]
    if hashlib.sha256(file.read_bytes()).hexdigest() != stated:
        raise UserError(f"{file}: damaged; get it again")
    weights = {name: jnp.asarray(a) for name, a in safetensors_reader.read(file).items()}
    return build(config, mel=mel), tree(weights), mel


@contextlib.contextmanager
def quickly() -> Iterator[None]:
    """jax2onnx 0.17 looks through the whole graph for each result; one that a node makes is in it, without looking."""
    from jax2onnx.converter import output_binding

    name = "_value_is_graph_connected"
    look: Any = getattr(output_binding, name, None)
    with mock.patch.object(output_binding, name, lambda ctx, v: bool(v.producer()) or look(ctx, v), create=True):
        yield


def fastest(run: Callable[[], Any]) -> float:
    """Seconds."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    try:
        import onnxruntime
        from jax2onnx import to_onnx
    except ImportError as error:
        raise UserError(f"{error.name} is missing; make the environment that --help names") from error
    system, params, contract = read(Path(CKPT.value))
    low_temperature = system.low_temperature
    scale = system.temperature if low_temperature is None else [system.temperature, low_temperature]
    rng, frames = np.random.default_rng(0), FRAMES.value
    low, high = contract.value_range
    mel = rng.uniform(low + 0.2 * (high - low), low + 0.6 * (high - low), (1, frames, contract.n_mels))
    told = np.zeros((1, frames, system.speakers.channels))
    mel = np.concatenate([mel, told], axis=2).astype(np.float32)
    noise = np.asarray(system.draw(jnp.asarray(mel), jax.random.key(0)[None]))
    given = [mel, noise, np.asarray(scale, np.float32)]

    cli.say(f"converting {CKPT.value}, {frames} frames")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in given]
    function = plain_decode(system, params, *shapes)
    with quickly():
        to_onnx(function, inputs=shapes, return_mode="file", output_path=OUTPUT.value)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(OUTPUT.value, options, providers=["CPUExecutionProvider"])
    feed = {one.name: a for one, a in zip(session.get_inputs(), given, strict=True)}
    ours = jax.jit(partial(system.decode, params)).lower(*given).compile()
    found, expected = session.run(None, feed)[0], np.asarray(ours(*given))
    difference = float(np.max(np.abs(found - expected)))
    cli.say(f"largest difference: {difference:.1e} of full scale; loudest sample {np.max(np.abs(expected)):.2f}")
    if not difference <= LARGEST.value:
        Path(OUTPUT.value).unlink()
        raise UserError(f"{CKPT.value}: differs in onnxruntime by {difference:.2g}, more than {LARGEST.value:g}")
    seconds = fastest(lambda: session.run(None, feed)), fastest(lambda: jax.block_until_ready(ours(*given)))
    audio = frames * contract.hop_length / contract.sample_rate
    cli.say(
        f"{OUTPUT.value}: {Path(OUTPUT.value).stat().st_size / 2**20:.1f} MiB; {audio:.2f} s of audio in "
        f"{seconds[0]:.3f} s by onnxruntime, {seconds[1]:.3f} s by JAX"
    )


if __name__ == "__main__":
    cli.run(main)
