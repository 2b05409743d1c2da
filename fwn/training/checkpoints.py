"""Checkpoints by orbax: atomic, asynchronous; the newest and the best are kept, beside the workdir's config.

workdir/config.json              config and mel contract
workdir/checkpoints/STEP/params  weights to sample from: the average (EMA) if the config has one
workdir/checkpoints/STEP/train   everything else that training needs to continue exactly
workdir/checkpoints/STEP/_CHECKPOINT_METADATA   beside orbax's fields: the config, the score, a checksum of every array

What is read is compared with its checksum. Checkpoints of version 0.1 have none.
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
from fwn.disk import check_seal, sealed
from fwn.errors import UserError, short
from fwn.mel import MelContract
from fwn.training.checksum import checksums, form, leaves

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
        if self.folder.is_dir():
            _records(self.folder)
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
        record = sealed(self.record | {METRIC: score if measured else None, "checksums": checksums(arrays)})
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

    def load(self, step: int, params: Any, train: Any) -> tuple[Any, Any]:
        """The arrays of a step, sharded like the given ones (arrays or ShapeDtypeStructs)."""
        path = self.folder / str(step)
        before = [other for other in _steps(self.folder) if other != step]
        remedy = "restore it, or delete it to " + (f"go on from step {before[-1]}" if before else "begin again")
        record = _records(self.folder)[step]
        described = _read(path, lambda: self.checkpointer.checkpointables_metadata(step).metadata, remedy)
        if "train" not in described:
            raise UserError(
                f"{path}: has weights only, like converted models: it can be sampled and evaluated, but has no "
                "training state to continue from; give another --workdir"
            )

        def one(name: str, like: Any) -> Any:  # one by one: if one fails, orbax does not await the others
            def load() -> Any:
                found = self.checkpointer.load_checkpointables(step, {name: like})
                _compare(checksums(found), _saved(record, name))
                return found[name]

            return _read(path, load, remedy)

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
    steps = _steps(folder)
    if not steps:
        raise UserError(f"{workdir}: no complete checkpoint in it; train for longer, or give another folder")
    if step is None:
        scores = {at: record[METRIC] for at, record in _records(folder).items() if record.get(METRIC) is not None}
        step = max(scores, key=lambda at: scores[at]) if scores else steps[-1]
    elif step not in steps:
        raise UserError(f"{workdir}: no checkpoint of step {step}; there are: {', '.join(map(str, steps))}")
    path = folder / str(step)
    record = _record(path)
    if (begun := record.get("mel_hash", mel.hash())) != mel.hash():
        raise UserError(
            f"{path}: its mel contract is {short(begun)}, that of {workdir / configs.FILE} is {mel.title}; restore the "
            "file that was changed"
        )

    def load() -> Any:
        saved = _saved(record, "params")
        absolute = path.resolve()
        stored = {"params": ocp.checkpointables_metadata(absolute).metadata["params"]}
        forms = {name: form(a) for name, a in leaves(stored).items()}
        _compare(forms, {name: value.split()[0] for name, value in saved.items()})  # before memory is allocated
        found = ocp.load_checkpointables(absolute, jax.tree.map(lambda a: np.empty(a.shape, a.dtype), stored))
        _compare(checksums(found), saved)
        return found["params"]

    others = ", ".join(f"--step={other}" for other in steps if other != step)
    remedy = "restore it" + (f", or take another checkpoint: {others}" if others else " or train again")
    return Run(config, mel, _read(path, load, remedy), step)


def _steps(folder: Path) -> list[int]:
    """The steps of all complete checkpoints, in order. Incomplete ones have longer names."""
    steps = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit() and path.is_dir())
    return [step for step in steps if step == steps[-1] or _whole(folder / str(step))]


def _whole(path: Path) -> bool:
    """False for a checkpoint of which the deletion was interrupted: orbax deletes older ones file by file."""
    try:
        record = json.loads((path / "_CHECKPOINT_METADATA").read_text(encoding="utf-8"))["custom_metadata"] or {}
        return record.get(METRIC) is None or (path / "metrics" / "metrics").exists()
    except FileNotFoundError:
        return False
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return True  # damaged, as _record says


def _records(folder: Path) -> dict[int, dict[str, Any]]:
    """What `save` recorded beside the arrays of each step, verified. Raises UserError if one is damaged."""
    return {step: _record(folder / str(step)) for step in _steps(folder)}


def _record(path: Path) -> dict[str, Any]:
    """The record of the checkpoint in folder `path`: fields of config.json, score, checksums."""
    file, metrics = path / "_CHECKPOINT_METADATA", path / "metrics" / "metrics"
    remedy = f"restore it, or delete all of {path}"
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["custom_metadata"] or {}
        check_seal(record, file)
        file = metrics
        score = json.loads(file.read_text(encoding="utf-8")).get(METRIC) if file.exists() else None
        if record.setdefault(METRIC, score) != score:
            raise ValueError(f"{METRIC} is {score}, {record[METRIC]} was saved")
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: damaged ({error!r}); {remedy}") from error
    return record


def _saved(record: dict[str, Any], part: str) -> dict[str, str]:
    """The recorded checksums of a part, "params" or "train"; {} if version 0.1 saved it, which had none."""
    return {name: value for name, value in record.get("checksums", {}).items() if name.startswith(f"{part}/")}


def _compare(found: dict[str, str], saved: dict[str, str]) -> None:
    """Raises ValueError if what was found differs from what was saved, unless nothing was recorded."""
    differ = sorted(name for name in found.keys() | saved.keys() if found.get(name) != saved.get(name))
    if saved and differ:
        more = f", and {len(differ) - 1} more differ" if len(differ) > 1 else ""
        raise ValueError(f"{differ[0]} is {found.get(differ[0])}, saved was {saved.get(differ[0])}{more}")


def _read(path: Path, load: Any, remedy: str) -> Any:
    """load(). Raises UserError with orbax's reason if files are damaged or missing."""
    try:
        return load()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: the checkpoint is damaged or incomplete ({_reason(error)}); {remedy}") from error


def _reason(error: BaseException) -> str:
    """The message of an error of orbax, in one line."""
    return " ".join(str(error.__cause__ or error).split()).partition(". See full TensorStore details")[0][:300]
