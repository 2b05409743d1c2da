"""Trains in short slots on a machine that keeps nothing: each continues from what the one before handed back.

    python -m tools.slots --config=tools/lite_lj.py --config.data=data/lj --output=back --seconds=570
    python -m tools.slots --config=tools/lite_lj.py --config.data=data/lj --state=back --output=next --seconds=570
    python -m tools.slots --config=tools/lite_lj.py --state=next --workdir=runs/lite_lj

The first line begins, the second is every slot after it, the third makes of what came back a workdir for fwn.sample
and fwn.evaluate. It needs jax, flax, optax, absl, ml_collections and tqdm, and none of grain, soundfile, librosa,
tensorboardX and orbax (the third line needs orbax).

--output gets the folder state/: config.json, metrics.jsonl and the training state in at most five files of at most
16 MiB each, 64 MiB together (tools.parts). It is replaced as a whole: a kill at any moment leaves the last one, and the
same command goes on from it. Unfinished files lie beside --output, never in it.

The first minute of training measures the steps a second: config.num_steps becomes what --minutes have time for and
config.optimizer.halve_every a share of it, for all slots. No step before that is under another rate for it.
"""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import config_flags

from fwn import cli
from fwn import config as configs
from fwn.data.corpus import Corpus
from fwn.errors import UserError
from fwn.systems import build
from fwn.training.parallel import Parallel
from fwn.training.step import State, abstract, held_out, initial, train_step
from tools import parts
from tools.batches import Batches

STARTED = time.monotonic()

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Experiment: a Python file with get_config(), or the name of one that comes with fwn. Required."
)
STATE = flags.DEFINE_string("state", None, "Folder that the slot before handed back. By default a run is begun.")
OUTPUT = flags.DEFINE_string("output", None, "Folder that is handed back; a state in it is continued if it is newer.")
SECONDS = flags.DEFINE_float("seconds", 570, "The slot: this program leaves so many seconds after its start.", 1)
MINUTES = flags.DEFINE_float(
    "minutes", 28, "All slots together, each with its start, for which steps are planned.", 0.1
)
SAVE_SECONDS = flags.DEFINE_float("save_seconds", 90, "Seconds between two states in --output.", 1)
FIT_SECONDS = flags.DEFINE_float("fit_seconds", 60, "Seconds of training after which the steps are planned.", 1)
WORKDIR = flags.DEFINE_string("workdir", None, "Instead of training: the workdir that is made of --state.")

PLACE, JOURNAL = "state", "metrics.jsonl"
QUIET_KEPT = 4  # of the starts in silence one in so many
HALVINGS = 5  # of the rate in a whole run
OVERHEAD = 0.95  # of the time is training: the rest goes to saving and held-out figures
LEAVING = 15  # seconds kept for the last state, until one was saved and measured


def scheduled_step(system: Any, config: Any) -> Callable[..., tuple[State, dict[str, Any]]]:
    """train_step whose `frozen` is config.optimizer.halve_every: planned after compiling, it compiles nothing again."""

    def step(state: State, halve_every: Any, batch: Any, mean: Any) -> tuple[State, dict[str, Any]]:
        planned = config.copy_and_resolve_references()
        with planned.optimizer.ignore_type():
            planned.optimizer.halve_every = halve_every
        return train_step(system, planned)(state, (), batch, mean)

    return step


def planned_steps(step: int, rate: float, starting: float, elapsed: float) -> int:
    """How many steps the whole run has time for, at `rate` steps a second; each slot takes `starting` to its first."""
    later = math.ceil(60 * MINUTES.value / SECONDS.value) - 1
    left = 60 * MINUTES.value - elapsed - later * starting
    return step + max(1, int(OVERHEAD * rate * left))


