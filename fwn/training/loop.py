"""The training loop: steps, held-out figures, checkpoints, and the return to one when a run diverges."""

import dataclasses
import math
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fwn.data import loader
from fwn.disk import atomic
from fwn.errors import UserError
from fwn.mel import MelContract
from fwn.terminal import say
from fwn.training import guard
from fwn.training.checkpoints import Checkpoints
from fwn.training.examiner import Examiner
from fwn.training.journal import Journal
from fwn.training.parallel import Parallel
from fwn.training.step import State, carried, compiled_step, stored
from fwn.training.stop import Stop
from fwn.xla.malloc import give_back_memory

BATCHES_KEPT = 20  # files of batches that were skipped; later ones are not saved


def loaded(checkpoints: Checkpoints, step: int, like: State, config: Any, parallel: Parallel) -> State:
    """The state of a checkpoint. What was usual is forgotten if it was trained on other data, or before a guard."""
    state = State.merge(*checkpoints.load(step, *like.split()))
    if state.guard == ():
        return dataclasses.replace(state, guard=parallel.replicate(guard.new()))
    if checkpoints.config(step)["data"] == config.data:
        return state
    fresh = parallel.replicate(guard.new())
    return dataclasses.replace(
        state, guard=dataclasses.replace(fresh, moved=state.guard.moved, returns=state.guard.returns)
    )


class Diverged(Exception):
    """step: the last one taken or skipped. The message says what was seen."""

    def __init__(self, step: int, what: str):
        super().__init__(what)
        self.step = step


