"""From the energies of mel bands to the values of a mel, and back: logarithm, normalisation."""

from typing import Any

import numpy as np

from fwn.mel.convention import LOGARITHMS, MelContract


def compress(bands: np.ndarray, contract: MelContract) -> np.ndarray:
    """Energies of bands, float32 [frames, n_mels] -> mel float32."""
    bands = np.maximum(np.float32(contract.floor), bands)
    if contract.reference_db is None or contract.min_db is None:
        mel = np.log(bands) if contract.compression == "ln" else np.log10(bands)
    else:
        db = 20 * np.log10(bands) - contract.reference_db
        mel = np.clip((db - contract.min_db) / -contract.min_db, 0, 1).astype(np.float32)
    if contract.mean is None or contract.scale is None:
        return mel
    return (mel - np.asarray(contract.mean, np.float32)) / np.asarray(contract.scale, np.float32)


def plain_mel(mel: Any, contract: MelContract) -> Any:
    """A mel [..., n_mels] without its normalisation by `mean` and `scale`: a mel of `contract.plain`."""
    if contract.mean is None or contract.scale is None:
        return mel
    return mel * np.asarray(contract.scale, mel.dtype) + np.asarray(contract.mean, mel.dtype)


def nats(contract: MelContract) -> float:
    """Nats of a band's energy in one unit of `contract.plain`."""
    if contract.compression in LOGARITHMS:
        return LOGARITHMS[contract.compression]
    assert contract.min_db is not None  # MelContract says so
    return -contract.min_db * LOGARITHMS["log10"] / 20


def log_bands(mel: Any, contract: MelContract) -> Any:
    """mel [..., n_mels] -> the natural logarithm of the energies of its bands. Of NumPy or of jax.numpy."""
    mel = plain_mel(mel, contract)
    if contract.compression in LOGARITHMS:
        return mel if contract.compression == "ln" else nats(contract) * mel
    assert contract.min_db is not None  # MelContract says so, and of the next
    assert contract.reference_db is not None
    decibels = contract.min_db * (1 - mel) + contract.reference_db
    return decibels * (LOGARITHMS["log10"] / 20)