class Slot:
    """One slot: the run's state, its config and its journal so far."""

    def __init__(self, config: Any, output: Path, found: Path | None):
        self.config, self.mel = config, configs.mel_of(config)
        configs.check(config, self.mel, "--config")
        self.parallel, self.system = Parallel(config.parallel, config.batch_size), build(config, mel=self.mel)
        corpus = Corpus(config.data)
        corpus.check_contract(self.mel, "config.mel")
        self.crops = Batches(corpus, "train", config, QUIET_KEPT, self.system.past)
        tests = Batches(corpus, "test", config, past=self.system.past)
        self.tests = [self.parallel.batch(tests[i]) for i in range(config.eval_batches)]
        self.examine = self.parallel.compile(held_out(self.system, config))
        self.output, self.lines, self.leaving = output, journal(found), float(LEAVING)
        self.planned = found is not None and planned(found)
        if found is None:
            cli.say(f"initialising {config.system} on {jax.device_count()} {jax.default_backend()} device(s)")
            self.state = initial(self.system, config, self.parallel, self.crops[0])
        else:
            like = abstract(self.system, config, self.parallel, self.crops[0])
            self.state = jax.device_put(parts.load(found, like), jax.tree.map(lambda a: a.sharding, like))
            cli.say(f"continuing from step {int(self.state.step)} in {found}")

    def train(self) -> None:
        """The loop: until the time is over or the run is at its last step."""
        config, first = self.config, int(self.state.step)
        step = self.parallel.compile(scheduled_step(self.system, config), donate=True, carried=self.state)
        cli.say("compiling the held-out figures and the training step: seconds, or a minute or two")
        self.measure(first)  # before training, so that no save takes as long as compiling does
        i, begun, saved, last = first, math.inf, STARTED, None
        while i < config.num_steps:
            batch = self.parallel.batch(self.crops[i])
            self.state, metrics = step(self.state, np.int32(config.optimizer.halve_every), batch)
            i += 1
            if last is not None:  # one step late, so that the device never waits for the host
                self.watch(i - 1, last)
            last = metrics
            if i == first + 1:
                jax.block_until_ready(metrics)
                begun = saved = time.monotonic()
                cli.say(f"first step {begun - STARTED:.0f} s after the start")
            now = time.monotonic()
            if not self.planned and now - begun > FIT_SECONDS.value:
                self.plan(i, (i - first - 1) / (now - begun), begun - STARTED)
            if now - STARTED + self.leaving > SECONDS.value:
                break
            if now - saved > SAVE_SECONDS.value:
                self.save(i)
                saved = time.monotonic()
                self.leaving = 2 * (saved - now) + 2
        if last is not None:
            self.watch(i, last)
            self.save(i)
        ended = "trained to the last step" if i >= config.num_steps else "the slot is over at step"
        cli.say(f"{ended} {i} of {config.num_steps}: {self.output / PLACE}")

    def plan(self, step: int, rate: float, starting: float) -> None:
        steps = planned_steps(step, rate, starting, time.monotonic() - STARTED)
        self.config.num_steps = steps
        # Never under a step already taken: what was computed until now was at the full rate.
        self.config.optimizer.halve_every = max(steps // (HALVINGS + 1), step + 1)
        self.planned = True
        self.note("planned", step, {"num_steps": steps, "steps_per_second": rate})
        cli.say(f"{rate:.2f} steps/s: {steps} steps, the rate halved every {self.config.optimizer.halve_every}")

    def watch(self, step: int, metrics: Any) -> None:
        """Notes a step's metrics. Raises UserError when too many steps in a row were not finite."""
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if values["skipped"] >= self.config.max_skipped:
            raise UserError(
                f"{self.output}: loss or gradient was not finite in {int(values['skipped'])} steps up to {step} "
                "(config.max_skipped); the last state is in place: lower config.optimizer.learning_rate"
            )
        if step % self.config.log_every == 0:
            self.note("train", step, values)

    def note(self, what: str, step: int, values: dict[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}  # JSON has no NaN
        self.lines.append(json.dumps({"what": what, "step": step, **finite}))

    def measure(self, step: int) -> None:
        """Notes the held-out figures."""
        weights = self.parallel.all_gather(self.state.split()[0])
        results = [jax.device_get(self.examine(weights, (), batch)) for batch in self.tests]
        mean = {name: float(np.mean([r[name] for r in results])) for name in results[0]}
        self.note("held_out", step, mean)
        told = ", ".join(f"{name} {value:.4f}" for name, value in mean.items())
        cli.say(f"step {step}: held-out {told}; {time.monotonic() - STARTED:.0f} s after the start")

    def save(self, step: int) -> None:
        """Puts the state into --output, with the held-out figures."""
        self.measure(step)

        def fill(folder: Path) -> None:
            parts.save(folder, self.state)
            configs.write(folder, self.config, self.mel)
            (folder / JOURNAL).write_text("".join(f"{line}\n" for line in self.lines), encoding="utf-8")

        parts.replace(self.output / PLACE, self.output.parent / f".{self.output.name}.unfinished", fill)


def journal(folder: Path | None) -> list[str]:
    return (folder / JOURNAL).read_text(encoding="utf-8").splitlines() if folder else []


def planned(folder: Path) -> bool:
    """Whether the steps of the run were planned before the state was saved."""
    return any(json.loads(line)["what"] == "planned" for line in journal(folder))


def newest(folders: list[Path]) -> Path | None:
    """The state/ in these folders that is furthest, by its journal; None where there is none."""
    states = [folder / PLACE for folder in folders if parts.names(folder / PLACE)]
    return max(states, key=lambda state: max(json.loads(line)["step"] for line in journal(state)), default=None)


def continued(config: Any, found: Path) -> None:
    """Gives the config the plan of the state that is continued. Raises UserError where anything else differs."""
    begun, _ = configs.read(found)
    config.num_steps = begun.num_steps
    config.optimizer.halve_every = begun.optimizer.halve_every
    configs.check_same(found, config, configs.mel_of(config))


def convert(found: Path, workdir: Path) -> None:
    """Makes a workdir of a state: its weights, averaged where the config says so, and its journal."""
    from fwn.training import checkpoints  # here, because it needs orbax

    config, mel = configs.read(found)
    batch = {"audio": jax.ShapeDtypeStruct((config.batch_size, config.frames * mel.hop_length), np.float32)}
    batch |= {"mel": jax.ShapeDtypeStruct((config.batch_size, config.frames, mel.n_mels), np.float32)}
    batch |= {"index": jax.ShapeDtypeStruct((config.batch_size,), np.int32)}
    state = parts.load(found, abstract(build(config, mel=mel), config, Parallel("jit", config.batch_size), batch))
    checkpoints.write(workdir, config, mel, jax.device_put(state.split()[0]), int(state.step))
    (workdir / JOURNAL).write_text("".join(f"{line}\n" for line in journal(found)), encoding="utf-8")
    cli.say(f"step {int(state.step)}: {workdir}")


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    if (OUTPUT.value is None) == (WORKDIR.value is None):
        raise UserError("give --output to train, or --workdir to convert what --state names: one of the two")
    if STATE.value is not None and not Path(STATE.value).is_dir():
        raise UserError(f"--state={STATE.value}: no such folder; give the one that was handed back, or leave it out")
    found = newest([Path(folder) for folder in (OUTPUT.value, STATE.value) if folder])
    if WORKDIR.value is not None:
        if found is None:
            raise UserError(f"--state={STATE.value}: no {PLACE}/ with a training state in it")
        return convert(found, Path(WORKDIR.value))
    config = CONFIG.value.copy_and_resolve_references()
    if found is not None:
        continued(config, found)
    assert OUTPUT.value is not None  # one of the two was
    output = Path(OUTPUT.value).resolve()
    output.mkdir(parents=True, exist_ok=True)
    if output.stat().st_dev != output.parent.stat().st_dev:
        raise UserError(f"--output={output}: a disk of its own, on which nothing can be made beside it; give a folder")
    Slot(config, output, found).train()


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    cli.run(main)
