"""A run of two processes equals a run of one, in weights, moments and metrics, in every mode."""

import json
import shutil

import numpy as np
import pytest
import small
from test_resume import TIMEOUT

from fwn.data.corpus import Corpus

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
    workdir, programs = tmp_path / "run", tmp_path / "programs"
    processes = small.start_two([*flags, f"--config.parallel={mode}"], workdir, compiled, programs=programs)
    said = [process.communicate(timeout=TIMEOUT)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert said[0].splitlines()[-1] == f"trained to step {STEPS}: {workdir}"
    # Only one process prints. XLA may warn about slow compilation on both.
    assert not [line for line in said[1].splitlines() if line.startswith(("compiling", "step", "trained"))]
    assert_the_same(workdir, four_devices)
    # Both compiled the same step, or they would wait for each other's sums. With pmap, JAX calls it _fun.
    named = "*__fun_*" if mode == "pmap" else "*_step_*"
    steps = [[file.read_text() for file in sorted((programs / name).glob(named))] for name in "01"]
    assert steps[0] == steps[1] != []
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


def test_a_run_of_two_processes_returns_as_one_does(corpus, compiled, tmp_path):
    """A damaged mel spoils some batches: both skip the step, and go back to the same checkpoint."""
    data = shutil.copytree(corpus, tmp_path / "data")
    spoilt = max((u for u in Corpus(data).utterances if u.split == "train"), key=lambda u: u.frames)
    mels = np.lib.format.open_memmap(sorted(data.glob("mel-*.npy"))[spoilt.shard], mode="r+")
    mels[spoilt.start + spoilt.frames - 3 : spoilt.start + spoilt.frames] = np.nan
    mels.flush()
    flags = small.config_flags(data, num_steps=14, max_skipped=1, verify_data=False, seed=9)
    one, two = tmp_path / "one", tmp_path / "two"
    result = small.program("fwn.train", *flags, f"--workdir={one}")
    assert result.code == 0, result
    processes = small.start_two([*flags, "--config.parallel=pmap"], two, compiled)
    said = [process.communicate(timeout=TIMEOUT)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    returns = [[line for line in figures(workdir) if line["what"] == "return"] for workdir in (one, two)]
    assert returns[0] == returns[1]
    assert len(returns[0]) > 1
    assert len(list(two.glob("skipped-*-process1.npz"))) == len(list(one.glob("skipped-*-process0.npz"))) > 1
    ours, theirs = small.arrays(two, 14), small.arrays(one, 14)
    assert ours["train['guard']['returns']"] == len(returns[0])
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-4, err_msg=name)
