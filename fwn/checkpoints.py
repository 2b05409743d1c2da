"""Checkpoints by orbax: atomic, asynchronous, the newest and the best ones; a workdir's config lies beside them.

workdir/config.json              config and mel contract
workdir/checkpoints/STEP/params  what is sampled from: EMA weights where the config has them, else the weights
workdir/checkpoints/STEP/train   all else that training needs to continue exactly
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from orbax.checkpoint import v1 as ocp

from fwn import config as configs
from fwn.errors import UserError
from fwn.mel import MelContract

FOLDER = "checkpoints"
KEEP_BEST = 1
METRIC = "nats_per_sample"


class Checkpoints:
    """Those of one training run. Saves are in the background; `close` waits for the last one."""

    def __init__(self, workdir: Path, config: Mapping[str, Any], mel: MelContract):
        keep = ocp.training.preservation_policies
        best = keep.BestN(
            get_metric_fn=lambda metrics: metrics[METRIC], n=KEEP_BEST, keep_checkpoints_without_metrics=False
        )
        self.folder = workdir / FOLDER
        self.record = configs.record(config, mel)
        self.checkpointer = ocp.training.Checkpointer(
            self.folder.resolve(),
            preservation_policy=keep.AnyPreservationPolicy([keep.LatestN(1), best]),
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            cleanup_tmp_directories=True,
        )

    def save(self, step: int, params: Any, train: Any, nats_per_sample: float | None) -> None:
        """Begins to save; the arrays are free to change when this returns. nats_per_sample: held-out, where measured."""
        metrics = None if nats_per_sample is None else {METRIC: nats_per_sample}
        self.checkpointer.wait()
        self.checkpointer.save_checkpointables_async(
            step, {"params": params, "train": train}, metrics=metrics, custom_metadata=self.record, force=True
        )

    def latest(self) -> int | None:
        """The step of the newest complete checkpoint."""
        return None if self.checkpointer.latest is None else self.checkpointer.latest.step

    def load(self, step: int, params: Any, train: Any) -> tuple[Any, Any]:
        """The arrays of a step, placed as the given ones (arrays or ShapeDtypeStructs with shardings) are."""
        abstract = {"params": params, "train": train}
        found = _read(self.folder / str(step), lambda: self.checkpointer.load_checkpointables(step, abstract))
        return found["params"], found["train"]

    def close(self) -> None:
        self.checkpointer.close()


def write(workdir: str | Path, config: Mapping[str, Any], mel: MelContract, params: Any, step: int) -> None:
    """A workdir that holds one checkpoint, for sampling and evaluation (there is no training state to continue)."""
    workdir = Path(workdir)
    if (workdir / configs.FILE).exists() or (workdir / FOLDER).exists():
        raise UserError(f"{workdir}: holds a run already; give another --output")
    configs.check(config, "config")
    checkpoints = Checkpoints(workdir, config, mel)
    checkpoints.save(step, params, {"step": np.asarray(step)}, None)
    checkpoints.close()
    configs.write(workdir, config, mel)


def read(workdir: str | Path, step: int | None = None) -> tuple[ConfigDict, MelContract, Any, int]:
    """(config, mel contract, params as NumPy arrays, step) of a workdir: its best checkpoint, or that of `step`.

    The best has the highest held-out nats per sample; where none was measured, it is the newest.
    """
    workdir = Path(workdir)
    config, mel = configs.read(workdir)
    folder = workdir / FOLDER
    if not folder.is_dir():
        raise UserError(f"{workdir}: no checkpoint in it; train for longer, or give another folder")
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
            stored = checkpointer.checkpointables_metadata(chosen.step).metadata["params"]
            empty = jax.tree.map(lambda a: np.empty(a.shape, a.dtype), stored)
            return checkpointer.load_checkpointables(chosen.step, {"params": empty})["params"]

        return config, mel, _read(folder / str(chosen.step), load), chosen.step


def _read(path: Path, load: Any) -> Any:
    """load(), or a UserError with orbax's own reason where the files are not whole."""
    try:
        return load()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error.__cause__ or error).split())[:300]
        raise UserError(
            f"{path}: the checkpoint is damaged or incomplete ({reason}); delete it or restore it"
        ) from error
