"""Programs killed with -9 at random moments and started again: the end is that of a program that was never killed.

Half of the moments are random times, half are moments of writing: just before or up to 10 ms after an operation on a
file of the output. `attack` is used by tests/chaos.py (`make chaos`) and, with few kills, by the tests.
"""

import contextlib
import json
import multiprocessing
import os
import runpy
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import compiled
import numpy as np
import small
from absl import flags
from writers import Program

from fwn.errors import UserError
from fwn.training import checkpoints

ROUND = 10  # kills of one output before the program is left to finish
TIMEOUT = 600.0
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
CLOCK = "audio_seconds_per_second", "training_seconds", "waiting_seconds", "memory_bytes"
IMPORTS = ["fwn.data.loader", "fwn.systems", "fwn.synthesis.vocoder", "fwn.training.examiner", "fwn.training.journal"]
IMPORTS += ["fwn.evaluation.plots", "fwn.evaluation.measure", "fwn.official.importer", "data_prep.shards"]
IMPORTS += ["matplotlib.backends.backend_agg", "fwn.listening.stimuli", "librosa", "orbax.checkpoint.v1", "kills"]


class Moment(NamedTuple):
    """When a process kills itself: so many seconds after the start, or after the n-th change of its output."""

    change: int | None
    seconds: float


def child(command: tuple[str, list[str], Path], log: Path, moment: Moment | None) -> None:
    """Runs the program in this process, which was forked with all imported, and counts the changes of its output."""
    module, given, output = command
    os.setsid()
    with log.open("a") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    sys.modules["data_prep.shards"].SHARD_BYTES = 1 << 15  # several shards
    seen, counted, folder = 0, threading.Lock(), str(output)

    def kill() -> None:
        os.killpg(os.getpid(), signal.SIGKILL)

    def watch(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open":
            changes = isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            changes = event in CHANGES
        if changes and str(args[0]).startswith(folder):
            with counted:
                seen += 1
            if moment and seen == moment.change:
                delayed(moment.seconds, kill)

    sys.addaudithook(watch)
    if moment and moment.change is None:
        delayed(moment.seconds, kill)
    for flag in small._ours():  # of a program that the main module has imported
        delattr(flags.FLAGS, flag)
    sys.argv = [module, *given]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        log.with_suffix(".changes").write_text(str(seen))
        sys.stdout.flush()


def delayed(seconds: float, action: Callable[[], None]) -> None:
    """At once if `seconds` is 0, so that what follows does not begin."""
    if seconds == 0:
        action()
    else:
        timer = threading.Timer(seconds, action)
        timer.daemon = True
        timer.start()


def serve() -> None:
    """Starts the process from which `run` forks: it has imported all, and computed nothing."""
    path = os.pathsep.join([str(small.ROOT), str(Path(__file__).parent)])
    environment = small.environment(compiled.folder()) | compiled.settings() | {"PYTHONPATH": path}
    environment["PYTHONWARNINGS"] = "ignore:resource_tracker"  # it finds the semaphores of killed processes
    with mock.patch.dict(os.environ, environment), contextlib.chdir(small.ROOT):
        forkserver.set_forkserver_preload(IMPORTS)
        forkserver.ensure_running()


def run(program: Program, log: Path, moment: Moment | None) -> int:
    """The exit code of the program as a process of its own, -9 if killed."""
    process = multiprocessing.get_context("forkserver").Process(target=child, args=(program[:3], log, moment))
    process.start()
    process.join(TIMEOUT)
    assert process.exitcode is not None, f"{program.module} hangs: {log}"
    return process.exitcode


def content(folder: Path) -> dict[str, Any]:
    """All in a folder by path: bytes of files, of a run its arrays and its journal without the clock.

    Not TensorBoard's events: each start adds a file.
    """
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name, parts = path.relative_to(folder).as_posix(), path.relative_to(folder).parts
        if "events" in parts:
            continue
        if checkpoints.FOLDER in parts[:-1]:
            if path.parent.name == checkpoints.FOLDER:
                whole = path.name.isdigit() and (path / "_CHECKPOINT_METADATA").is_file()
                found[name] = saved(path) if whole else None  # killed while it replaced an earlier one
        elif path.name == "metrics.jsonl":
            records = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [{key: value for key, value in record.items() if key not in CLOCK} for record in records]
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def saved(checkpoint: Path) -> dict[str, Any]:
    """The arrays of a checkpoint and what is recorded beside them."""
    record = json.loads((checkpoint / "_CHECKPOINT_METADATA").read_text())["custom_metadata"]
    arrays = small.arrays(checkpoint.parents[1], int(checkpoint.name))
    return record | {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in arrays.items()}


def end_of(program: Program, whole: dict[str, Any]) -> str:
    """What a kill left."""
    try:
        program.visible(program.output, whole)
    except (AssertionError, UserError, KeyError) as error:
        return f"HALF: {type(error).__name__}: {error}"
    return "killed"


def difference(found: dict[str, Any], whole: dict[str, Any]) -> str:
    """How the end differs from that of the uninterrupted program."""
    if left := sorted(found.keys() - whole.keys()):
        return f"LEFT BEHIND: {left}"
    differ = sorted(name for name in whole if name not in found or found[name] != whole[name])
    return f"DIFFERENT: {differ}" if differ else "finished, equal"


def attack(program: Program, kills: int, rng: np.random.Generator, warm: bool = True) -> Counter[str]:
    """How many kills and rounds ended in which way: "killed", "finished, equal", or a fault in capitals.

    warm: whether to measure the time of the program once it is compiled.
    """
    folder, ends = program.output.parent, Counter[str]()
    log = folder.with_name(f"{folder.name}.log")

    def anew() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if program.begin:
            program.begin(program.output)

    for _ in range(1 + warm):
        anew()
        start = time.monotonic()
        assert run(program, log, None) == 0, log.read_text()
        seconds, whole = time.monotonic() - start, content(folder)
    changes, done = int(log.with_suffix(".changes").read_text()), 0
    while done < kills:
        anew()
        code, last = -signal.SIGKILL, min(kills, done + ROUND)
        while code == -signal.SIGKILL and done < last:
            at_time = rng.random() < program.uniform
            delay = rng.uniform(0, seconds) if at_time else rng.choice([0.0, rng.uniform(0, 0.01)])
            code = run(program, log, Moment(None if at_time else int(rng.integers(1, changes + 1)), delay))
            if code == -signal.SIGKILL:
                done += 1
                ends[end_of(program, whole)] += 1
                if program.once and content(folder) == whole:
                    code = 0  # killed after its last change
        if code == -signal.SIGKILL:
            code = run(program, log, None)
        said = log.read_text().splitlines()[-1:]
        ends[difference(content(folder), whole) if code == 0 else f"REFUSED, exit code {code}: {said}"] += 1
    return ends
