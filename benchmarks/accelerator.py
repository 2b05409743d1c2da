"""Measures on a GPU what matters most, first, and sets it beside what fwn.plan calculated (`make bench-gpu`).

    python benchmarks/accelerator.py --minutes=30 --output=build/bench
    python benchmarks/accelerator.py --minutes=30 --output=build/bench --flowavenet=FloWaveNet

Every measurement is a command of its own, printed before it runs, and leaves a file in --output. What has its file is
not measured again: the same command goes on where it was stopped, or where --minutes were over. With a checkout of
ksw0306/FloWaveNet, which needs PyTorch, the official code is measured too. report.md in --output has the table: what
was measured, the least that is possible by the counts of benchmarks/plans (docs/plan.md), and the goals.
"""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from fwn import cli
from fwn.disk import write_text
from fwn.errors import UserError
from fwn.planning.floor import on_chip
from fwn.planning.targets import CHIPS

ROOT = Path(__file__).resolve().parents[1]
PLANS = ROOT / "benchmarks" / "plans"
MINUTES = flags.DEFINE_float("minutes", 30.0, "After these no measurement begins, and one that runs is stopped.", 0.0)
OUTPUT = flags.DEFINE_string("output", "build/bench", "Folder for a file of each measurement, and for report.md.")
FLOWAVENET = flags.DEFINE_string("flowavenet", None, "Folder of a checkout of ksw0306/FloWaveNet, to measure it too.")
SECONDS = flags.DEFINE_multi_float("seconds", [1.0, 5.0, 10.0], "Seconds of audio to sample; may be repeated.")
BATCH_SIZE = flags.DEFINE_multi_integer("batch_size", [1, 8, 32], "Utterances at a time in sampling; may be repeated.")
REPEATS = flags.DEFINE_integer("repeats", 20, "Timed runs; the median is reported.", 1)


class Measurement(NamedTuple):
    """name: of its file, and of its plan, if there is one. command: for Python."""

    name: str
    command: tuple[str, ...]


class Row(NamedTuple):
    """What was measured. name: of the measurement. official: seconds of the official code, measured beside."""

    name: str
    batch: int
    audio: float
    seconds: float
    samples: float
    official: float | None


def measurements() -> Iterator[Measurement]:
    """From what matters most to what matters least."""
    sizes = [f"--seconds={s:g}" for s in SECONDS.value] + [f"--batch_size={n}" for n in BATCH_SIZE.value]

    def bench(name: str, config: str, *fields: str, what: str = "sampling") -> Measurement:
        command = "-m", "fwn.bench", f"--config={config}", *fields, f"--only={what}", f"--repeats={REPEATS.value}"
        return Measurement(name, (*command, *(sizes if what == "sampling" else ())))

    def official(name: str, what: str, *sizes: str) -> Measurement:
        command = (
            "benchmarks/peer.py",
            f"--flowavenet={Path(FLOWAVENET.value).resolve()}",
            "--dtype=bfloat16",
            f"--only={what}",
        )
        return Measurement(name, (*command, *sizes))

    half, single = "--config.model.dtype=bfloat16", "--config.model.dtype=float32"
    yield bench("base_train", "base", half, what="training")
    yield bench("base_sample", "base", half)
    if FLOWAVENET.value:
        yield official("official_sample", "sampling", "--frames=431")
        yield official("official_train", "training", "--batch_size=8")
    yield bench("lite_train", "lite", half, "--config.batch_size=32", what="training")
    yield bench("lite_sample", "lite", half)
    loop = "-m", "fwn.bench", "--config=wavenet_gaussian", "--only=sampling", "--seconds=1", "--repeats=2"
    yield Measurement("wavenet_loop", loop)
    yield bench("base_train_float32", "base", single, what="training")
    yield bench("base_sample_float32", "base", single)
    yield bench("clarinet_sample", "clarinet")
    yield bench("parallel_wavenet_sample", "parallel_wavenet")


def measure(one: Measurement, folder: Path, until: float) -> str:
    """Runs a measurement, until a moment of time.monotonic, if it has no file yet. Returns "", or what went wrong."""
    file = folder / f"{one.name}.json"
    if file.is_file():
        cli.say(f"{one.name}: measured before, {file}")
        return ""
    left = until - time.monotonic()
    if left <= 0:
        return "the time was over"
    cli.say(f"{one.name}: python {' '.join(one.command)}")
    partial = folder / f"{one.name}.partial"
    # A session of its own, so that processes that it starts end with it.
    process = subprocess.Popen([sys.executable, *one.command, f"--output={partial}"], cwd=ROOT, start_new_session=True)
    try:
        code = process.wait(left)
    except subprocess.TimeoutExpired:
        return "it was stopped, as the time was over"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code:
        return f"it ended with exit code {code}"
    partial.rename(file)
    return ""


