"""Trains in short slots on a machine that keeps no files: each slot continues from the state that the last returned.

    python -m tools.slots --config=tools/lite_lj.py --config.data=data/lj --output=back --seconds=570
    python -m tools.slots --config=tools/lite_lj.py --config.data=data/lj --state=back --output=next --seconds=570
    python -m tools.slots --config=tools/lite_lj.py --state=next --workdir=runs/lite_lj

The first command is the first slot and the second one every later slot. The third converts the returned state to a
workdir for fwn.sample and fwn.evaluate. Training needs jax, flax, optax, absl, ml_collections and tqdm, but not grain,
soundfile, librosa, tensorboardX or orbax (the third command needs orbax).

The folder state/ in --output has config.json, metrics.jsonl and the training state in at most five files of at most
16 MiB each, 64 MiB together (tools.parts). It is replaced atomically: after a kill at any moment the same command
continues from the last state. Unfinished files are beside --output, never in it.

The first minute of training measures the steps per second. It sets config.num_steps to what fits into --minutes, and
config.optimizer.halve_every to a fraction of that, for all slots. The learning rate of earlier steps is not affected.
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
STATE = flags.DEFINE_string("state", None, "Folder that the previous slot returned. By default a new run is started.")
OUTPUT = flags.DEFINE_string(
    "output", None, "Folder to return. If it has a newer state than --state, that one is continued."
)
SECONDS = flags.DEFINE_float(
    "seconds", 570, "Length of the slot: the program exits so many seconds after its start.", 1
)
MINUTES = flags.DEFINE_float(
    "minutes", 28, "Length of all slots together, including their starts; the number of steps is planned from it.", 0.1
)
SAVE_SECONDS = flags.DEFINE_float("save_seconds", 90, "Seconds between saved states.", 1)
FIT_SECONDS = flags.DEFINE_float("fit_seconds", 60, "Seconds of training before the number of steps is planned.", 1)
WORKDIR = flags.DEFINE_string("workdir", None, "Do not train, but convert --state to this workdir.")

FOLDER, JOURNAL = "state", "metrics.jsonl"
QUIET_KEPT = 4  # use one in four silent crops
HALVINGS = 5  # of the learning rate in a run
TRAINING_SHARE = 0.95  # of the time; the rest is saving and evaluation
SAVE_SECONDS_FIRST = 15  # reserved for the last save until a save has been timed


def scheduled_step(system: Any, config: Any) -> Callable[..., tuple[State, dict[str, Any]]]:
    """train_step with config.optimizer.halve_every as an argument, so that planning it later needs no compilation."""

    def step(state: State, halve_every: Any, batch: Any, mean: Any) -> tuple[State, dict[str, Any]]:
        planned = config.copy_and_resolve_references()
        with planned.optimizer.ignore_type():
            planned.optimizer.halve_every = halve_every
        return train_step(system, planned)(state, (), batch, mean)

    return step


def planned_steps(step: int, rate: float, starting: float, elapsed: float) -> int:
    """Number of steps that fit into the run. rate: steps per second; starting: seconds before a slot's first step."""
    later = math.ceil(60 * MINUTES.value / SECONDS.value) - 1
    left = 60 * MINUTES.value - elapsed - later * starting
    return step + max(1, int(TRAINING_SHARE * rate * left))


