"""Faults are put into the data, the gradients and the state of a run: what it does then, and what it keeps."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from fwn import config as configs
from fwn.data import loader
from fwn.data.corpus import Corpus
from fwn.errors import UserError
from fwn.systems import build
from fwn.training import checkpoints, guard
from fwn.training.checkpoints import Checkpoints
from fwn.training.examiner import Examiner
from fwn.training.loop import Loop, loaded
from fwn.training.parallel import Parallel
from fwn.training.step import carried, compiled_step, initial, train_step
from fwn.training.stop import Stop


class Parts:
    """What all runs here share: the compiled step, the figures, and the state before step 0."""

    def __init__(self, corpus):
        self.config = small.config(corpus, log_every=1, save_every=4)
        self.mel = configs.mel_of(self.config)
        self.system, self.parallel = build(self.config, mel=self.mel), Parallel("jit", self.config.batch_size)
        self.corpus = Corpus(corpus)
        shape = {"frames": self.config.frames, "batch_size": self.config.batch_size, "seed": self.config.seed}
        self.stream, self.tests = (
            loader.batches(self.corpus, split, **shape, past=self.system.past) for split in ("train", "test")
        )
        state = initial(self.system, self.config, self.parallel, self.stream[0])
        self.like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), state)
        self.begin = jax.device_get(state)
        as_trained = carried(self.config, self.parallel, state)
        self.take = compiled_step(self.system, self.config, self.parallel, as_trained, self.stream[0])
        self.examiner = Examiner(self.system, self.config, self.parallel, self.corpus, self.tests, ())


class Run:
    """What fwn.train does after its flags, with faults: {number of the step in this start: fault(state, batch)}."""

    def __init__(self, workdir, parts):
        self.workdir, self.parts = workdir, parts

    def __call__(self, faults, num_steps=8, max_returns=3):
        """Trains, or continues. Returns the indices of the crops that each step saw."""
        parts, seen = self.parts, []
        config = parts.config.copy_and_resolve_references()
        config.update({"num_steps": num_steps, "max_returns": max_returns})
        kept = Checkpoints(self.workdir, config, parts.mel)
        configs.write(self.workdir, config, parts.mel)
        first = kept.latest() or 0
        if first:
            state = loaded(kept, first, parts.like, config, parts.parallel)
        else:
            state = jax.tree.map(lambda a, like: jax.device_put(a, like.sharding), parts.begin, parts.like)

        def faulty(state, frozen, batch):
            seen.append(np.asarray(batch["index"]).tolist())
            fault = faults(len(seen)) if callable(faults) else faults.get(len(seen))
            if fault is not None:
                state, batch = fault(state, batch)
            return parts.take(state, frozen, batch)

        loop = Loop(parts.system, config, parts.mel, self.workdir, parts.parallel, parts.stream, (), kept)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fwn.training.loop.compiled_step", lambda *args: faulty)
            patch.setattr(Stop, "begin", lambda stop: setattr(stop, "before", 0.0))  # leaves pytest's signals alone
            try:
                assert loop.run(state, first, parts.examiner, Stop()) == 0
            finally:
                kept.close()
        return seen

    def records(self, what):
        lines = (self.workdir / "metrics.jsonl").read_text().splitlines()
        return [record for record in map(json.loads, lines) if record["what"] == what]


@pytest.fixture(scope="module")
def parts(corpus):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "device_count", lambda: 1)  # four would only be slower
        return Parts(corpus)


@pytest.fixture
def run(parts, tmp_path):
    return Run(tmp_path / "run", parts)


def scaled(name, factor):
    """A fault of the batch: one of its arrays times a factor."""
    return lambda state, batch: (state, batch | {name: batch[name] * factor})


def weight(part, name, value):
    """A fault of the state: one element of the first array whose path has this pattern has another value."""

    def fault(state, batch):
        tree = getattr(state, part)
        leaves, shape = jax.tree.flatten(tree)
        paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(tree)]
        i = next(i for i, path in enumerate(paths) if re.search(name, path))
        broken = np.array(leaves[i])
        broken.flat[0] = value
        leaves[i] = jax.device_put(broken, leaves[i].sharding)
        return dataclasses.replace(state, **{part: jax.tree.unflatten(shape, leaves)}), batch

    return fault


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["audio", "mel"])
def test_a_bad_batch_is_skipped_and_saved(run, capsys, name, bad):
    seen = run({6: scaled(name, bad)})
    assert len(seen) == 8
    assert [record["step"] for record in run.records("train") if record["skipped"]] == [6]
    assert run.records("return") == []
    file = run.workdir / "skipped-6-batch5-process0.npz"
    assert f"step 6 is skipped: the loss is nan and its gradient's norm nan; its batch is in {file}" in (
        capsys.readouterr().out
    )
    assert np.load(file)["index"].tolist() == seen[5]


def test_a_spike_is_skipped_and_the_next_step_is_usual(run, capsys):
    run({34: scaled("audio", 1e3), 36: scaled("audio", 1e3)}, num_steps=37)
    losses = {record["step"]: record["loss"] for record in run.records("train")}
    assert [record["step"] for record in run.records("train") if record["skipped"]] == [34, 36]
    assert losses[34] > 10 + max(losses[step] for step in losses if step not in (34, 36))
    assert run.records("return") == []
    assert f"the loss is {losses[34]:.4g}, over " in capsys.readouterr().out
    assert {path.name for path in run.workdir.glob("skipped*")} == {
        f"skipped-{step}-batch{step - 1}-process0.npz" for step in (34, 36)
    }


@pytest.mark.parametrize(
    ("part", "name", "value", "caught"),
    [
        ("params", "kernel", np.nan, 6),
        ("params", "actnorm.*loc", np.inf, 6),
        ("ema", "kernel", np.nan, 8),  # not seen by a step, but by the next save
        ("opt", r"\.mu", np.nan, 7),
        ("opt", r"\.nu", np.inf, 8),  # a weight that would never change again
    ],
)
def test_a_broken_state_returns_to_the_checkpoint_with_other_batches(run, part, name, value, caught):
    seen = run({6: weight(part, name, value)}, num_steps=9)
    (record,) = run.records("return")
    assert (record["step"], record["why"]) == (4, f"at step {caught}, weights or moments were not finite")
    whole = [list(range(4 * i, 4 * i + 4)) for i in range(20)]
    ahead = len(seen) - 5  # steps until it was noticed, one step late
    assert seen == whole[:ahead] + whole[caught : caught + 5]
    assert guard.finite(small.arrays(run.workdir, 9))
    steps = [record["step"] for record in run.records("train")]
    assert steps == list(range(1, 10))
    assert [record["step"] for record in run.records("held_out")] == [4, 8, 9]


def test_scales_that_explode_return_to_the_checkpoint(run, capsys):
    """Finite weights, but a loss out of all measure: its steps are skipped, then the run returns."""
    seen = run({34: weight("params", "actnorm.*scale", 1e6)}, num_steps=38)
    (record,) = run.records("return")
    assert record["step"] == 32
    assert record["why"].startswith("at step 36, 3 steps in a row were skipped (config.max_skipped): the loss is ")
    assert [record["step"] for record in run.records("train")] == list(range(1, 39))
    assert seen[-1] == list(range(4 * 41, 4 * 42))
    assert "returning to step 32, with other batches (return 1 of 3)" in capsys.readouterr().out


def test_a_run_that_always_diverges_ends_and_keeps_its_best(run):
    """It returns max_returns times, the second time to the checkpoint before the newest."""
    run({}, num_steps=9)
    best = checkpoints.read(run.workdir).step
    scores = {record["step"]: record["nats_per_sample"] for record in run.records("held_out")}
    assert best == max(scores, key=lambda step: scores[step])
    with pytest.raises(UserError) as error:
        run(lambda step: scaled("audio", np.nan), num_steps=90)
    message = str(error.value)
    assert message.startswith(f"{run.workdir}: at step {best + 3 if best < 9 else 12}, 3 steps in a row were skipped")
    assert "the run returned to a checkpoint 3 times before (config.max_returns=3)" in message
    assert f"{run.workdir}/skipped-*.npz" in message
    assert f"--init_from={run.workdir}" in message
    assert checkpoints.read(run.workdir).step == best


def test_without_a_checkpoint_or_returns_it_ends_at_once(run):
    with pytest.raises(UserError, match=r"at step 3, 3 steps in a row were skipped .*; no checkpoint was saved yet"):
        run(lambda step: scaled("audio", np.nan))
    run({}, num_steps=4)
    with pytest.raises(UserError, match=r"returned to a checkpoint 0 times before \(config.max_returns=0\)"):
        run(lambda step: scaled("audio", np.nan), num_steps=90, max_returns=0)


def test_after_a_return_a_continued_run_is_the_uninterrupted_one(run, parts, tmp_path):
    """The batches that were left out are remembered in the checkpoint."""
    fault = {6: weight("params", "kernel", np.nan)}
    run(fault, num_steps=16)
    other = Run(tmp_path / "other", parts)
    other(fault, num_steps=12)
    other({}, num_steps=16)
    ours, theirs = (small.arrays(r.workdir, 16) for r in (run, other))
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert ours["train['guard']['returns']"] == 1
    assert ours["train['guard']['moved']"] == 2


def test_a_run_returns_to_a_checkpoint_from_before_there_was_a_guard(run, parts):
    run({}, num_steps=4)
    kept = Checkpoints(run.workdir, parts.config, parts.mel)
    weights, rest = kept.load(4, *parts.like.split())
    kept.delete(4)
    kept.save(4, weights, {name: value for name, value in vars(rest).items() if name != "guard"})
    kept.close()
    assert not [name for name in small.arrays(run.workdir, 4) if "guard" in name]
    seen = run({3: weight("params", "kernel", np.nan)})
    assert [record["step"] for record in run.records("return")] == [4]
    assert seen[-1] == list(range(4 * 10, 4 * 11))  # batch 10: three were seen before
    found = small.arrays(run.workdir, 8)
    assert (found["train['guard']['count']"], found["train['guard']['moved']"]) == (4, 3)
    assert guard.finite(found)


def test_a_gradient_that_is_not_finite_is_not_taken(parts):
    """Of a finite loss: d√x is infinite at 0."""

    def loss(params, frozen, batch, key):
        value, metrics = parts.system.loss(params, frozen, batch, key)
        return value + jnp.sqrt(0.0 * jax.tree.leaves(params)[0].sum()), metrics

    step = parts.parallel.compile(train_step(parts.system._replace(loss=loss), parts.config))
    after, metrics = step(parts.begin, (), parts.parallel.batch(parts.stream[0]))
    assert np.isfinite(metrics["loss"])
    assert not np.isfinite(metrics["gradient_norm"])
    assert (int(after.skipped), int(after.step), int(after.guard.count)) == (1, 1, 0)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(after.params), parts.begin.params)


def test_the_usual_loss_is_numpys(rng):
    losses = rng.normal(3.0, 0.4, 200).astype(np.float32)
    watched, mean, deviation = guard.new(), 0.0, 0.0
    for i, loss in enumerate(losses):
        expected = np.inf if i < 30 else mean + max(1.0, 10 * deviation)
        assert float(guard.limit(watched, 10.0)) == pytest.approx(min(expected, np.finfo(np.float32).max), rel=1e-5)
        assert float(guard.limit(watched, 0.0)) == np.finfo(np.float32).max
        decay = min(0.98, i / (i + 1))
        deviation = decay * deviation + (1 - decay) * (abs(loss - mean) if i else 0)
        mean = decay * mean + (1 - decay) * loss
        watched = guard.followed(watched, jnp.asarray(loss))
    assert int(watched.count) == 200
    assert float(watched.mean) == pytest.approx(3.0, abs=0.2)