class Loop:
    """Trains from a state to config.num_steps.

    stream: this process's batches. frozen: a teacher's plain params, or (). checkpoints: where the run is saved, and
    what it returns to.
    """

    def __init__(
        self,
        system: Any,
        config: Any,
        mel: MelContract,
        workdir: Path,
        parallel: Parallel,
        stream: Any,
        frozen: Any,
        checkpoints: Checkpoints,
    ):
        self.system, self.config, self.mel, self.workdir = system, config, mel, workdir
        self.parallel, self.stream, self.frozen, self.checkpoints = parallel, stream, frozen, checkpoints
        self.left: set[int] = set()  # steps of the checkpoints that the run returned to since the last save

    def run(self, state: State, step: int, examiner: Examiner, stop: Stop) -> int:
        """Trains to the last step, or until it is asked to stop. Returns the signal that stopped it, or 0.

        step: the number of steps that the state has taken.
        Raises UserError if the run diverges and cannot return to a checkpoint.
        """
        say("compiling the training step: seconds on an accelerator, up to a minute on a CPU")
        state = carried(self.config, self.parallel, state)
        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), state)
        self.like = stored(self.parallel, shapes)
        self.take = compiled_step(self.system, self.config, self.parallel, state, self.stream[0], self.frozen)
        give_back_memory()
        self.moved, self.returns = int(state.guard.moved), int(state.guard.returns)
        why = ""
        stop.begin()
        while True:
            with closing(self.journal(step)) as journal:
                if why:
                    journal.returned(step, why, self.returns)
                try:
                    return self.steps(state, step, journal, examiner, stop)
                except Diverged as error:
                    at, why = error.step, f"at step {error.step}, {error}"
                    del state
            state, step = self.back(at, why)

    def journal(self, step: int) -> Journal:
        return Journal(self.workdir, step, self.config, self.mel, main=jax.process_index() == 0)

    def steps(self, state: State, first: int, journal: Journal, examiner: Examiner, stop: Stop) -> int:
        """The steps after `first`. Raises Diverged."""
        config, last = self.config, None
        batches = journal.timed(loader.iterate(self.stream, first + self.moved))
        for i, batch in enumerate(batches, first + 1):
            state, metrics = self.take(state, self.frozen, self.parallel.batch(batch))
            if last is not None:  # one step late, so that devices do not wait for the host
                self.judge(*last, state, journal)
            last = i, metrics
            leaving = stop.now(i + self.moved)
            examining = i % config.eval_every == 0 or i == config.num_steps
            if examining or leaving or i % config.save_every == 0:
                self.judge(*last, state, journal)
                last = None
                if not guard.finite(state):
                    raise Diverged(i, "weights or moments were not finite")
                # Also when stopping: a continued run does not come back to this step.
                whole = stored(self.parallel, state)
                score = examiner(i, whole, journal) if examining else None
                weights, rest = self.parallel.global_arrays(whole).split()
                self.checkpoints.save(i, weights, rest, score)
                del whole, weights, rest  # as much memory as the state
                self.left.clear()
                if config.max_seconds and not stop.saving:
                    stop.time_saving(self.checkpoints.wait)
            if i == config.num_steps:
                self.checkpoints.wait()
                say(f"trained to step {i}: {self.workdir}")
                return 0
            if leaving:
                self.checkpoints.wait()
                number = stop.agreed()
                limit = f"config.max_seconds={config.max_seconds}"
                by = limit if number == signal.SIGALRM else signal.Signals(number).name
                say(f"stopped by {by}; saved step {i}; run the same command again to go on")
                return number
        raise AssertionError("unreachable: the stream of batches is endless")

    def judge(self, step: int, metrics: Any, state: State, journal: Journal) -> None:
        """Logs a step's metrics. If it was skipped, saves its batch, or raises Diverged."""
        values = {name: value.item() for name, value in jax.device_get(metrics).items()}
        most, skipped = values.pop("loss_limit"), int(values["skipped"])
        journal.step(step, values)
        if not skipped:
            return
        loss, norm = values["loss"], values["gradient_norm"]
        what = f"the loss is {loss:.4g} and its gradient's norm {norm:.4g}"
        if math.isfinite(loss) and math.isfinite(norm):
            what = f"the loss is {loss:.4g}, over {most:.4g} (config.max_spike)"
        if skipped == 1:
            say(f"step {step} is skipped: {what}{self.saved(step)}")
        if not guard.finite(state):
            raise Diverged(step, "weights or moments were not finite")
        if skipped >= self.config.max_skipped:
            raise Diverged(step, f"{skipped} steps in a row were skipped (config.max_skipped): {what}")

    def saved(self, step: int) -> str:
        """Saves this process's share of the batch of a step, and says where."""
        batch, process = step - 1 + self.moved, jax.process_index()
        file = self.workdir / f"skipped-{step}-batch{batch}-process{process}.npz"
        if len(list(self.workdir.glob(f"skipped-*-process{process}.npz"))) >= BATCHES_KEPT:
            return f"; {BATCHES_KEPT} batches are saved already, this one is not"
        try:
            with atomic(file) as opened:
                np.savez(opened, **self.stream[batch])
        except OSError as error:  # no reason to end the run
            return f"; its batch could not be saved ({error.strerror})"
        return f"; its batch is in {file}"

    def back(self, at: int, why: str) -> tuple[State, int]:
        """(state, step) of the checkpoint to go on from. Later ones are deleted, and all batches up to `at` left out.

        It is the newest; the one before if the run diverged again without a newer one. Raises UserError if there is
        none, or after config.max_returns.
        """
        self.checkpoints.wait()
        steps = self.checkpoints.steps()
        remedy = "begin another run with a lower config.optimizer.learning_rate"
        if not steps:
            raise UserError(f"{self.workdir}: {why}; no checkpoint was saved yet: {remedy}")
        if self.returns >= self.config.max_returns:
            raise UserError(
                f"{self.workdir}: {why}; the run returned to a checkpoint {self.returns} times before "
                f"(config.max_returns={self.config.max_returns}); the checkpoint of step {steps[-1]} is in place: look "
                f"at the batches in {self.workdir}/skipped-*.npz, or {remedy} and --init_from={self.workdir}"
            )
        to = next((step for step in reversed(steps) if step not in self.left), steps[-1])
        self.left.add(to)
        state = loaded(self.checkpoints, to, self.like, self.config, self.parallel)
        for later in steps[steps.index(to) + 1 :]:
            self.checkpoints.delete(later)
        self.moved, self.returns = self.moved + at - to, self.returns + 1
        counts = {name: self.parallel.replicate(np.int32(getattr(self, name))) for name in ("moved", "returns")}
        say(f"{why}; returning to step {to}, with other batches (return {self.returns} of {self.config.max_returns})")
        state = dataclasses.replace(state, guard=dataclasses.replace(state.guard, **counts))
        return carried(self.config, self.parallel, state), to
