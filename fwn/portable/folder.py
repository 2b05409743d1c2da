"""The folder of an export, written as a whole or refused (docs/export.md lists its files)."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save

from fwn.errors import UserError
from fwn.models.weight_forms import named
from fwn.portable import card, interface, parity, programs
from fwn.synthesis.exported import WEIGHTS, sha256, write_files
from fwn.synthesis.vocoder import Vocoder
from fwn.training.checkpoints import Run

LOADER = "load_fwn.py"


def write(
    folder: Path,
    run: Run,
    vocoder: Vocoder,
    mels: np.ndarray,
    speakers: list[Any],
    measured: dict[str, str],
    tables: str = "",
    licence: str | None = None,
) -> tuple[int, parity.Parity]:
    """Writes the folder; returns its bytes, and how far its programs are from the model.

    vocoder: that of the run. mels [B, F, M] and who speaks in each: to compare on. measured: figures for the card, by
    what they are. tables: more of them, in Markdown. Raises UserError if a
    sample differs by more than parity.LIMIT, before anything is written.
    """
    weights = {name: np.asarray(a, np.float32) for name, a in named(jax.device_get(vocoder.params)).items()}
    channels = vocoder.mel.n_mels + vocoder.system.speakers.channels
    made = programs.exported(vocoder.system, weights, channels)
    content = {name: bytes(program.serialize()) for name, program in made.items()}
    found = parity.measure(vocoder, content, mels, speakers)
    if not found.largest <= parity.LIMIT:
        raise UserError(
            f"the exported programs differ from the model by {found.largest:.2g} of full scale, more than "
            f"{parity.LIMIT:g}, on {found.platform}; take another --step, or --format=voice, which has no programs"
        )
    files = {WEIGHTS: save(weights)} | content
    files[interface.FILE] = interface.text(vocoder, made, found, {n: sha256(c) for n, c in files.items()}).encode()
    files[LOADER] = Path(__file__).with_name(LOADER).read_bytes()
    stated = {name: sha256(content) for name, content in files.items() if name != LOADER}
    text = card.text(folder.resolve().name, vocoder, found, measured, tables, licence)
    return write_files(folder, run, files | {card.FILE: text.encode()}, stated), found
