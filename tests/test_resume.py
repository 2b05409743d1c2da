"""Stopped at any moment and started again, a run is the run that was never stopped: bit for bit, every step once.

FWN_KILLS says how often the run is killed with -9 (3 by default); each one costs a start of the program.
"""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import small

from fwn import cli
from fwn.config import FILE

KILLS = int(os.environ.get("FWN_KILLS", "3"))
STEPS = 16 * (KILLS + 1)
TIMEOUT = 300
AGAIN = "; run the same command again to go on"


@pytest.fixture(scope="module")
def flags(corpus):
    return small.config_flags(corpus, num_steps=STEPS, save_every=3, eval_every=12)


def begin(flags, workdir, compiled):
    return small.start("fwn.train", *flags, f"--workdir={workdir}", cache=compiled)


def finish(process):
    """(exit code, what it said)"""
    said, _ = process.communicate(timeout=TIMEOUT)
    return process.returncode, said


@pytest.fixture(scope="module")
def uninterrupted(flags, compiled, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted") / "run"
    code, said = finish(begin(flags, workdir, compiled))
    assert code == 0, said
    return workdir


def journal(workdir):
    """Every line of metrics.jsonl, without what depends on the clock."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    clock = ("audio_seconds_per_second", "training_seconds", "waiting_seconds", "memory_bytes")
    return [{name: value for name, value in line.items() if name not in clock} for line in lines]


def steps(workdir):
    """Names of all that is in the folder of checkpoints: a killed save must not leave anything behind for good."""
    return sorted(path.name for path in (workdir / "checkpoints").iterdir())


def assert_the_same_run(a, b):
    assert journal(a) == journal(b)
    assert sorted(p.name for p in (a / "checkpoints").iterdir()) == sorted(
        p.name for p in (b / "checkpoints").iterdir()
    )
    ours, theirs = small.arrays(a, STEPS), small.arrays(b, STEPS)
    assert ours.keys() == theirs.keys()
    assert len(ours) > 50
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def wait_until(process, condition):
    limit = time.monotonic() + TIMEOUT
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < limit
        time.sleep(0.0005)


def saving(workdir):
    return any("tmp" in path.name for path in (workdir / "checkpoints").glob("*"))


def newest(workdir):
    return max([int(p.name) for p in (workdir / "checkpoints").glob("*") if p.name.isdigit()], default=0)


def test_every_step_is_noted_once(uninterrupted):
    lines = journal(uninterrupted)
    assert [line["step"] for line in lines if line["what"] == "train"] == list(range(1, STEPS + 1))
    assert [line["step"] for line in lines if line["what"] == "held_out"] == [
        step for step in range(1, STEPS + 1) if step % 12 == 0 or step == STEPS
    ]


def test_killed_at_random_moments_it_is_the_uninterrupted_run(uninterrupted, flags, compiled, tmp_path):
    workdir, draw, during_saves = tmp_path / "run", random.Random(0), 0
    for kill in range(KILLS):
        process, before = begin(flags, workdir, compiled), newest(workdir)
        if kill % 2 == 0:  # as soon as some later save is under way
            wait_until(process, lambda before=before: newest(workdir) > before)
            wait_until(process, lambda: saving(workdir))
            time.sleep(draw.choice([0, 0.005, 0.02]))
            during_saves += saving(workdir)
        else:
            wait_until(process, lambda before=before: newest(workdir) > before)
            time.sleep(draw.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert newest(workdir) < STEPS
        process.communicate()
    assert during_saves >= (KILLS + 1) // 4
    code, said = finish(begin(flags, workdir, compiled))
    assert code == 0, said
    assert "continuing from the checkpoint of step" in said
    assert_the_same_run(workdir, uninterrupted)


def test_killed_before_the_first_checkpoint_it_starts_over(uninterrupted, flags, compiled, tmp_path):
    workdir = tmp_path / "run"
    process = begin(flags, workdir, compiled)
    wait_until(process, lambda: (workdir / FILE).exists())
    process.kill()
    process.communicate()
    assert newest(workdir) == 0
    workdir.joinpath("metrics.jsonl").write_text('{"what": "train", "step": 1}\n{"what": "tra')  # as a kill leaves it
    process = begin(flags, workdir, compiled)
    wait_until(process, lambda: newest(workdir) > 0)
    process.send_signal(signal.SIGTERM)
    code, said = finish(process)
    assert code == 128 + signal.SIGTERM, said
    stopped = newest(workdir)
    assert said.splitlines()[-1] == f"stopped by SIGTERM; saved step {stopped}{AGAIN}"
    assert journal(workdir) == [line for line in journal(uninterrupted) if line["step"] <= stopped]
    process = begin(flags, workdir, compiled)
    wait_until(process, lambda: newest(workdir) > stopped)
    process.send_signal(signal.SIGINT)
    code, said = finish(process)
    assert code == 128 + signal.SIGINT, said
    assert said.splitlines()[-1] == f"stopped by SIGINT; saved step {newest(workdir)}{AGAIN}"
    assert finish(begin(flags, workdir, compiled))[0] == 0
    assert_the_same_run(workdir, uninterrupted)
    result = small.program("fwn.train", *flags, f"--workdir={workdir}")
    assert (result.code, result.out.splitlines()[-1]) == (
        0,
        f"{workdir}: trained to step {STEPS} already; raise config.num_steps (now {STEPS}) to go on",
    )


def test_two_processes_stop_together_and_go_on_anywhere(corpus, compiled, tmp_path):
    """SIGTERM of one process of a pod: all save the same step and leave. One or more devices or processes go on."""
    workdir = tmp_path / "run"
    flags = small.config_flags(corpus, batch_size=8, num_steps=100_000, save_every=50_000, eval_every=50_000)
    processes = small.start_two(flags, workdir, compiled)
    wait_until(processes[0], lambda: len(lines(workdir)) > 2)
    processes[1].send_signal(signal.SIGTERM)
    results = [finish(process) for process in processes]
    assert [code for code, _ in results] == [128 + signal.SIGTERM] * 2, results
    stopped = newest(workdir)
    assert results[0][1].splitlines()[-1] == f"stopped by SIGTERM; saved step {stopped}{AGAIN}"
    assert stopped > 2
    assert journal(workdir)[-1]["step"] == stopped

    copies = {devices: shutil.copytree(workdir, tmp_path / str(devices)) for devices in (1, 2, 8)}
    more = [*flags, f"--config.num_steps={stopped + 2}", "--config.eval_every=1"]
    others = [small.start("fwn.train", *more, f"--workdir={w}", cache=compiled, devices=n) for n, w in copies.items()]
    copies[4] = shutil.copytree(workdir, tmp_path / "4")
    assert small.program("fwn.train", *more, f"--workdir={copies[4]}").code == 0
    assert [code for code, _ in map(finish, others)] == [0, 0, 0]
    losses = {n: [line["nats_per_sample"] for line in journal(w)[-4:]] for n, w in copies.items()}
    for devices in copies:
        np.testing.assert_allclose(losses[devices], losses[1], rtol=0, atol=1e-6, err_msg=str(devices))

    processes = small.start_two([*flags, "--config.max_seconds=1"], workdir, compiled)
    results = [finish(process) for process in processes]
    assert [code for code, _ in results] == [cli.TIME_IS_UP] * 2, results
    assert newest(workdir) > stopped


def lines(workdir: Path) -> list:
    file = workdir / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()[:-1]] if file.exists() else []
