"""A run of two processes equals a run of one, in weights, moments and metrics, in every mode."""

import json

import numpy as np
import pytest
import small
from test_resume import TIMEOUT

STEPS = 3


@pytest.fixture(scope="module")
def flags(corpus):
    return small.config_flags(corpus, num_steps=STEPS)


@pytest.fixture(scope="module")
def four_devices(flags, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("four") / "run"
    result = small.program("fwn.train", *flags, f"--workdir={workdir}")
    assert result.code == 0, result
    return workdir


def figures(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def assert_the_same(workdir, reference):
    ours, theirs = figures(workdir), figures(reference)
    assert [(line["what"], line["step"]) for line in ours] == [(line["what"], line["step"]) for line in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert abs(a["nats_per_sample"] - b["nats_per_sample"]) < 5e-5  # float32 sums of T terms of size 1
    assert_the_same_arrays(workdir, reference)


def assert_the_same_arrays(workdir, reference):
    ours, theirs = small.arrays(workdir, STEPS), small.arrays(reference, STEPS)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("mode", ["jit", "zero", "pmap"])
def test_two_processes_equal_one(mode, flags, four_devices, compiled, tmp_path):
    workdir = tmp_path / "run"
    processes = small.start_two([*flags, f"--config.parallel={mode}"], workdir, compiled)
    said = [process.communicate(timeout=TIMEOUT)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert said[0].splitlines()[-1] == f"trained to step {STEPS}: {workdir}"
    # Only one process prints. XLA may warn about slow compilation on both.
    assert not [line for line in said[1].splitlines() if line.startswith(("compiling", "step", "trained"))]
    assert_the_same(workdir, four_devices)
    # A run of two processes can be continued by one, which finds it finished.
    result = small.program("fwn.train", *flags, f"--workdir={workdir}")
    assert (result.code, "trained to step 3 already" in result.out) == (0, True)


def test_a_run_of_zero_on_two_devices_continues_with_jit_on_four(flags, four_devices, compiled, tmp_path):
    """Checkpoints do not depend on shardings. tests/test_training.py tests the opposite direction."""
    workdir = tmp_path / "run"
    begun = ["--config.parallel=zero", "--config.num_steps=2", f"--workdir={workdir}"]
    process = small.start("fwn.train", *flags, *begun, cache=compiled, devices=2)
    said = process.communicate(timeout=TIMEOUT)[0]
    assert process.returncode == 0, said
    result = small.program("fwn.train", *flags, f"--workdir={workdir}")
    assert (result.code, "continuing from the checkpoint of step 2" in result.out) == (0, True)
    assert_the_same_arrays(workdir, four_devices)
