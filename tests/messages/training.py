"""Errors of fwn.train: what it is told, the data, the workdir, and steps that fail."""

import fcntl
import json
from typing import Any

import numpy as np

from . import TRAIN, Place, Row, table, write

NEW = "{flags} --workdir={here}/new "
STARTED = ("new", "new/.lock", "new/checkpoints")


def locked(place: Place) -> Any:
    """As another process would."""
    lock = (place.copy("run") / ".lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def spoilt(place: Place) -> None:
    """A data set of which all mels are NaN."""
    for file in place.copy("corpus").glob("mel-*.npy"):
        np.lib.format.open_memmap(file, mode="r+")[:] = np.nan


def all_test(place: Place) -> None:
    file = place.copy("corpus") / "manifest.json"
    values = json.loads(file.read_text())
    del values["checksum"]
    for utterance in values["utterances"]:
        utterance["split"] = "test"
    file.write_text(json.dumps(values))


ROWS = [
    Row(
        TRAIN,
        "{flags}",
        "--workdir is missing; give it (--help lists the flags)",
        code=2,
    ),
    Row(
        TRAIN,
        "--workdir={here}/new",
        "--config is missing; give it (--help lists the flags)",
        code=2,
    ),
    Row(TRAIN, NEW + "more", "unexpected argument 'more': all settings are flags (--help lists them)"),
    Row(
        TRAIN,
        "--workdir={here}/new --config=tinny",
        "'tinny' is neither a file nor an experiment of fwn; did you mean 'tiny'?; there are: base, "
        "clarinet, demo, finetune, flowavenet_causal, flowavenet_no_split, lite, lj_mini, lj_mini_predictor, "
        "lj_mini_wavenet, other_mel, parallel_wavenet, tiny, tiny_clarinet, tiny_parallel_wavenet, tiny_wavenet, "
        "tiny_wavenet_mol, wavenet_gaussian, wavenet_mol (--help lists the flags)",
        code=2,
    ),
    Row(
        TRAIN,
        "--workdir={here}/new --config=experiments/tinny.py",
        "--config: No such file or directory: 'experiments/tinny.py' (--help lists the flags)",
        code=2,
    ),
    Row(
        TRAIN,
        "--workdir={here}/new --config={here}/mine.py",
        ("--config: the file has no get_config(); give a file like experiments/base.py (--help lists the flags)"),
        write("mine.py", "x = 1\n"),
        code=2,
    ),
    Row(
        TRAIN,
        "--workdir={here}/new --config={here}/mine.py",
        ("--config: SyntaxError: '(' was never closed ({here}/mine.py, line 1) (--help lists the flags)"),
        write("mine.py", "def get_config(\n"),
        code=2,
    ),
    Row(
        TRAIN,
        "--workdir={here}/new --config={here}/mine.py",
        ("--config: ModuleNotFoundError: No module named 'nonsense' ({here}/mine.py, line 1) (--help lists the flags)"),
        write("mine.py", "import nonsense\n"),
        code=2,
    ),
    Row(
        TRAIN,
        NEW + "--config.batch_sze=3",
        "--config: no such field: 'batch_sze'; did you mean 'batch_size'? (--help lists the flags)",
        code=2,
    ),
    Row(
        TRAIN,
        NEW + "--config.model.n_blok=3",
        "--config: no such field: 'n_blok'; did you mean 'n_block'? (--help lists the flags)",
        code=2,
    ),
    Row(
        TRAIN,
        NEW + "--config.optimizer.learning_rat=3",
        "--config: no such field: 'learning_rat'; did you mean 'learning_rate'? (--help lists the flags)",
        code=2,
    ),
    Row(
        TRAIN,
        NEW + "--config.batch_size=many",
        ("flag --config.batch_size=many: invalid literal for int() with base 10: 'many' (--help lists the flags)"),
        code=2,
    ),
    Row(TRAIN, NEW + "--config.data=nowhere", "nowhere: no such folder; give one made by data_prep.prepare"),
    Row(
        TRAIN,
        NEW + "--config.data={hifigan}",
        (
            (
                "config.mel has the mel contract flowavenet (a13bd5d9b250), but {hifigan} was prepared with "
                "hifigan (3c96768fd3c8); prepare it again in another folder\n"
            )
            + table("flowavenet", "hifigan")
        ),
    ),
    Row(
        TRAIN,
        NEW + "--config.data={untested}",
        "{untested}: its test split is empty; prepare the data set with a --test_share that leaves "
        "utterances for both training and testing",
    ),
    Row(
        TRAIN,
        NEW + "--config.data={here}/corpus",
        "{here}/corpus: its train split is empty; prepare the data set with a --test_share that leaves "
        "utterances for both training and testing",
        all_test,
    ),
    Row(
        TRAIN,
        NEW + "--config.frames=1000",
        "{corpus}: none of the 8 utterances of the train split has the 1000 frames of a crop; lower "
        "config.frames, or prepare more data",
    ),
    Row(
        TRAIN,
        NEW + "--config.batch_size=3",
        "config.batch_size=3 is the global batch size; it must be a multiple of the number of devices, 4",
    ),
    Row(TRAIN, "{flags} --workdir={here}/file", "File exists: {here}/file", write("file", "x")),
    Row(TRAIN, "{flags} --workdir={here}/file/new", "Not a directory: {here}/file/new", write("file", "x")),
    Row(
        TRAIN,
        "{flags} --workdir={here}/run",
        "{here}/run: another fwn.train is running there; wait for it, or stop it",
        locked,
    ),
    Row(
        TRAIN,
        "{flags} --workdir={run} --config.model.channels=16 --config.seed=7",
        "{run} was started with another config (model: {'channels': 8} there, {'channels': 16} now; "
        "seed: 1111 there, 7 now); give another --workdir or the original config",
    ),
    Row(
        TRAIN,
        "{flags} --workdir={weights}",
        "{weights}/checkpoints/0: has weights only, like converted models: it can be sampled and "
        "evaluated, but has no training state to continue from; give another --workdir",
        creates=(),
    ),
    Row(
        TRAIN,
        NEW + "--coordinator=localhost:1",
        "--processes and --process missing: --coordinator, --processes and --process go together",
    ),
    Row(
        TRAIN,
        NEW + "--distributed",
        "the processes could not be joined (jax.distributed.initialize() must be called before any JAX "
        "calls that might initialise the XLA backend. This includes any computation, but also calls to "
        "jax.devices, jax.device_put, and others.); outside of a TPU pod or Slurm job give "
        "--coordinator, --processes and --process",
    ),
    Row(
        TRAIN,
        NEW + "--config.data={here}/corpus --config.verify_data=False --config.save_every=9 --config.eval_every=9",
        "{here}/new: at step 1, weights or moments were not finite; no checkpoint was saved yet: begin another run "
        "with a lower config.optimizer.learning_rate",
        spoilt,
        creates=(*STARTED, "new/*", "new/events/*"),
    ),
]
