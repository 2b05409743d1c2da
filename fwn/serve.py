"""Serves a voice over HTTP: mels or recordings in, speech out, with a page to try it.

    python -m fwn.serve --ckpt=runs/lite --port=8000
    curl -H "Content-Type: application/x-npy" --data-binary @some.npy http://127.0.0.1:8000/v1/mel --output speech.wav

Open http://127.0.0.1:8000/ for the page. /openapi.json describes all routes; docs/serve.md explains them. Requests that
come at about one time are computed together. There is neither a password nor encryption: for others than this machine,
put a reverse proxy before it. Needs `pip install "fwn[serve]"`. SIGTERM or Ctrl-C: no new work, the begun work is
finished, exit code 0. A second one ends it at once.
"""

import asyncio
import contextlib
import os
import signal
import socket
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
from absl import flags

from fwn import cli, shipped
from fwn.errors import UserError
from fwn.serving.limits import Limits, check_flags
from fwn.synthesis.vocoder import load

CKPT = cli.ckpt()
STEP = cli.step()
SAMPLING = cli.sampling()
HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen on. By default this machine alone can reach it.")
PORT = flags.DEFINE_integer("port", 8000, "Port to listen on; 0: any free one, which is printed.", 0, 65535)
WARM_UP = flags.DEFINE_list(
    "warm_up",
    ["128", "256", "512"],
    "Mel frames to which requests are padded, compiled before the server is ready. Longer requests are computed in "
    "windows of the last.",
)
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 4, "Most requests that are computed together; 1: no batches. Powers of two up to it are compiled."
)
MAX_WAIT_MS = flags.DEFINE_float(
    "max_wait_ms", 10.0, "Milliseconds for which a request waits for others to be computed with.", 0.0, 10_000.0
)
MAX_BYTES = flags.DEFINE_integer("max_bytes", 16 * 2**20, "Most bytes of a body.", lower_bound=1)
MAX_SECONDS = flags.DEFINE_float("max_seconds", 30.0, "Most seconds of audio in a request.")
QUEUE = flags.DEFINE_integer("queue", 64, "Most requests in the server at one time; others get 503.", lower_bound=1)
TIMEOUT = flags.DEFINE_float("timeout", 120.0, "Most seconds for a request, from its first byte to the last answered.")
GRACE = flags.DEFINE_float("grace", 30.0, "Seconds that begun requests get after SIGTERM.", lower_bound=0.0)
LOG = flags.DEFINE_bool("access_log", False, "Print a line for each request.")


def listening(host: str, port: int) -> socket.socket:
    """A socket that is bound to the address. Raises UserError if that cannot be."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise UserError(
            f"--host={host} --port={port}: {why}; give another address, or --port=0 for a free port"
        ) from error


async def serve(bound: socket.socket, engine: Any, gate: Any) -> None:
    """Listens, compiles, answers, until a signal comes. Raises what the compilation raises."""
    import uvicorn

    # No lines of uvicorn's: the gate prints those of requests and of errors.
    server = uvicorn.Server(
        uvicorn.Config(gate, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=1)
    )
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]  # they are caught below
    loop, ending = asyncio.get_running_loop(), asyncio.Event()

    def end(number: int) -> None:
        if ending.is_set():
            os._exit(128 + number)
        ending.set()
        gate.close("the server is shutting down")

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end, number)
    host, port = bound.getsockname()[:2]
    listens = asyncio.create_task(server.serve(sockets=[bound]))
    cli.say(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}/, compiling")
    start = time.perf_counter()
    warm = asyncio.create_task(asyncio.to_thread(engine.warm))
    over = asyncio.create_task(ending.wait())
    try:
        await asyncio.wait([warm, over, listens], return_when=asyncio.FIRST_COMPLETED)
        if warm.done():
            warm.result()
            if not ending.is_set():
                gate.ready = True
                cli.say(f"ready after {time.perf_counter() - start:.1f} s")
        await asyncio.wait([over, listens], return_when=asyncio.FIRST_COMPLETED)
        end_by = time.monotonic() + GRACE.value
        cli.say(f"shutting down: {gate.running} requests to finish")
        while gate.running and time.monotonic() < end_by:
            await asyncio.sleep(0.02)
    finally:
        server.should_exit = True
        await listens
    if not warm.done():
        os._exit(0)  # a compilation cannot be interrupted


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    for package in ("fastapi", "prometheus_client", "uvicorn"):
        if find_spec(package) is None:
            raise UserError(f'{package} is missing; pip install "fwn[serve]"')
    from fwn.serving import app, engine, metrics

    try:
        lengths = [int(length) for length in WARM_UP.value]
    except ValueError as error:
        raise UserError(f"--warm_up={','.join(WARM_UP.value)}: give whole numbers, as in 128,256,512") from error
    limits = Limits(MAX_BYTES.value, MAX_SECONDS.value, QUEUE.value, TIMEOUT.value)
    check_flags(limits, lengths, BATCH_SIZE.value)
    ckpt = Path(CKPT.value or shipped.voice())
    with listening(HOST.value, PORT.value) as bound:
        vocoder = load(ckpt, STEP.value, **SAMPLING())
        cli.say(f"{ckpt}: {vocoder.config.system}, {vocoder.n_params:,} parameters, on {jax.default_backend()}")
        counted = metrics.Metrics()
        runs = engine.Engine(vocoder, lengths, BATCH_SIZE.value, MAX_WAIT_MS.value / 1000, counted.turn)
        asyncio.run(serve(bound, runs, app.build(runs, limits, counted, LOG.value)))


if __name__ == "__main__":
    cli.run(main)
