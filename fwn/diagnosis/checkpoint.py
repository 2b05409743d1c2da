"""A checkpoint: the checksums of a workdir's files, then its weights and what they do."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from fwn import config as configs
from fwn.config import Speakers
from fwn.data import manifest
from fwn.data.corpus import Corpus
from fwn.diagnosis import behaviour, material, parameters
from fwn.diagnosis.finding import ERROR, NOTE, WARNING, Examination, Finding, damage, named
from fwn.diagnosis.material import Material
from fwn.errors import UserError
from fwn.nn.weight_norm import fold_weight_norm
from fwn.synthesis import exported
from fwn.training import checkpoints, records
from fwn.training.checkpoints import Run
from fwn.training.checksum import checksums, forms

FAR = 0.5  # of the newest step: a best checkpoint before that is far behind


def examine(ckpt: Path, data: Path | None = None) -> Examination:
    """ckpt: a workdir, a voice or a converted model. data: a data set with held-out utterances to measure on.

    Raises UserError if there is no model in the folder.
    """
    if not (ckpt / configs.FILE).is_file():
        configs.read(ckpt)  # raises UserError, with what is missing
    sound: list[int] = []
    if not exported.kind(ckpt):
        yield from files(ckpt, sound)
    run, errors = None, []
    for step in (None, *reversed(sound)):  # the best; if that is damaged, the newest that is whole
        try:
            run = exported.read_run(ckpt, step)
            break
        except UserError as error:
            errors.append(error)
    if run is None:
        yield damage(errors[0], "restore it, or train again")
        return
    instead = ", as the best cannot be read" if errors else ""
    yield f"{run.config.system} of step {run.step}{instead}, mel contract {run.mel.title}"
    params = jax.device_get(fold_weight_norm(run.params))
    yield from parameters.examine(params)
    chosen = None
    if data is not None:
        try:
            chosen = _of_data(data, run)
        except UserError as error:
            yield damage(error, "prepare the data set again")
    if chosen is None and run.config.system != "wavenet":
        chosen = material.mels(ckpt / "mels", run.mel, Speakers(run.config))
    yield from behaviour.examine(run, params, chosen or material.synthetic(run.mel, Speakers(run.config)))


def _of_data(data: Path, run: Run) -> Material | None:
    if not (data / manifest.FILE).is_file():
        return None
    corpus = Corpus(data)
    corpus.check_contract(run.mel, "the model")
    return material.held_out(corpus, Speakers(run.config))


def files(workdir: Path, sound: list[int]) -> Examination:
    """Compares all arrays of all checkpoints with their checksums. Appends the steps that can be sampled to `sound`.

    Raises UserError if there is no checkpoint.
    """
    folder = workdir / checkpoints.FOLDER
    steps = sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit() and path.is_dir())
    if not steps:
        raise UserError(f"{workdir}: no complete checkpoint in it; train for longer, or give another folder")
    without, scores = [], {}
    for step in steps:
        try:
            record, parts = _verified(folder / str(step))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError) as error:
            reason = " ".join(f"{error.__cause__ or error}".split())[:300]
            yield Finding(
                ERROR,
                f"{folder / str(step)}: damaged ({reason})",
                f"restore it, or delete all of {folder / str(step)} to use the others",
            )
            continue
        scores[step] = record.get(records.METRIC)
        for part, wrong in parts.items():
            if wrong:
                use = "sampled" if part == "params" else "trained on"
                yield Finding(
                    ERROR,
                    f"{folder / str(step)}: {len(wrong)} arrays do not have their checksums, it cannot be {use}: "
                    f"{named(wrong)}",
                    "restore it from a copy, or take another checkpoint (--step)",
                )
        if not parts.get("params"):
            sound.append(step)
        if "checksums" not in record:
            without.append(step)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    yield f"checkpoints: steps {', '.join(map(str, steps))}, {size / 2**20:.0f} MiB; {len(sound)} of {len(steps)} whole"
    if without:
        yield Finding(
            NOTE,
            f"checkpoints of version 0.1 have no checksums: {named([str(step) for step in without])}",
            "the next save of fwn.train has them",
        )
    scored = {step: score for step, score in scores.items() if score is not None}
    best = max(scored, key=lambda step: scored[step], default=None)
    if best is not None and len(steps) > 1 and best < FAR * steps[-1]:
        yield Finding(
            WARNING,
            f"the best checkpoint, of step {best}, is far older than the newest, of {steps[-1]}",
            "sample the best, which is the default; the model became worse since: lower the rate, or get more data",
        )


def _verified(path: Path) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """(record of a checkpoint, {part: names of arrays that differ from their checksums}).

    Raises UserError, or whatever orbax raises for damaged files.
    """
    record = records.read(path)
    path = path.resolve()
    described = ocp.checkpointables_metadata(path).metadata
    saved: dict[str, str] = record.get("checksums", {})
    parts: dict[str, list[str]] = {}
    for part in {name.split("/")[0] for name in saved} | ({"params", "train"} & set(described)):
        there, of_part = {part: described[part]}, records.of_part(record, part)
        if wrong := records.differing(forms(there), records.forms(of_part)):  # before memory is allocated
            parts[part] = wrong
            continue
        like = jax.tree.map(lambda a: np.empty(a.shape, a.dtype), there)
        parts[part] = records.differing(checksums(ocp.load_checkpointables(path, like)), of_part)
    return record, parts
