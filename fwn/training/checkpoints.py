"""Checkpoints by orbax: atomic, asynchronous; the newest and the best are kept, beside the workdir's config.

workdir/config.json              config and mel contract
workdir/checkpoints/STEP/params  weights to sample from: the average (EMA) if the config has one
workdir/checkpoints/STEP/train   everything else that training needs to continue exactly
workdir/checkpoints/STEP/_CHECKPOINT_METADATA   beside orbax's fields: the config, the score, a checksum of every array

What is read is compared with its checksum (training/records.py).
"""

import dataclasses
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from orbax.checkpoint import v1 as ocp

from fwn import config as configs
from fwn.disk import filled, sealed
from fwn.errors import UserError, short
from fwn.mel import MelContract
from fwn.training import records
from fwn.training.checksum import checksums, forms

FOLDER = "checkpoints"
KEEP_BEST = 1
MARGIN = 2**20  # bytes of a checkpoint beside its arrays and 4 KiB of metadata for each


class Run(NamedTuple):
    """A trained model: its config, the contract of its mels, and its weights, NumPy arrays, after so many steps."""

    config: ConfigDict
    mel: MelContract
    params: Any
    step: int


class Checkpoints:
    """Checkpoints of one training run. They are saved in the background; `close` waits for the last one."""

    def __init__(self, workdir: Path, config: Mapping[str, Any], mel: MelContract):
        keep = ocp.training.preservation_policies
        best = keep.BestN(
            get_metric_fn=lambda metrics: metrics[records.METRIC], n=KEEP_BEST, keep_checkpoints_without_metrics=False
        )
        self.folder = workdir / FOLDER
        if jax.process_index() == 0 and self.folder.is_dir():
            records.tidy(self.folder)
        together("tidied")
        if self.folder.is_dir():
            records.read_all(self.folder)
        self.record = configs.record(config, mel)
        self.checkpointer = ocp.training.Checkpointer(
            self.folder.resolve(),
            preservation_policy=keep.AnyPreservationPolicy([keep.LatestN(1), best]),
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            cleanup_tmp_directories=True,
        )

    def save(self, step: int, params: Any, train: Any = None, score: float | None = None) -> None:
        """Starts to save; after the return the arrays may change. score: held-out (journal.score), if measured.

        Raises UserError if the save cannot start, or if the one before it failed.
        """
        self.wait()
        arrays = {"params": params} | ({} if train is None else {"train": train})
        leaves = jax.tree.leaves(arrays)
        # Checked before, because on a full disk orbax fails in C++ threads, each with a traceback.
        need = sum(a.nbytes + 4096 for a in leaves) + MARGIN
        free = shutil.disk_usage(self.folder).free
        if free < need:
            raise UserError(
                f"{self.folder}: no room for the checkpoint of step {step}: it may take {need / 2**20:.1f} MiB, and "
                f"{free / 2**20:.1f} MiB are free; the earlier ones are in place: free some space and run the same "
                "command again"
            )
        measured = score is not None and math.isfinite(score)
        metrics = {records.METRIC: score} if measured else None
        recorded = {records.METRIC: score if measured else None, "checksums": checksums(arrays)}
        record = sealed(self.record | recorded)
        self._saving(
            lambda: self.checkpointer.save_checkpointables_async(
                step, arrays, metrics=metrics, custom_metadata=record, force=True
            )
        )

    def wait(self) -> None:
        """Returns when the last save is complete. Raises UserError if it failed."""
        self._saving(self.checkpointer.wait)

    def close(self) -> None:
        """Waits, and closes the folder."""
        self._saving(self.checkpointer.close)

    def _saving(self, work: Callable[[], Any]) -> None:
        try:
            work()
        except (OSError, ValueError) as error:  # ValueError: tensorstore's for a full disk, among others
            raise UserError(
                f"{self.folder}: a checkpoint could not be saved ({_reason(error)}); the earlier ones are in place:"
                " check that the disk has room and is writable, and run the same command again"
            ) from error

    def latest(self) -> int | None:
        """The step of the newest complete checkpoint."""
        return None if self.checkpointer.latest is None else self.checkpointer.latest.step

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, in order."""
        return records.steps(self.folder)

    def delete(self, step: int) -> None:
        """Deletes the checkpoint of a step. All processes must call this."""
        together("deletion")  # all have listed the steps
        if jax.process_index() == 0:
            records.delete(self.folder / str(step))
        together("deleted")
        self.checkpointer.reload()
        together("reloaded")

    def config(self, step: int) -> Any:
        """The config with which a step was trained, in plain types."""
        return records.read(self.folder / str(step))["config"]

    def load(self, step: int, params: Any, train: Any) -> tuple[Any, Any]:
        """The arrays of a step, sharded like the given ones (arrays or ShapeDtypeStructs).

        train: a dataclass. Fields that the checkpoint does not have, because it is older, are ().
        """
        path = self.folder / str(step)
        before = [other for other in records.steps(self.folder) if other != step]
        remedy = "restore it, or delete it to " + (f"go on from step {before[-1]}" if before else "begin again")
        record = records.read_all(self.folder)[step]
        described = _read(path, lambda: self.checkpointer.checkpointables_metadata(step).metadata, remedy)
        if "train" not in described:
            raise UserError(
                f"{path}: has weights only, like converted models: it can be sampled and evaluated, but has no "
                "training state to continue from; give another --workdir"
            )

        def one(name: str, like: Any) -> Any:  # one by one: if one fails, orbax does not await the others
            def load() -> Any:
                found = self.checkpointer.load_checkpointables(step, {name: like})
                records.compare(checksums(found), records.of_part(record, name))
                return found[name]

            return _read(path, load, remedy)

        weights = one("params", params)
        there = described["train"] or {}
        fields = vars(train) if dataclasses.is_dataclass(train) else {}
        if fields.keys() <= there.keys() or not there:
            return weights, one("train", train)
        old = {name: value for name, value in fields.items() if name in there}
        return weights, type(train)(**dict.fromkeys(fields, ()) | one("train", old))


def together(what: str) -> None:
    """Waits until all processes are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def checkpoints_in(workdir: Path) -> bool:
    """Whether a save has started there; from then on the workdir belongs to one config."""
    return any((workdir / FOLDER).glob("*"))


