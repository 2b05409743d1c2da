"""Trains a system from an experiment file, on all devices of all processes. Run again, it continues the run.

    python -m fwn.train --config=experiments/base.py --workdir=runs/base --config.data=data/ljspeech
    python -m fwn.train --config=experiments/tiny.py --workdir=runs/tiny --config.batch_size=4 --config.num_steps=500

Every field of the experiment can be set by --config.FIELD=VALUE (experiments/base.py lists and explains them).
A student (experiments/clarinet.py, parallel_wavenet.py) learns from the model in --config.teacher.
The workdir has config.json, checkpoints/ (the newest, and the best by held-out nats/sample, a student's by its loss),
metrics.jsonl, and TensorBoard's events/. SIGTERM or ctrl-C saves a checkpoint and stops, --config.max_seconds does so
when that time is nearly up, with exit code 4.
"""

import signal
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import config_flags

from fwn import cli
from fwn import config as configs
from fwn.data import loader
from fwn.data.corpus import Corpus
from fwn.disk import locked
from fwn.errors import UserError
from fwn.mel import MelContract, difference
from fwn.nn.weight_norm import fold_weight_norm
from fwn.synthesis import exported
from fwn.systems import build
from fwn.systems.student import untaught
from fwn.terminal import silence
from fwn.training import beginning, freeze
from fwn.training.checkpoints import Checkpoints, checkpoints_in
from fwn.training.examiner import Examiner
from fwn.training.loop import Loop, loaded
from fwn.training.parallel import Parallel
from fwn.training.step import PARTS, abstract, carried, initial, shapes
from fwn.training.stop import Stop

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Experiment: a Python file with get_config(), or the name of one that comes with fwn. Required."
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; one that holds a run is continued. Required.", required=True
)
INIT_FROM = flags.DEFINE_multi_string(
    "init_from",
    [],
    "Begin with the weights of this workdir or voice (fwn.export), in the parts (prediction, autoregression, model) "
    "that it and the config have; optimizer and steps begin anew. If repeated, each part comes from the first that has "
    "it. Not used when a run is continued.",
)
INIT_PARTS = flags.DEFINE_multi_enum(
    "init_parts",
    list(PARTS),
    PARTS,
    "Which parts --init_from begins with; may be repeated. By default all that it has.",
)
INIT_PARTIAL = flags.DEFINE_bool(
    "init_partial",
    False,
    "With --init_from: take the arrays that fit the config. The others are initialised as usual, and the first ten are "
    "named. By default a part that does not fit is an error.",
)
INIT_ACTNORM = flags.DEFINE_enum(
    "init_actnorm",
    "keep",
    ["keep", "data"],
    "With --init_from: keep its ActNorm, or initialise it from the first batch of the new data (docs/finetune.md).",
)
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Join the other processes of a TPU pod or Slurm job.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where no cluster says it by itself.")
PROCESSES = flags.DEFINE_integer("processes", None, "With --coordinator: number of processes in all.")
PROCESS = flags.DEFINE_integer("process", None, "With --coordinator: number of this process, from 0.")


def train(config: Any, workdir: Path, stop: Stop) -> int:
    """Prepares a run and trains. Returns the exit code. Raises UserError for what cannot be trained or continued."""
    mel = configs.mel_of(config)
    configs.check(config, mel, "--config")
    build(config, mel=mel)  # checks the fields before anything is read
    parallel = Parallel(config.parallel, config.batch_size)
    begun = configs.read(workdir)[0] if checkpoints_in(workdir) else None
    teacher_config, frozen = taught_by(config, mel)
    if said := configs.settle(config, begun, teacher_config):
        cli.say(said)
    build(config, teacher_config, mel)  # checks that it fits its teacher
    if begun is not None:
        configs.check_same(workdir, config, mel)
    corpus = Corpus(config.data)
    corpus.check_contract(mel, "config.mel")
    if said := configs.settle_by_data(config, corpus):
        cli.say(said)
    who = configs.Speakers(config).table(corpus)
    system, frozen = build(config, teacher_config, mel), parallel.replicate(frozen)
    if config.verify_data:
        corpus.verify()
    shape = {"frames": config.frames, "batch_size": config.batch_size, "seed": config.seed}
    shape |= {"process": jax.process_index(), "processes": jax.process_count(), "past": system.past}
    stream, tests = (loader.batches(corpus, split, **shape, who=who) for split in ("train", "test"))

    busy = f"{workdir}: another fwn.train is running there; wait for it, or stop it"
    alone = locked(workdir / ".lock", busy) if jax.process_index() == 0 else nullcontext()
    with alone, closing(Checkpoints(workdir, config, mel)) as checkpoints:
        first = checkpoints.latest()
        if first is None:
            cli.say(f"initialising {config.system} on {jax.device_count()} {jax.default_backend()} device(s)")
            weights = given(mel, system, config, stream[0], frozen)
            state, first = initial(system, config, parallel, stream[0], frozen, weights), 0
        else:
            like = abstract(system, config, parallel, jax.tree.map(np.asarray, stream[0]), frozen)
            state = loaded(checkpoints, first, like, config, parallel)
            check_taught(state.params, frozen, config)
            cli.say(f"continuing from the checkpoint of step {first}")
        freeze.frozen(config.freeze, state.params)
        state = carried(config, parallel, state)
        if jax.process_index() == 0:
            configs.write(workdir, config, mel)
        if first >= config.num_steps:
            cli.say(
                f"{workdir}: trained to step {first} already; raise config.num_steps (now {config.num_steps}) to go on"
            )
            return 0
        examiner = Examiner(system, config, parallel, corpus, tests, frozen)
        loop = Loop(system, config, mel, workdir, parallel, stream, frozen, checkpoints)
        number = loop.run(state, first, examiner, stop)
        return {0: 0, signal.SIGALRM: cli.TIME_IS_UP}.get(number, 128 + number)


