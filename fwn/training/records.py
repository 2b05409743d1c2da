"""What a checkpoint records beside its arrays, in orbax's _CHECKPOINT_METADATA: config, score, checksums.

Checkpoints of version 0.1 have no checksums.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from fwn.disk import check_seal
from fwn.errors import UserError

METRIC = "score"
DELETED = ".deleted"  # ends the name of a folder while it is deleted


def steps(folder: Path) -> list[int]:
    """The steps of all complete checkpoints, in order. Incomplete ones have longer names."""
    found = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit() and path.is_dir())
    return [step for step in found if step == found[-1] or _whole(folder / str(step))]


def _whole(path: Path) -> bool:
    """False for a checkpoint of which the deletion was interrupted: orbax deletes older ones file by file."""
    try:
        record = json.loads((path / "_CHECKPOINT_METADATA").read_text(encoding="utf-8"))["custom_metadata"] or {}
        return record.get(METRIC) is None or (path / "metrics" / "metrics").exists()
    except FileNotFoundError:
        return False
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return True  # damaged, as `read` says


def tidy(folder: Path) -> None:
    """Finishes deletions that were interrupted: removes what is neither the newest checkpoint nor the best."""
    for path in folder.glob(f".*{DELETED}"):
        shutil.rmtree(path, ignore_errors=True)
    found = read_all(folder)
    scores = {step: record[METRIC] for step, record in found.items() if record.get(METRIC) is not None}
    kept = {max(found, default=None)} | {step for step, score in scores.items() if score == max(scores.values())}
    for path in folder.iterdir():
        if path.name.isdigit() and path.is_dir() and int(path.name) not in kept:
            delete(path)


def delete(path: Path) -> None:
    """Deletes a checkpoint. It is whole or gone, also after kill -9."""
    gone = path.with_name(f".{path.name}{DELETED}")
    shutil.rmtree(gone, ignore_errors=True)  # of an earlier run
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def read_all(folder: Path) -> dict[int, dict[str, Any]]:
    """What `save` recorded beside the arrays of each step, verified. Raises UserError if one is damaged."""
    return {step: read(folder / str(step)) for step in steps(folder)}


def read(path: Path) -> dict[str, Any]:
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


def of_part(record: dict[str, Any], part: str) -> dict[str, str]:
    """The recorded checksums of a part, "params" or "train"; {} if version 0.1 saved it, which had none."""
    return {name: value for name, value in record.get("checksums", {}).items() if name.startswith(f"{part}/")}


def forms(saved: dict[str, str]) -> dict[str, str]:
    """Recorded checksums without their digits: types and shapes."""
    return {name: value.split()[0] for name, value in saved.items()}


def differing(found: dict[str, str], saved: dict[str, str]) -> list[str]:
    """Names of what was found to differ from what was saved; [] if nothing was recorded."""
    return sorted(name for name in found.keys() | saved.keys() if found.get(name) != saved.get(name)) if saved else []


def compare(found: dict[str, str], saved: dict[str, str]) -> None:
    """Raises ValueError if what was found differs from what was saved, unless nothing was recorded."""
    if differ := differing(found, saved):
        more = f", and {len(differ) - 1} more differ" if len(differ) > 1 else ""
        here, there = found.get(differ[0], "missing"), saved.get(differ[0], "nothing")
        raise ValueError(f"{differ[0]} is {here}, saved was {there}{more}")