def write(workdir: str | Path, config: Mapping[str, Any], mel: MelContract, params: Any, step: int) -> None:
    """Writes a workdir with one checkpoint of weights only, for sampling and evaluation."""
    workdir, there = Path(workdir), "holds a run" if (Path(workdir) / configs.FILE).exists() else "exists"
    configs.check(config, mel, "config")
    with filled(workdir, f"{workdir}: {there} already; give another --output") as unfinished:
        checkpoints = Checkpoints(unfinished, config, mel)
        checkpoints.save(step, params)
        checkpoints.close()
        configs.write(unfinished, config, mel)


def read(workdir: str | Path, step: int | None = None) -> Run:
    """The best checkpoint of a workdir, or that of `step`.

    The best has the highest held-out score (journal.score). If none was measured, the newest is read.
    """
    workdir = Path(workdir)
    config, mel = configs.read(workdir)
    folder = workdir / FOLDER
    if not folder.is_dir():
        raise UserError(f"{workdir}: no checkpoint in it; train for longer, or give another folder")
    steps = records.steps(folder)
    if not steps:
        raise UserError(f"{workdir}: no complete checkpoint in it; train for longer, or give another folder")
    if step is None:
        scores = {
            at: record[records.METRIC]
            for at, record in records.read_all(folder).items()
            if record.get(records.METRIC) is not None
        }
        step = max(scores, key=lambda at: scores[at]) if scores else steps[-1]
    elif step not in steps:
        raise UserError(f"{workdir}: no checkpoint of step {step}; there are: {', '.join(map(str, steps))}")
    path = folder / str(step)
    record = records.read(path)
    if (begun := record.get("mel_hash", mel.hash())) != mel.hash():
        raise UserError(
            f"{path}: its mel contract is {short(begun)}, that of {workdir / configs.FILE} is {mel.title}; restore the "
            "file that was changed"
        )

    def load() -> Any:
        saved = records.of_part(record, "params")
        absolute = path.resolve()
        stored = {"params": ocp.checkpointables_metadata(absolute).metadata["params"]}
        records.compare(forms(stored), records.forms(saved))  # before memory is allocated
        found = ocp.load_checkpointables(absolute, jax.tree.map(lambda a: np.empty(a.shape, a.dtype), stored))
        records.compare(checksums(found), saved)
        return found["params"]

    others = ", ".join(f"--step={other}" for other in steps if other != step)
    remedy = "restore it" + (f", or take another checkpoint: {others}" if others else " or train again")
    return Run(config, mel, _read(path, load, remedy), step)


def _read(path: Path, load: Any, remedy: str) -> Any:
    """load(). Raises UserError with orbax's reason if files are damaged or missing."""
    try:
        return load()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: the checkpoint is damaged or incomplete ({_reason(error)}); {remedy}") from error


def _reason(error: BaseException) -> str:
    """The message of an error of orbax, in one line."""
    reason = " ".join(str(error.__cause__ or error).split()).partition(". See full TensorStore details")[0]
    return reason if len(reason) <= 1000 else f"{reason[:1000]}…"
