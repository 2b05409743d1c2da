"""Checkpoints by orbax: atomic, asynchronous; the newest and the best are kept, beside the workdir's config.

workdir/config.json              config and mel contract
workdir/checkpoints/STEP/params  weights to sample from: the average (EMA) if the config has one
workdir/checkpoints/STEP/train   everything else that training needs to continue exactly
"""

import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from orbax.checkpoint import v1 as ocp

from fwn import config as configs
from fwn.errors import UserError
from fwn.mel import MelContract

FOLDER = "checkpoints"
KEEP_BEST = 1
METRIC = "score"
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
            get_metric_fn=lambda metrics: metrics[METRIC], n=KEEP_BEST, keep_checkpoints_without_metrics=False
        )
        self.folder = workdir / FOLDER
        _check(self.folder)
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
        metrics = {METRIC: score} if measured else None
        self._saving(
            lambda: self.checkpointer.save_checkpointables_async(
                step, arrays, metrics=metrics, custom_metadata=self.record, force=True
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

    def load(self, step: int, params: Any, train: Any) -> tuple[Any, Any]:
        """The arrays of a step, sharded like the given ones (arrays or ShapeDtypeStructs)."""
        path = self.folder / str(step)
        if "train" not in _read(path, lambda: self.checkpointer.checkpointables_metadata(step).metadata):
            raise UserError(
                f"{path}: has weights only, like converted models: it can be sampled and evaluated, but has no "
                "training state to continue from; give another --workdir"
            )

        def one(name: str, like: Any) -> Any:  # one by one: if one fails, orbax does not await the others
            return _read(path, lambda: self.checkpointer.load_checkpointables(step, {name: like})[name])

        return one("params", params), one("train", train)


def checkpoints_in(workdir: Path) -> bool:
    """Whether a save has started there; from then on the workdir belongs to one config."""
    return any((workdir / FOLDER).glob("*"))


def write(workdir: str | Path, config: Mapping[str, Any], mel: MelContract, params: Any, step: int) -> None:
    """Writes a workdir with one checkpoint of weights only, for sampling and evaluation."""
    workdir = Path(workdir)
    if (workdir / configs.FILE).exists() or (workdir / FOLDER).exists():
        raise UserError(f"{workdir}: holds a run already; give another --output")
    configs.check(config, mel, "config")
    checkpoints = Checkpoints(workdir, config, mel)
    checkpoints.save(step, params)
    checkpoints.close()
    configs.write(workdir, config, mel)


def read(workdir: str | Path, step: int | None = None) -> Run:
    """The best checkpoint of a workdir, or that of `step`.

    The best has the highest held-out score (journal.score). If none was measured, the newest is read.
    """
    workdir = Path(workdir)
    config, mel = configs.read(workdir)
    folder = workdir / FOLDER
    if not folder.is_dir():
        raise UserError(f"{workdir}: no checkpoint in it; train for longer, or give another folder")
    _check(folder)
    with ocp.training.Checkpointer(folder.resolve()) as checkpointer:
        every = _read(folder, lambda: list(checkpointer.checkpoints))
        if not every:
            raise UserError(f"{workdir}: no complete checkpoint in it; train for longer, or give another folder")
        measured = [c for c in every if c.metrics is not None]
        chosen = max(measured, key=lambda c: c.metrics[METRIC]) if measured else every[-1]
        if step is not None:
            named = [c for c in every if c.step == step]
            if not named:
                steps = ", ".join(str(c.step) for c in every)
                raise UserError(f"{workdir}: no checkpoint of step {step}; there are: {steps}")
            chosen = named[0]

        def load() -> Any:
            described = checkpointer.checkpointables_metadata(chosen.step)
            begun = (described.custom_metadata or {}).get("mel_hash", mel.hash())
            if begun != mel.hash():
                raise ValueError(
                    f"its mel contract has the hash {begun}, that of {workdir / configs.FILE} is {mel.title}"
                )
            stored = described.metadata["params"]
            empty = jax.tree.map(lambda a: np.empty(a.shape, a.dtype), stored)
            return checkpointer.load_checkpointables(chosen.step, {"params": empty})["params"]

        return Run(config, mel, _read(folder / str(chosen.step), load), chosen.step)


def _check(folder: Path) -> None:
    """Raises UserError if a file that orbax reads as it opens the folder is damaged."""
    for file in sorted([*folder.glob("*/_CHECKPOINT_METADATA"), *folder.glob("*/metrics/metrics")]):
        step = file.relative_to(folder).parts[0]
        try:
            if step.isdigit():
                json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{file}: damaged ({error}); restore it, or delete all of {folder / step}") from error


def _read(path: Path, load: Any) -> Any:
    """load(). Raises UserError with orbax's reason if files are damaged or missing."""
    try:
        return load()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: the checkpoint is damaged or incomplete ({_reason(error)}); delete it or restore it"
        ) from error


def _reason(error: BaseException) -> str:
    """The message of an error of orbax, in one line."""
    return " ".join(str(error.__cause__ or error).split())[:300]