def read(file: Path) -> Any:
    """A file of fwn.bench or of benchmarks/peer.py. Raises UserError."""
    try:
        found = json.loads(file.read_text())
        if found["machine"]["device"] and found["machine"]["jax"] and found["records"]:
            return found
    except (ValueError, KeyError, TypeError, OSError):
        pass
    raise UserError(f"{file}: not a file of measurements; delete it, and the same command measures again")


def rows(name: str, records: list[dict[str, Any]]) -> Iterator[Row]:
    """The records of a file."""
    for record in records:
        seconds = record.get("seconds", record.get("ours_seconds"))
        samples = record.get("samples_per_second", record.get("samples", 0) * record["batch"] / seconds)
        yield Row(name, record["batch"], record["audio_seconds"], seconds, samples, record.get("peer_seconds"))


def least(row: Row, device: str) -> float | None:
    """Seconds of such a run at least, on this device; None without a plan for its size, or figures of the device."""
    file, chips = PLANS / f"{row.name}.json", [chip for chip in CHIPS.values() if chip.name == device]
    plan = json.loads(file.read_text()) if file.is_file() else {}
    if not chips or not plan or plan["samples"] != round(row.samples * row.seconds):
        return None
    each, half = plan["operations"] / plan["devices"], plan["dtype"] != "float32"
    return on_chip(chips[0], each, half, plan["moved_bytes"], sum(plan["kernels"].values()), plan["launches"]).least


def goals(found: list[Row]) -> Iterator[str]:
    """What was to be reached, and what was."""

    def line(goal: str, value: float, reached: bool) -> str:
        return f"- {goal}: {value:,.1f}, {'reached' if reached else 'NOT reached'}"

    of = {name: [row for row in found if row.name == name] for name in {row.name for row in found}}
    for row in of.get("base_train", []):
        yield line("base, training, at least 40 steps a second", 1 / row.seconds, row.seconds <= 1 / 40)
    sampled = of.get("base_sample", [])
    for row in (row for row in sampled if row.batch == 1 and abs(row.audio - 5) < 0.02):
        yield line("base, 5 s of audio in at most 15 ms", 1e3 * row.seconds, row.seconds <= 0.015)
    if batches := [row.samples for row in sampled if row.batch > 1]:
        most = max(batches) / 1e6
        yield line("base, sampling in batches, at least 20 million samples a second", most, most >= 20)
    for row in of.get("official_sample", []) + of.get("official_train", []):
        faster = (row.official or 0) / row.seconds
        yield line(f"{row.name}, at least 4 times as fast as the official code", faster, faster >= 4)
    for loop in of.get("wavenet_loop", []):
        for row in (row for row in sampled if row.batch == 1 and abs(row.audio - 5) < 0.02):
            faster = row.samples / loop.samples
            yield line("base, 1,000 times as fast as a WaveNet's loop", faster, faster >= 1000)


def report(folder: Path) -> str:
    """All that was measured, as Markdown."""
    there = {one.name: folder / f"{one.name}.json" for one in measurements()}
    files = {name: read(file) for name, file in there.items() if file.is_file()}
    found = [row for name, file in files.items() for row in rows(name, file["records"])]
    devices = sorted({file["machine"]["device"] for file in files.values()})
    versions = sorted({file["machine"]["jax"] for file in files.values()})
    lines = [f"Measured on {' and '.join(devices) or 'nothing'}, jax {' and '.join(versions) or '-'}.", ""]
    lines += ["| | batch | seconds of audio | ms | samples/s | at least, by the plan | official code |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for row in found:
        bound = least(row, devices[0]) if len(devices) == 1 else None
        lines.append(
            f"| {row.name} | {row.batch} | {row.audio:.2f} | {1e3 * row.seconds:.2f} | {row.samples:,.0f} | "
            f"{'' if bound is None else f'{1e3 * bound:.2f} ms'} | "
            f"{'' if row.official is None else f'{1e3 * row.official:.2f} ms'} |"
        )
    return "\n".join([*lines, "", *goals(found)]) + "\n"


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    if not math.isfinite(MINUTES.value):
        raise UserError(f"--minutes={MINUTES.value}: not a finite number; give one, as 30")
    folder, until = Path(OUTPUT.value).resolve(), time.monotonic() + 60 * MINUTES.value
    folder.mkdir(parents=True, exist_ok=True)
    failed = {}
    for one in measurements():
        if why := measure(one, folder, until):
            failed[one.name] = why
            cli.say(f"{one.name}: not measured, {why}")
    text = report(folder)
    write_text(str(folder / "report.md"), text)
    cli.say(text.rstrip())
    if failed:
        reasons = ", ".join(f"{name} ({why})" for name, why in failed.items())
        raise UserError(f"not measured: {reasons}; the same command goes on with them")


if __name__ == "__main__":
    cli.run(main)