class Slot:
    """One slot of a run: its state, config and journal."""

    def __init__(self, config: Any, output: Path, found: Path | None):
        self.config, self.mel = config, configs.mel_of(config)
        configs.check(config, self.mel, "--config")
        self.parallel, self.system = Parallel(config.parallel, config.batch_size), build(config, mel=self.mel)
        corpus = Corpus(config.data)
        corpus.check_contract(self.mel, "config.mel")
        self.crops = Batches(corpus, "train", config, QUIET_KEPT, self.system.past)
        tests = Batches(corpus, "test", config, past=self.system.past)
        self.tests = [self.parallel.batch(tests[i]) for i in range(config.eval_batches)]
        self.evaluate = self.parallel.compile(held_out(self.system, config))
        self.output, self.lines, self.reserve = output, journal(found), float(SAVE_SECONDS_FIRST)
        self.planned = found is not None and planned(found)
        if found is None:
            cli.say(f"initialising {config.system} on {jax.device_count()} {jax.default_backend()} device(s)")
            self.state = initial(self.system, config, self.parallel, self.crops[0])
        else:
            like = abstract(self.system, config, self.parallel, self.crops[0])
            self.state = jax.device_put(parts.load(found, like), jax.tree.map(lambda a: a.sharding, like))
            cli.say(f"continuing from step {int(self.state.step)} in {found}")

    def train(self) -> None:
        """Trains until the slot ends or the last step is done."""
        config, first = self.config, int(self.state.step)
        step = self.parallel.compile(scheduled_step(self.system, config), donate=True, carried=self.state)
        cli.say("compiling evaluation and training step: seconds to two minutes")
        self.measure(first)  # compiles the evaluation, so that no save includes compilation
        i, started, saved, last = first, math.inf, STARTED, None
        while i < config.num_steps:
            batch = self.parallel.batch(self.crops[i])
            self.state, metrics = step(self.state, np.int32(config.optimizer.halve_every), batch)
            i += 1
            if last is not None:  # one step late, so that the device does not wait for the host
                self.check(i - 1, last)
            last = metrics
            if i == first + 1:
                jax.block_until_ready(metrics)
                started = saved = time.monotonic()
                cli.say(f"first step {started - STARTED:.0f} s after the start")
            now = time.monotonic()
            if not self.planned and now - started > FIT_SECONDS.value:
                self.plan(i, (i - first - 1) / (now - started), started - STARTED)
            if now - STARTED + self.reserve > SECONDS.value:
                break
            if now - saved > SAVE_SECONDS.value:
                self.save(i)
                saved = time.monotonic()
                self.reserve = 2 * (saved - now) + 2
        if last is not None:
            self.check(i, last)
            self.save(i)
        ended = "trained to the last step" if i >= config.num_steps else "end of the slot at step"
        cli.say(f"{ended} {i} of {config.num_steps}: {self.output / FOLDER}")

    def plan(self, step: int, rate: float, starting: float) -> None:
        steps = planned_steps(step, rate, starting, time.monotonic() - STARTED)
        self.config.num_steps = steps
        # Later than the steps already taken, which had the full learning rate.
        self.config.optimizer.halve_every = max(steps // (HALVINGS + 1), step + 1)
        self.planned = True
        self.log("planned", step, {"num_steps": steps, "steps_per_second": rate})
        cli.say(f"{rate:.2f} steps/s: {steps} steps, the rate halved every {self.config.optimizer.halve_every}")

    def check(self, step: int, metrics: Any) -> None:
        """Logs the metrics of a step. Raises UserError if too many steps in a row were not finite."""
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if values["skipped"] >= self.config.max_skipped:
            raise UserError(
                f"{self.output}: {int(values['skipped'])} steps in a row up to {step} were skipped, their loss or "
                "gradient not finite, or their loss a spike (config.max_skipped, config.max_spike); the last state is "
                "kept: lower config.optimizer.learning_rate"
            )
        if step % self.config.log_every == 0:
            self.log("train", step, values)

    def log(self, what: str, step: int, values: dict[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}  # JSON has no NaN
        self.lines.append(json.dumps({"what": what, "step": step, **finite}))

    def measure(self, step: int) -> None:
        """Logs the held-out metrics."""
        weights = self.parallel.all_gather(self.state.split()[0])
        results = [jax.device_get(self.evaluate(weights, (), batch)) for batch in self.tests]
        mean = {name: float(np.mean([r[name] for r in results])) for name in results[0]}
        self.log("held_out", step, mean)
        shown = ", ".join(f"{name} {value:.4f}" for name, value in mean.items())
        cli.say(f"step {step}: held-out {shown}; {time.monotonic() - STARTED:.0f} s after the start")

    def save(self, step: int) -> None:
        """Saves the state in --output, and logs the held-out metrics."""
        self.measure(step)

        def fill(folder: Path) -> None:
            parts.save(folder, self.state)
            configs.write(folder, self.config, self.mel)
            (folder / JOURNAL).write_text("".join(f"{line}\n" for line in self.lines), encoding="utf-8")

        parts.replace(self.output / FOLDER, self.output.parent / f".{self.output.name}.unfinished", fill)


def journal(folder: Path | None) -> list[str]:
    return (folder / JOURNAL).read_text(encoding="utf-8").splitlines() if folder else []


def planned(folder: Path) -> bool:
    """Whether the number of steps was planned before the state was saved."""
    return any(json.loads(line)["what"] == "planned" for line in journal(folder))


def newest(folders: list[Path]) -> Path | None:
    """The state/ with the latest step in these folders, by its journal; None if there is none."""
    states = [folder / FOLDER for folder in folders if parts.names(folder / FOLDER)]
    return max(states, key=lambda state: max(json.loads(line)["step"] for line in journal(state)), default=None)


def continued(config: Any, found: Path) -> None:
    """Copies the planned steps of a stored state to the config. Raises UserError if the configs differ otherwise."""
    stored, _ = configs.read(found)
    config.num_steps = stored.num_steps
    config.optimizer.halve_every = stored.optimizer.halve_every
    configs.check_same(found, config, configs.mel_of(config))


def convert(found: Path, workdir: Path) -> None:
    """Converts a state to a workdir, with its weights (averaged if the config has an average) and its journal."""
    from fwn.training import checkpoints  # here, because it needs orbax

    config, mel = configs.read(found)
    batch = {"audio": jax.ShapeDtypeStruct((config.batch_size, config.frames * mel.hop_length), np.float32)}
    system = build(config, mel=mel)
    bands = mel.n_mels + system.speakers.channels
    batch |= {"mel": jax.ShapeDtypeStruct((config.batch_size, config.frames, bands), np.float32)}
    batch |= {"index": jax.ShapeDtypeStruct((config.batch_size,), np.int32)}
    state = parts.load(found, abstract(system, config, Parallel("jit", config.batch_size), batch))
    checkpoints.write(workdir, config, mel, jax.device_put(state.split()[0]), int(state.step))
    (workdir / JOURNAL).write_text("".join(f"{line}\n" for line in journal(found)), encoding="utf-8")
    cli.say(f"step {int(state.step)}: {workdir}")


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    if (OUTPUT.value is None) == (WORKDIR.value is None):
        raise UserError("give either --output to train, or --workdir to convert --state")
    if STATE.value is not None and not Path(STATE.value).is_dir():
        raise UserError(f"--state={STATE.value}: no such folder; give the returned folder, or leave --state out")
    found = newest([Path(folder) for folder in (OUTPUT.value, STATE.value) if folder])
    if WORKDIR.value is not None:
        if found is None:
            raise UserError(f"--state={STATE.value}: no {FOLDER}/ with a training state in it")
        return convert(found, Path(WORKDIR.value))
    config = configs.copied(CONFIG.value)
    if found is not None:
        continued(config, found)
    assert OUTPUT.value is not None  # one of the two was
    output = Path(OUTPUT.value).resolve()
    output.mkdir(parents=True, exist_ok=True)
    if output.stat().st_dev != output.parent.stat().st_dev:
        raise UserError(
            f"--output={output}: is a mount point, so unfinished files cannot be beside it; give a folder in it"
        )
    Slot(config, output, found).train()


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    cli.run(main)
