"""Whether the exported programs give the audio of the model, here and now."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from fwn.mel import with_speaker
from fwn.models.weight_forms import named
from fwn.portable.programs import DECODE, SAMPLE
from fwn.synthesis.batches import stack
from fwn.synthesis.vocoder import Vocoder

LIMIT = 1e-5  # of full scale, ±1
LONGEST = 96  # frames of the longest mel


class Parity(NamedTuple):
    """largest |audio of a program - audio of the model|; frames of the mels, the last two in one batch."""

    largest: float
    frames: list[int]
    platform: str


def measure(vocoder: Vocoder, programs: dict[str, bytes], mels: np.ndarray, speakers: list[Any]) -> Parity:
    """Runs the programs, as read from their files, on a mel by itself and on two of different lengths in a batch.

    programs: artifacts by file name. mels [B, F, M] by the model's contract. speakers: who speaks in each.
    With noise as an input, the model's own decode gets the same noise. Some models amplify rounding a thousandfold, so
    that drawing the noise in another program would be seen in the audio.
    """
    long, short = mels[0, :LONGEST], mels[-1, : LONGEST * 2 // 3]
    batches = [(long[: -(-len(long) // 2)], speakers[0])], [(long, speakers[0]), (short, speakers[-1])]
    run = {name: jax.jit(export.deserialize(bytearray(content)).call) for name, content in programs.items()}
    weights, low = named(vocoder.params), vocoder.low_temperature
    scale = np.asarray(vocoder.temperature if low is None else [vocoder.temperature, low], np.float32)
    differences = []
    for n, batch in enumerate(batches):
        keys, (each, told) = jax.random.split(jax.random.key(n), len(batch)), zip(*batch, strict=True)
        # Padded as the longest, because other shapes are rounded otherwise.
        how: Any = {"batch_size": len(batch), "least": len(each[0]), "chunk": 0, "speakers": told}
        expected = vocoder.synthesise(each, list(keys), vocoder.temperature, **how)
        mel, frames = stack([with_speaker(mel, vocoder.speakers.numbers(who)) for mel, who in batch], len(batch))
        frames = frames.astype(np.int32)
        found = run[SAMPLE](weights, mel, frames, jax.random.key_data(keys), scale)
        differences += [a - np.asarray(b)[: len(a)] for a, b in zip(expected, found, strict=True)]
    noise = vocoder.system.draw(jnp.asarray(mel), keys)
    decoded = jax.jit(vocoder.system.decode)(vocoder.params, mel, noise, scale, frames)
    differences.append(np.ravel(decoded - run[DECODE](weights, mel, frames, noise, scale)))
    largest = float(np.max(np.abs(np.concatenate(differences))))
    return Parity(largest, [len(mel) for batch in batches for mel, _ in batch], jax.default_backend())
