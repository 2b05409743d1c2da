"""The smallest everything: speech-like recordings, a model of a few hundred weights, programs as a user runs them."""

import contextlib
import io
import os
import runpy
import signal
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from orbax.checkpoint import v1 as ocp

from experiments import tiny
from fwn.audio import audio_file
from fwn.synthesis import exported
from fwn.synthesis.vocoder import Vocoder

ROOT = Path(__file__).resolve().parents[1]
HOP, RATE = 256, 22050
MODEL = {"n_block": 2, "n_flow": 1, "n_layer": 1, "channels": 8, "block_per_split": 1} | {
    "prior_layer": 1,
    "prior_channels": 8,
}
PREDICTION = {"order": 12, "first_order": 4, "subframe": 128, "channels": 8}
AUTOREGRESSION = {"coefficients": 2, "block": 32, "channels": 4, "n_layer": 2, "taps": 3}
REST = {"frames": 8, "batch_size": 4, "num_steps": 8, "log_every": 1, "save_every": 2, "eval_every": 4} | {
    "eval_batches": 2,
    "max_skipped": 3,
}


def speech(i: int, samples: int, rate: int = RATE) -> np.ndarray:
    """Harmonics of a wandering pitch in syllables, and some breath: another voice for each i, float32 in ±0.5."""
    rng, t = np.random.default_rng(i), np.arange(samples) / rate
    phase = 2 * np.pi * np.cumsum(120 + 15 * i + 20 * np.sin(2 * np.pi * 1.5 * t + i)) / rate
    voiced = sum(np.sin(k * phase + k * i) / k**1.2 for k in range(1, 25))
    syllables = np.clip(np.sin(2 * np.pi * 4 * t + i), 0, None)
    return (0.12 * voiced * syllables + 0.003 * rng.normal(size=samples)).astype(np.float32)


def record(folder: Path, lengths: list[int]) -> Path:
    """A folder of recordings u00.wav, u01.wav, … of so many samples."""
    folder.mkdir(parents=True)
    for i, samples in enumerate(lengths):
        audio_file.write(folder / f"u{i:02d}.wav", speech(i, samples), RATE)
    return folder


def config(data: Path, **rest: Any) -> ConfigDict:
    """experiments/tiny.py, made minuscule."""
    small = tiny.get_config()
    small.model.update(MODEL | {"prediction": PREDICTION, "autoregression": AUTOREGRESSION})
    small.update(REST | {"data": str(data)} | rest)
    return small


def config_flags(data: Path, **rest: Any) -> list[str]:
    """The same for the command line."""
    parts = {"prediction": PREDICTION, "autoregression": AUTOREGRESSION}
    model = MODEL | {f"{part}.{name}": value for part, sizes in parts.items() for name, value in sizes.items()}
    fields = {f"model.{name}": value for name, value in model.items()} | REST | {"data": data} | rest
    return ["--config=experiments/tiny.py", *(f"--config.{name}={value}" for name, value in fields.items())]


def shaken(workdir: Path) -> Vocoder:
    """The trained model with noise on its weights: fresh couplings are close to the identity."""
    run, rng = exported.read_run(workdir), np.random.default_rng(0)
    params = jax.tree.map(lambda a: a + rng.normal(size=a.shape).astype(np.float32) * 0.1, Vocoder(run).params)
    return Vocoder(run._replace(params=jax.tree.map(np.asarray, params)))


class Result(NamedTuple):
    code: int
    out: str
    err: str


def program(module: str, *args: Any, cwd: Path = ROOT) -> Result:
    """`python -m module args` inside this process; whatever it raises but an exit is raised here too."""
    held = _ours()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hook = sys.unraisablehook
    environ = dict(os.environ)
    argv, sys.argv = sys.argv, [module, *map(str, args)]
    for flag in held:
        delattr(flags.FLAGS, flag)
    code = 0
    try:
        with (
            contextlib.chdir(cwd),
            contextlib.redirect_stdout(io.StringIO()) as out,
            contextlib.redirect_stderr(io.StringIO()) as err,
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning)
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as exited:
        code = exited.code if isinstance(exited.code, int) else 1
    finally:
        for flag in _ours():
            delattr(flags.FLAGS, flag)
        for flag, owner in held.values():
            flags.DEFINE_flag(flag, module_name=owner)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for name in os.environ.keys() - environ.keys():  # data_prep.prepare's OMP_NUM_THREADS would change later mels
            del os.environ[name]
        sys.argv, sys.unraisablehook = argv, hook
        sys.modules.pop("config_config", None)  # where ml_collections loads the --config file
    return Result(code, out.getvalue(), err.getvalue())


def _ours() -> dict[str, tuple[Any, str]]:
    """The flags of our programs, and of --config's fields, by name: (flag, the module that defined it)."""
    owners = flags.FLAGS.flags_by_module_dict().items()
    return {
        flag.name: (flag, owner)
        for owner, own in owners
        for flag in own
        if owner.startswith(("fwn.", "data_prep.", "tools.", str(ROOT))) or flag.name.startswith("config")
    }


def environment(cache: Path, devices: int = 1) -> dict[str, str]:
    """Of a process of its own, sharing compiled programs with the others."""
    return os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONUNBUFFERED": "1",
    }


def start(
    module: str, *args: Any, cache: Path, devices: int = 1, programs: Path | None = None
) -> "subprocess.Popen[str]":
    """`python -m module args` as a process of its own; stdout and stderr are one pipe.

    programs: folder for the text of each program that it compiles, before XLA optimises it.
    """
    command = [sys.executable, "-m", module, *map(str, args)]
    env = environment(cache, devices) | ({} if programs is None else {"JAX_DUMP_IR_TO": str(programs)})
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def start_two(
    flags: list[str], workdir: Path, cache: Path, devices: int = 1, programs: Path | None = None
) -> "list[subprocess.Popen[str]]":
    """fwn.train as two processes of one run. programs: as in `start`, in a folder 0 or 1 of it."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    together = [f"--workdir={workdir}", f"--coordinator=localhost:{port}", "--processes=2"]
    own: Any = {"cache": cache, "devices": devices}
    return [
        start(
            "fwn.train",
            *flags,
            *together,
            f"--process={process}",
            programs=None if programs is None else programs / str(process),
            **own,
        )
        for process in range(2)
    ]


def arrays(workdir: Path, step: int) -> dict[str, np.ndarray]:
    """All of a checkpoint by name: weights, averaged weights, optimizer, counts."""
    found = {}
    with ocp.training.Checkpointer(workdir / "checkpoints") as checkpointer:
        for part, stored in checkpointer.checkpointables_metadata(step).metadata.items():
            if part in ("params", "train"):
                empty = jax.tree.map(lambda a: np.empty(a.shape, a.dtype), stored)
                loaded = checkpointer.load_checkpointables(step, {part: empty})[part]
                leaves = jax.tree.leaves_with_path(loaded)
                found |= {part + jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    return found
