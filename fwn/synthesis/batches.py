"""Mels of any lengths in padded batches, and checks of what a caller gives."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from fwn.errors import UserError
from fwn.mel import MelContract, as_array, check_mel
from fwn.synthesis.chunked import bucket


def groups(mels: Sequence[np.ndarray], batch_size: int, least: int) -> Iterator[list[tuple[int, np.ndarray]]]:
    """The mels [F, M] with their indices, in order: neighbours of one padded length, at most batch_size together."""

    def size(mel: np.ndarray) -> int:
        return bucket(max(len(mel), least))

    group: list[tuple[int, np.ndarray]] = []
    for i, mel in enumerate(mels):
        if group and (len(group) == batch_size or size(mel) != size(group[0][1])):
            yield group
            group = []
        group.append((i, mel))
    if group:
        yield group


def stack(mels: list[np.ndarray], batch_size: int, least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(padded mels [B, F, M], their lengths [B]); copies of the first mel fill the batch."""
    mels = mels + [mels[0]] * (batch_size - len(mels))
    size = bucket(max(least, *map(len, mels)))
    return np.stack([np.pad(m, ((0, size - len(m)), (0, 0))) for m in mels]), np.array([len(m) for m in mels])


def checked_pair(
    audio: Any, mel: Any, contract: MelContract, dtype: Any, source: str = "audio"
) -> tuple[np.ndarray, np.ndarray]:
    """audio [F · hop] and its mel [F, M] as arrays of dtype. Raises UserError unless they fit together."""
    hop, audio, mel = contract.hop_length, as_array(audio, source).astype(dtype), as_array(mel, "mel")
    bands_last = True if mel.shape == (len(audio) // hop, contract.n_mels) else None
    checked = check_mel(mel, contract, "mel", bands_last).astype(dtype)
    if not np.isfinite(audio).all():
        raise UserError(f"{source}: {np.count_nonzero(~np.isfinite(audio))} of {audio.size} samples are not finite")
    if audio.shape != (len(checked) * hop,):
        by = "fwn.mel.align" if source == "audio" else "encode"
        raise UserError(
            f"{source} of shape {list(audio.shape)} for a mel of {len(checked)} frames; it must have "
            f"{len(checked)} · {hop} = {len(checked) * hop} samples, as {by} gives it"
        )
    return audio, checked


def noise_key(key: Any) -> jax.Array:
    """The key, or jax.random.key(0) for None. Raises UserError on anything else."""
    key = jax.random.key(0) if key is None else key
    if not isinstance(key, jax.Array):
        raise UserError(f"key is {key!r}; give jax.random.key({key!r})")
    return key


def whole_frames(chunk: Any, least: int = 0) -> int:
    """Raises UserError unless chunk is an integer of at least `least`."""
    if isinstance(chunk, bool) or not isinstance(chunk, int | np.integer) or chunk < least:
        all_at_once = "" if least else ", 0 for all at once"
        raise UserError(f"chunk is {chunk!r}; it must be a whole number of mel frames, at least {least}{all_at_once}")
    return int(chunk)
