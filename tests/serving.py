"""A small voice of two speakers, and a server of it in a thread of the tests, on a free port of this machine."""

import asyncio
import contextlib
import io
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import small
import soundfile

from experiments import tiny
from fwn.mel import PRESETS
from fwn.serve import listening
from fwn.systems import build
from fwn.training.checkpoints import Run

pytest.importorskip("fastapi", reason='no server: pip install "fwn[serve]"')
pytest.importorskip("uvicorn", reason='no server: pip install "fwn[serve]"')
httpx = pytest.importorskip("httpx", reason="the tests of the server need httpx")

import uvicorn  # noqa: E402

from fwn.serving import app  # noqa: E402
from fwn.serving.engine import Engine  # noqa: E402
from fwn.serving.limits import Limits  # noqa: E402
from fwn.serving.metrics import Metrics  # noqa: E402

MEL = PRESETS["flowavenet"]
LENGTHS, LIMITS = [64, 96], Limits(2**20, 3.0, 16, 60.0)
NPY = {"content-type": "application/x-npy"}


def voice() -> Run:
    """A flow of two speakers, ann and bob, with random weights."""
    config = tiny.get_config()
    config.model.update(small.MODEL | {"prediction": {"order": 0}})
    config.speakers.update({"kind": "id", "names": ("ann", "bob")})
    batch = {"audio": np.zeros((1, 2048), "float32"), "mel": np.zeros((1, 8, 81), "float32")}
    batch["index"] = np.zeros(1, np.int32)
    shapes = jax.eval_shape(build(config, mel=MEL).init, jax.random.key(0), batch, {})
    rng = np.random.default_rng(0)

    def weight(path: Any, leaf: Any) -> np.ndarray:
        drawn = rng.normal(size=leaf.shape).astype(np.float32)
        if path[-1].key == "kernel":
            gain = 0.1 if path[-2].key in ("out", "odd_out") else 1  # audio well within ±1
            return gain * drawn / np.sqrt(np.prod(leaf.shape[:-1]))
        return 4 + 0.1 * drawn if path[-2].key == "actnorm" and path[-1].key == "scale" else 0.02 * drawn

    return Run(config, MEL, jax.tree_util.tree_map_with_path(weight, shapes), 7)


def mel(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 0.7, (frames, MEL.n_mels)).astype(np.float32)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def recorded(samples: int, form: str = "WAV", rate: int = small.RATE) -> bytes:
    """A recording as a file."""
    file = io.BytesIO()
    soundfile.write(file, small.speech(0, samples, rate), rate, format=form)
    return file.getvalue()


class Server(NamedTuple):
    """client: of its address. engine, gate: behind it."""

    client: Any
    engine: Engine
    gate: Any
    address: str
    port: int


@contextlib.contextmanager
def server(vocoder: Any, limits: Limits = LIMITS, ready: bool = True, max_wait: float = 0.01) -> Iterator[Server]:
    """A server of the vocoder, with batches of up to 4."""
    metrics = Metrics()
    engine = Engine(vocoder, LENGTHS, 4, max_wait, metrics.turn)
    gate = app.build(engine, limits, metrics)
    gate.ready = ready
    bound = listening("127.0.0.1", 0)
    runs = uvicorn.Server(uvicorn.Config(gate, log_config=None, access_log=False, lifespan="on"))
    thread = threading.Thread(target=lambda: asyncio.run(runs.serve(sockets=[bound])), daemon=True)
    thread.start()
    port = bound.getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            yield Server(client, engine, gate, f"http://127.0.0.1:{port}", port)
    finally:
        runs.should_exit = True
        thread.join(60)
    assert not thread.is_alive()
