"""Errors of fwn.serve, and of what is sent to a server. Which status they have is in tests/test_serve.py."""

import io
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from fwn.config import Speakers
from fwn.mel import PRESETS
from fwn.serving import bodies, engine
from fwn.serving.limits import Limits

from . import SERVE, Place, Row

HOST = "--ckpt={run} --host=no.such.host.invalid --port=0"


def missing(_: Place) -> Any:
    """FastAPI is not installed."""
    return mock.patch.dict("sys.modules", fastapi=None)


def speaker(_: Place) -> Any:
    vocoder = SimpleNamespace(speakers=Speakers({"speakers": {"kind": "embedding", "names": (), "size": 3}}))
    return engine.Engine.speaker(SimpleNamespace(vocoder=vocoder), "ann")  # type: ignore[arg-type]


def two_mels(_: Place) -> Any:
    file = io.BytesIO()
    np.save(file, np.full((2, 8, 80), 0.5, np.float32))
    return bodies.mel(file.getvalue(), "npy", PRESETS["flowavenet"], Limits(10**6, 9.0, 1, 9.0))


ROWS = [
    Row(SERVE, "--ckpt={run}", 'fastapi is missing; pip install "fwn[serve]"', missing),
    Row(SERVE, "more", "unexpected argument 'more': all settings are flags (--help lists them)"),
    Row(
        SERVE,
        "--port=0",
        "{voices}/lj-mini: the voice that comes with fwn is missing; give --ckpt=DIR",
        lambda _: mock.patch("pathlib.Path.is_dir", return_value=False),
    ),
    Row(
        SERVE, HOST, "--host=no.such.host.invalid --port=0: <reason>; give another address, or --port=0 for a free port"
    ),
    Row(SERVE, "--warm_up=64,x", "--warm_up=64,x: give whole numbers, as in 128,256,512"),
    Row(SERVE, "--warm_up=0", "--warm_up=0: give numbers of mel frames, each from 1 to 8192, as in 128,256,512"),
    Row(SERVE, "--batch_size=0", "--batch_size=0: give 1 to 256 requests"),
    Row(SERVE, "--timeout=0", "--timeout=0: give a number of seconds above 0, at most 86400"),
    Row(SERVE, "--max_seconds=nan", "--max_seconds=nan: give a number of seconds above 0, at most 86400"),
    Row(
        SERVE,
        "--port=-1",
        "flag --port=-1: -1 is not an integer in the range [0, 65535] (--help lists the flags)",
        code=2,
    ),
    Row(speaker, "", "speaker is 'ann'; give 3 numbers, as in 0.1,-0.2"),
    Row(two_mels, "", "body.npy: has 2 mels; send each in a request of its own"),
    Row(
        lambda _: engine.finite(np.array([np.inf]), "the audio at temperature 9"),
        "",
        "the audio at temperature 9 is not finite; send another recording or mel, or give a lower temperature",
    ),
]
