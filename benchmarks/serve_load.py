"""Load on fwn.serve, on this machine alone: throughput with batches against batch size 1, latencies, errors, memory.

    python benchmarks/serve_load.py --requests=100 --concurrency=8

Starts two servers of one voice, with batches of up to --batch_size and of 1, and sends both the same mels in turn: a
round to the one, a round to the other, so that other programs of the machine slow both. A round is --requests requests
from --concurrency threads, each of which sends its next as soon as it has an answer, and it ends after --max_seconds at
the latest. Prints a line for each round, then the medians, and writes them to --output.
"""

import io
import json
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from fwn import cli, shipped

VOICE = shipped.folder("voices") / shipped.VOICE
CKPT = flags.DEFINE_string("ckpt", str(VOICE), "Voice or workdir; its mels have 80 bands with values in 0 … 1.")
MEL = flags.DEFINE_string("mel", str(VOICE / "mels" / "LJ002-0173.npy"), "Mel [frames, bands] of which parts are sent.")
FRAMES = flags.DEFINE_integer("frames", 120, "Mel frames of a request.", lower_bound=1)
REQUESTS = flags.DEFINE_integer("requests", 100, "Requests in a round.", 1, 10_000)
CONCURRENCY = flags.DEFINE_integer("concurrency", 8, "Requests at one time.", 1, 64)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Largest batch of the first server.", lower_bound=2)
ROUNDS = flags.DEFINE_integer("rounds", 3, "Rounds for each server, after one that is not counted.", 1, 100)
MAX_SECONDS = flags.DEFINE_float("max_seconds", 120.0, "Most seconds of a round.", 1.0, 600.0)
OUTPUT = flags.DEFINE_string("output", None, "JSON file for the figures.")


class Served:
    """A server of its own process. load() sends a round."""

    def __init__(self, batch_size: int):
        command = [sys.executable, "-m", "fwn.serve", f"--ckpt={CKPT.value}", "--port=0", f"--warm_up={FRAMES.value}"]
        command += [f"--batch_size={batch_size}", "--queue=64", "--timeout=600"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        lines = iter(self.process.stdout.readline, "")
        self.port = next(int(found[1]) for line in lines if (found := re.search(r"127\.0\.0\.1:(\d+)/", line)))
        if not any(line.startswith("ready after") for line in lines):
            raise RuntimeError(f"the server ended with code {self.process.wait()} before it was ready")

    def metric(self, name: str) -> float:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/metrics")
        found = re.search(rf"^{re.escape(name)} (\S+)$", connection.getresponse().read().decode(), re.M)
        assert found, name
        return float(found[1])

    def load(self, bodies: list[bytes]) -> dict[str, Any]:
        """Figures of a round."""
        before = {name: self.metric(f"fwn_batch_size_{name}") for name in ("sum", "count")}
        left, latencies, errors = iter(range(REQUESTS.value)), list[float](), list[str]()
        start, take = time.perf_counter(), threading.Lock()

        def ask() -> None:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=MAX_SECONDS.value)
            while time.perf_counter() - start < MAX_SECONDS.value:
                with take:
                    i = next(left, None)
                if i is None:
                    return
                sent = time.perf_counter()
                try:
                    headers = {"Content-Type": "application/x-npy"}
                    connection.request("POST", f"/v1/mel?seed={i}&format=pcm", bodies[i % len(bodies)], headers)
                    answer = connection.getresponse()
                    size = len(answer.read())
                    if (answer.status, size) != (200, 2 * FRAMES.value * 256):
                        errors.append(f"status {answer.status}, {size} bytes")
                except (OSError, HTTPException) as error:
                    errors.append(repr(error))
                    connection.close()
                latencies.append(time.perf_counter() - sent)

        threads = [threading.Thread(target=ask) for _ in range(CONCURRENCY.value)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds, (p50, p99) = time.perf_counter() - start, np.quantile(latencies, [0.5, 0.99])
        batches = {name: self.metric(f"fwn_batch_size_{name}") - value for name, value in before.items()}
        return {
            "requests": len(latencies),
            "errors": len(errors),
            "requests_per_second": len(latencies) / seconds,
            "audio_seconds_per_second": len(latencies) * FRAMES.value * 256 / 22050 / seconds,
            "p50": float(p50),
            "p99": float(p99),
            "mean_batch": batches["sum"] / max(1, batches["count"]),
            "rss_mib": self.metric("process_resident_memory_bytes") / 2**20,
            "first_errors": errors[:3],
        }

    def stop(self) -> int:
        """Ends it; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    mel = np.load(MEL.value)
    mel = mel if mel.shape[1] == 80 else mel.T
    bodies = []
    for first in range(0, len(mel) - FRAMES.value, 16):
        file = io.BytesIO()
        np.save(file, mel[first : first + FRAMES.value])
        bodies.append(file.getvalue())
    servers: dict[int, Served] = {}
    rounds: dict[int, list[dict[str, Any]]] = {BATCH_SIZE.value: [], 1: []}
    try:
        for size in rounds:
            servers[size] = Served(size)
        for i in range(1 + ROUNDS.value):
            for size, served in servers.items():
                found = served.load(bodies)
                rounds[size].append(found)
                cli.say(
                    f"{'round ' + str(i) if i else 'to begin'}, batches of up to {size}: {found['errors']} errors in "
                    f"{found['requests']}, {found['requests_per_second']:.2f} requests/s, "
                    f"{found['audio_seconds_per_second']:.2f} s of audio/s, p50 {found['p50']:.2f} s, p99 "
                    f"{found['p99']:.2f} s, mean batch {found['mean_batch']:.1f}, {found['rss_mib']:.0f} MiB"
                )
        codes = [served.stop() for served in servers.values()]
    finally:
        for served in servers.values():
            served.process.kill()
    counted = {size: found[1:] for size, found in rounds.items()}
    rates = {size: [one["requests_per_second"] for one in found] for size, found in counted.items()}
    gains = [batched / single for batched, single in zip(*rates.values(), strict=True)]
    cli.say(
        f"with batches {statistics.median(gains):.2f} times the throughput (median of {len(gains)} pairs of rounds)"
    )
    cli.say(f"exit codes {codes}, {sum(one['errors'] for found in rounds.values() for one in found)} errors")
    if OUTPUT.value:
        Path(OUTPUT.value).write_text(json.dumps({"gains": gains, "rounds": rounds}, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
