"""Vectors of the speakers that a speaker encoder made, one for each recording, stored beside the shards."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from fwn.disk import crc32
from fwn.errors import UserError
from fwn.files.vector import read_vector

from . import pairs
from .recordings import Recording


def given(
    recordings: list[Recording], folder: Path
) -> tuple[list[Recording], list[dict[str, str]], dict[str, np.ndarray]]:
    """(recordings that have one, {name, source, reason} of the others, vector [n] by name).

    A file belongs to a recording as in pairs.by_name. Raises UserError if none has one, or if they differ in length.
    """
    found, missing = pairs.by_name(recordings, folder, "speaker_embeddings")
    vectors: dict[str, np.ndarray] = {}
    for recording in recordings:
        if (name := recording.name) not in found:
            continue
        try:
            vectors[name] = read_vector(folder / found[name])
        except UserError as error:
            missing.append({"name": name, "source": recording.source, "reason": str(error)})
            continue
        first, vector = next(iter(vectors.items()))
        if len(vectors[name]) != len(vector):
            raise UserError(
                f"{folder / found[name]}: has {len(vectors[name])} numbers, and {folder / found[first]} has "
                f"{len(vector)}; give vectors of one speaker encoder"
            )
    return [recording for recording in recordings if recording.name in vectors], missing, vectors


def packed(vectors: dict[str, np.ndarray], names: list[str]) -> tuple[dict[str, Any], bytes]:
    """(entry of the manifest, contents of its file) for utterances in this order."""
    table = np.stack([vectors[name] for name in names])
    file = io.BytesIO()
    np.save(file, table)
    content = file.getvalue()
    name = f"speakers-{hashlib.sha256(content).hexdigest()[:16]}.npy"
    return {"file": name, "size": table.shape[1], "crc32": crc32([content])}, content
