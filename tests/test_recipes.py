"""Every system's recipe end to end: its experiment, made minuscule, is trained, sampled, evaluated and continued."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import small

from fwn.audio import audio_file
from fwn.training import checkpoints

WAVENET = {"n_stack": 1, "n_layer": 2, "channels": 4, "gate_channels": 4, "skip_channels": 4, "front_kernel": 4}
IAF = {"n_layer": 2, "channels": 4, "gate_channels": 4, "skip_channels": 4, "front_kernel": 4}
RECIPES = {  # in the order in which teachers come before their students: (experiment, fields, teacher)
    "gaussian": ("tiny_wavenet", WAVENET, None),
    "mixture": ("tiny_wavenet_mol", WAVENET, None),
    "clarinet": ("tiny_clarinet", IAF | {"stacks": "(1,1)"}, "gaussian"),
    "parallel": ("tiny_parallel_wavenet", IAF | {"stacks": "(1,2)"}, "mixture"),
}
REST = small.REST | {"num_steps": 2, "eval_every": 2, "eval_batches": 1}


@pytest.fixture(scope="module")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the workdir of each recipe, of two steps."""
    folder = tmp_path_factory.mktemp("runs")
    for name in RECIPES:
        result = small.program("fwn.train", *flags(corpus, folder, name))
        assert (result.code, result.err) == (0, ""), result
        assert f"trained to step 2: {folder / name}" in result.out
    return folder


def flags(corpus: Path, folder: Path, name: str, **rest: object) -> list[str]:
    experiment, fields, teacher = RECIPES[name]
    values = {f"model.{field}": value for field, value in fields.items()} | REST | {"data": corpus} | rest
    values |= {} if teacher is None else {"teacher": folder / teacher}
    given = [f"--config.{field}={value}" for field, value in values.items()]
    return [f"--config=experiments/{experiment}.py", f"--workdir={folder / name}", *given]


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(runs, corpus, tmp_path, name):
    """Sampled: frames × hop samples. Evaluated: a likelihood, and no inverse error where there is no parallel one."""
    mel = np.random.default_rng(0).uniform(size=(5, 80)).astype("float32")
    np.save(tmp_path / "a.npy", mel)
    result = small.program("fwn.sample", f"--ckpt={runs / name}", f"--mel={tmp_path / 'a.npy'}", f"--output={tmp_path}")
    assert (result.code, result.err) == (0, ""), result
    samples, _ = audio_file.read(tmp_path / "a.wav", small.RATE, 16)
    assert samples.shape == (5 * small.HOP,)
    assert np.any(samples)
    arguments = f"--ckpt={runs / name}", f"--data={corpus}", "--utterances=1", f"--output={tmp_path / 'results'}"
    result = small.program("fwn.evaluate", *arguments)
    assert result.code == 0, result
    (row,) = json.loads((tmp_path / "results" / "results.json").read_text())["utterances"]["likelihood"].values()
    bits = {"bits_by_model", "bits_by_flac", "bits_by_histogram"}
    assert row.keys() == {"nats_per_sample", "nats_per_sample_dequantised", *bits}
    assert all(np.isfinite(value) for value in row.values())
    assert (tmp_path / "results" / "loss.png").is_file()


@pytest.mark.parametrize("name", ["clarinet", "parallel"])
def test_student_journal(runs, name):
    """Every term and sign is in metrics.jsonl, held out too; what it is followed by is the loss."""
    records = [json.loads(line) for line in (runs / name / "metrics.jsonl").read_text().splitlines()]
    terms = {"clarinet": {"kl", "regularisation", "frame"}, "parallel": {"kl", "power", "style", "contrastive"}}[name]
    assert [r["what"] for r in records] == ["train", "train", "held_out"]
    for record in records:
        assert terms | {"loss", "level_ratio_db", "line_noise", "peak"} <= record.keys()
        assert "nats_per_sample" not in record


def test_student_continues(runs, corpus):
    """With its teacher; under another it is refused, and so is a teacher of another kind, by name."""
    result = small.program("fwn.train", *flags(corpus, runs, "clarinet", num_steps=3))
    assert (result.code, result.err) == (0, ""), result
    assert "continuing from the checkpoint of step 2" in result.out
    found, mel, weights, step = checkpoints.read(runs / "gaussian")
    checkpoints.write(runs / "moved", found, mel, weights, step)
    checkpoints.write(runs / "other", found, mel, jax.tree.map(lambda a: 2 * a, weights), step)
    for teacher, workdir, said in (
        ("moved", "clarinet", None),
        ("other", "clarinet", "has other weights than the teacher that this run began with"),
        ("mixture", "new", "is a wavenet (mixture_of_logistics); clarinet learns from a wavenet (gaussian)"),
        ("nowhere", "new", "no such folder"),
    ):
        args = flags(corpus, runs, "clarinet", num_steps=3)[:-1]
        result = small.program("fwn.train", *args, f"--config.teacher={runs / teacher}", f"--workdir={runs / workdir}")
        assert (result.code, said is None or said in result.err) == (0 if said is None else 1, True), result
    missing = [flag for flag in flags(corpus, runs, "clarinet") if "teacher" not in flag]
    result = small.program("fwn.train", *missing, f"--workdir={runs / 'alone'}")
    assert result.code == 1
    assert "clarinet learns from a teacher; give its workdir: --config.teacher=DIR" in result.err