def taught_by(config: Any, mel: MelContract) -> tuple[Any, Any]:
    """(config, plain params) of the model that config.teacher names, or (None, ()). Raises UserError."""
    if config.teacher is None:
        if config.loss:
            raise untaught(config)
        return None, ()
    teacher, its_mel, params, step = exported.read_run(config.teacher)
    if its_mel.hash() != mel.hash():
        raise UserError(
            f"config.teacher={config.teacher} has the mel contract {its_mel.title}, config.mel is {mel.title}; they "
            f"must be equal\n{difference(its_mel, mel)}"
        )
    cli.say(f"teacher: {config.teacher}, {teacher.system}, step {step}")
    return teacher, fold_weight_norm(params)


def given(mel: MelContract, system: Any, config: Any, batch: Any, frozen: Any) -> Any:
    """The weights of --init_from that the system has too, or None without the flag. Raises UserError."""
    if not INIT_FROM.value:
        return None
    sources = [(name, exported.read_run(name)) for name in INIT_FROM.value]
    weights = beginning.joined(sources, INIT_PARTS.value, mel, configs.Speakers(config))
    expected = shapes(system, config, batch, frozen)
    if frozen != ():  # a student's upsampling is its teacher's
        weights.pop("upsample", None)
        expected = {name: node for name, node in expected.items() if name != "upsample"}
    return beginning.taken(sources, weights, expected, INIT_PARTIAL.value, INIT_ACTNORM.value == "keep")


def check_taught(params: Any, frozen: Any, config: Any) -> None:
    """Raises UserError if the student began with another teacher: it has a copy of its teacher's upsampling."""
    if config.teacher is None:
        return
    same = jax.tree.map(np.array_equal, *jax.device_get((params["upsample"], frozen["upsample"])))
    if not all(jax.tree.leaves(same)):
        raise UserError(
            f"config.teacher={config.teacher} has other weights than the teacher that this run began with (was "
            "it trained further?); give that teacher, or another --workdir"
        )


def main(args: list[str]) -> int:
    cli.flags_alone(args)
    if not INIT_FROM.value and set(INIT_PARTS.value) != set(PARTS):
        raise UserError(
            f"--init_parts={','.join(INIT_PARTS.value)}: needs --init_from, the workdir or voice that has these parts"
        )
    if not INIT_FROM.value and (INIT_PARTIAL.value or INIT_ACTNORM.value != "keep"):
        flag = "--init_partial" if INIT_PARTIAL.value else f"--init_actnorm={INIT_ACTNORM.value}"
        raise UserError(f"{flag}: needs --init_from, the workdir or voice to begin with")
    join_processes()
    config = configs.copied(CONFIG.value)
    return train(config, Path(WORKDIR.value), Stop(config.get("max_seconds", 0)))


def join_processes() -> None:
    """Joins the processes of a run if the flags say so. Raises UserError if that fails."""
    told = {"--coordinator": COORDINATOR.value, "--processes": PROCESSES.value, "--process": PROCESS.value}
    missing = [flag for flag, value in told.items() if value is None]
    if len(missing) == len(told) and not DISTRIBUTED.value:
        return
    if 0 < len(missing) < len(told):
        raise UserError(f"{' and '.join(missing)} missing: --coordinator, --processes and --process go together")
    try:
        jax.distributed.initialize(COORDINATOR.value, PROCESSES.value, PROCESS.value)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"the processes could not be joined ({reason}); outside of a TPU pod or Slurm job give --coordinator, "
            "--processes and --process"
        ) from error
    if jax.process_index():
        silence()


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    cli.run(main)
