"""Training in slots: a state survives its small files up to rounding, and the run continues from it."""

import dataclasses
import os

import jax
import numpy as np
import pytest
import small

from fwn.data.corpus import Corpus
from fwn.errors import UserError
from fwn.systems import build
from fwn.training import checkpoints
from fwn.training.parallel import Parallel
from fwn.training.step import abstract, initial, train_step
from tools import parts
from tools.batches import QUIET, Batches


@pytest.fixture(scope="module")
def trained(corpus):
    """(step function, batches, Parallel, [the states after 0, 1, … 6 steps as NumPy arrays], shapes)"""
    config = small.config(corpus, ema_decay=0.9)
    system, parallel = build(config), Parallel("jit", config.batch_size)
    batches = Batches(Corpus(corpus), "train", config)
    state = initial(system, config, parallel, batches[0])
    like = abstract(system, config, parallel, batches[0])
    step = parallel.compile(train_step(system, config), carried=state)
    states = [jax.device_get(state)]
    for i in range(6):
        state, _ = step(state, (), parallel.batch(batches[i]))
        states.append(jax.device_get(state))
    return step, batches, parallel, states, like


def distance(a, b):
    """Largest difference of two trees, relative to the largest value of each array of b."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.max(np.abs(x - y)) / max(np.max(np.abs(y)), 1e-30)) for x, y in pairs if np.size(x))


def test_a_saved_state_is_equal_up_to_rounding(trained, tmp_path):
    """Integers are exact, floats have half a unit of the last stored bit; file sizes are within the limits."""
    state, like = trained[3][6], trained[4]
    parts.save(tmp_path, state)
    sizes = [file.stat().st_size for file in tmp_path.iterdir()]
    assert max(sizes) <= parts.FILE_LIMIT
    assert sum(sizes) <= parts.LIMIT
    back = parts.load(tmp_path, like)
    assert (back.step, back.skipped, back.skipped_in_all) == (6, 0, 0)
    for name, bits in (("params", 17), ("opt", 8)):
        for a, b in zip(jax.tree.leaves(getattr(back, name)), jax.tree.leaves(getattr(state, name)), strict=True):
            np.testing.assert_allclose(a, b, rtol=0 if np.issubdtype(b.dtype, np.integer) else 2.0**-bits, atol=0)
    for e, e0, p0 in zip(*map(jax.tree.leaves, (back.ema, state.ema, state.params)), strict=True):
        bound = 2.0**-8 * np.abs(e0 - p0) + 2.0**-15 * np.abs(p0)
        assert np.all(np.abs(e - e0) <= bound)


def test_saving_a_loaded_state_changes_nothing(trained, tmp_path):
    """Weights and moments that were rounded once are not rounded further."""
    like, state = trained[4], trained[3][6]
    parts.save(tmp_path, state)
    once = parts.load(tmp_path, like)
    parts.save(tmp_path, once)
    twice = parts.load(tmp_path, like)
    for name in ("params", "opt"):
        assert distance(getattr(twice, name), getattr(once, name)) == 0


def test_training_continues_from_a_stored_state(trained, tmp_path):
    """Three steps from a stored state equal those of the uninterrupted run, up to rounding."""
    step, batches, parallel, states, like = trained
    parts.save(tmp_path, states[3])
    stored = parts.load(tmp_path, like)
    state = jax.device_put(stored, jax.tree.map(lambda a: a.sharding, like))
    for i in range(3, 6):
        state, metrics = step(state, (), parallel.batch(batches[i]))
    assert int(state.step) == 6
    state = jax.device_get(state)
    moved = distance(states[6].params, states[3].params)
    assert distance(state.params, states[6].params) < 0.02 * moved
    assert np.isfinite(metrics["loss"])


def test_a_state_from_before_there_was_a_guard_gets_a_new_one(trained, tmp_path):
    state, like = trained[3][3], trained[4]
    parts.save(tmp_path, dataclasses.replace(state, guard=()))
    stored = parts.load(tmp_path, like)
    assert distance(stored.opt, state.opt) <= 2**-8
    assert jax.tree.map(np.shape, stored.guard) == jax.tree.map(np.shape, like.guard)
    assert not any(jax.tree.leaves(stored.guard))


def test_a_state_is_split_into_files_below_the_limit(trained, tmp_path, monkeypatch):
    """With a limit of 16 KiB a state has several files. A missing, damaged or foreign one raises UserError."""
    monkeypatch.setattr(parts, "FILE_LIMIT", 2**14)
    monkeypatch.setattr(parts, "FILES", 100)
    state, like = trained[3][1], trained[4]
    parts.save(tmp_path, state)
    files = parts.names(tmp_path)
    assert len(files) > 2
    assert max(file.stat().st_size for file in files) <= 2**14
    assert distance(parts.load(tmp_path, like).opt, state.opt) <= 2**-8
    whole = files[1].read_bytes()
    for damage, message in (
        (whole[: len(whole) // 2], "damaged"),
        (whole[:200] + bytes([whole[200] ^ 255]) + whole[201:], "damaged"),
        (None, "missing"),
    ):
        files[1].write_bytes(damage) if damage else files[1].unlink()
        with pytest.raises(UserError, match=rf"part-2-of-{len(files)}.npz: {message}") as error:
            parts.load(tmp_path, like)
        assert "\n" not in str(error.value)
    (tmp_path / "part-1-of-2.npz").touch()
    with pytest.raises(UserError, match="parts of several states"):
        parts.load(tmp_path, like)


def test_a_state_that_is_too_large_raises(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "LIMIT", 1000)
    with pytest.raises(UserError, match="the previous state is kept"):
        parts.save(tmp_path, trained[3][0])


def test_a_state_of_another_model_raises(trained, tmp_path):
    parts.save(tmp_path, trained[3][0])
    with pytest.raises(UserError, match="the state is of another model"):
        parts.load(tmp_path, dataclasses.replace(trained[4], ema=()))


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced_atomically(tmp_path, monkeypatch, there, exchange):
    """A failed write keeps the old folder; a finished one replaces it. Nothing else is left."""
    if not exchange:
        monkeypatch.setattr(parts.ctypes, "CDLL", lambda *args, **rest: object())
    place, unfinished = tmp_path / "out" / "state", tmp_path / ".out.unfinished"
    if there:
        parts.replace(place, unfinished, lambda folder: (folder / "a").write_text("old"))

    def failing(folder):
        (folder / "a").write_text("half")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        parts.replace(place, unfinished, failing)
    assert place.exists() == there
    assert not there or (place / "a").read_text() == "old"
    parts.replace(place, unfinished, lambda folder: (folder / "b").write_text("new"))
    assert os.listdir(place) == ["b"]
    assert os.listdir(tmp_path) == ["out"]


def test_crops(corpus):
    """A batch depends on (seed, step) only, silent crops are rare, and indices are consecutive."""
    config, data = small.config(corpus), Corpus(corpus)
    batches = Batches(data, "train", config, quiet_kept=4)
    for name in ("audio", "mel", "index"):
        np.testing.assert_array_equal(batches[3][name], Batches(data, "train", config, quiet_kept=4)[3][name])
    assert not np.array_equal(batches[3]["audio"], batches[4]["audio"])
    assert batches[3]["audio"].shape == (4, 8 * small.HOP)
    assert list(batches[3]["index"]) == [12, 13, 14, 15]
    i, start = batches.starts[0]
    audio, _ = data.window(int(i), int(start), 8)
    assert np.mean(audio**2) >= QUIET or start % 4 == 0
    assert {data.utterances[int(i)].split for i, _ in batches.starts} == {"train"}


def test_slots_and_conversion(corpus, tmp_path, compiled):
    """Two slots, an error for another config, and the conversion to a workdir."""
    flags = small.config_flags(corpus, num_steps=3, ema_decay=0.9)
    back, output = f"--output={tmp_path / 'back'}", f"--output={tmp_path / 'next'}"
    first = small.program("tools.slots", *flags, back)
    assert (first.code, first.err) == (0, ""), first
    assert "trained to the last step 3 of 3" in first.out
    files = sorted(os.listdir(tmp_path / "back" / "state"))
    assert files == ["config.json", "metrics.jsonl", "part-1-of-1.npz"]
    again = small.program("tools.slots", *flags, f"--state={tmp_path / 'back'}", output)
    assert (again.code, again.err) == (0, ""), again
    assert "continuing from step 3" in again.out
    other = [*flags, "--config.seed=7"]
    refused = small.program("tools.slots", *other, f"--state={tmp_path / 'back'}", output)
    assert refused.code == 1
    assert "seed: 1111 there, 7 now" in refused.err
    made = small.program("tools.slots", *flags, f"--state={tmp_path / 'back'}", f"--workdir={tmp_path / 'run'}")
    assert (made.code, made.err) == (0, ""), made
    _, _, params, step = checkpoints.read(tmp_path / "run")
    assert step == 3
    assert all(np.all(np.isfinite(a)) for a in jax.tree.leaves(params))
