"""typical.json beside a model: its held-out distribution (typicality.Reference), so that fwn.score needs no data.

It is sealed with a checksum, and names the weights that it belongs to by their sha256 and step.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fwn.disk import check_seal, sealed, write_text
from fwn.errors import UserError, short
from fwn.evaluation.typicality import Length, Reference
from fwn.training.checkpoints import Run

FILE = "typical.json"
FORMAT = "fwn-typical-1"
AGAIN = "make it again: --data=DIR --save_reference"


def fingerprint(params: Any) -> str:
    """sha256 of all weights as they are in memory: the same for every file format that stores them exactly."""
    digest = hashlib.sha256()
    for path, leaf in sorted((jax.tree_util.keystr(p), leaf) for p, leaf in jax.tree.leaves_with_path(params)):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{path} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def write(folder: Path, run: Run, of: Reference, data: str) -> Path:
    """Writes `folder`/typical.json and returns its path. data: what the recordings are, for people to read."""
    values = {"format": FORMAT, "step": run.step, "sha256": fingerprint(run.params), "data": data} | of._asdict()
    values["lengths"] = [length._asdict() for length in of.lengths]
    file = folder / FILE
    write_text(file, json.dumps(sealed(json.loads(json.dumps(values)))) + "\n")
    return file


def read(folder: Path, run: Run) -> Reference | None:
    """The reference beside a model; None if there is none. Raises UserError if it is damaged, or another model's."""
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        check_seal(values, file)
        found = _reference(values)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: damaged, or of another version ({short(error)}); {AGAIN}") from error
    own = run.step, fingerprint(run.params)
    if (values["step"], values["sha256"]) != own:
        raise UserError(
            f"{file}: belongs to another model (step {short(values['step'])}, weights {str(values['sha256'])[:12]}); "
            f"this one is of step {own[0]}, weights {own[1][:12]}; {AGAIN}"
        )
    return found


def _reference(values: dict[str, Any]) -> Reference:
    """Raises ValueError, KeyError or TypeError for values that are none."""
    if values["format"] != FORMAT:
        raise ValueError(f"its format is {values['format']!r}")
    lengths = tuple(
        Length(int(each["frames"]), int(each["n"]), *(_numbers(each[name]) for name in Length._fields[2:]))
        for each in values["lengths"]
    )
    if not lengths:
        raise ValueError("it has no lengths")
    return Reference(
        weights=_numbers(values["weights"]),
        band=_numbers(values["band"]),
        lengths=lengths,
        alarm=float(values["alarm"]),
        utterances=int(values["utterances"]),
        seconds=float(values["seconds"]),
    )


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(map(float, values))
