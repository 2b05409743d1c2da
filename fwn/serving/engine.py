"""What a server computes for requests: speech in batches, speech window by window, likelihoods. All shapes are warm."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from fwn.errors import UserError
from fwn.serving.turns import Observe, Turns
from fwn.synthesis.chunked import bucket
from fwn.synthesis.vocoder import Vocoder
from fwn.xla.malloc import give_back_memory

SPEECH, LIKELIHOOD = "speech", "likelihood"  # names of turns


class Asked(NamedTuple):
    """Speech that a request asks for: mel [F, M], scale of the noise, seed of the noise, who speaks (Speakers)."""

    mel: np.ndarray
    temperature: float
    seed: int
    speaker: Any


class Engine:
    """A vocoder behind a queue (fwn.serving.turns.Turns).

    lengths: mels are padded to the least of these numbers of frames, rounded up to those of
    fwn.synthesis.chunked.bucket, and computed together with others of one length and temperature. Longer mels are
    computed in windows as long as the longest of them, one at a time. `warm` compiles all of these shapes, and no
    request needs another. batch_size: most requests in a batch. max_wait, observe: see Turns.
    """

    def __init__(self, vocoder: Vocoder, lengths: Sequence[int], batch_size: int, max_wait: float, observe: Observe):
        self.vocoder, self.lengths = vocoder, sorted({bucket(n) for n in lengths})
        self.sizes = [*(2**i for i in range(batch_size.bit_length()) if 2**i < batch_size), batch_size]
        self.turns = Turns(self.sizes, max_wait, observe)

    def warm(self) -> None:
        """Compiles everything that requests can need, by sampling silence."""
        vocoder, who = self.vocoder, self.vocoder.speakers.example
        for size in self.sizes:
            vocoder.warm_up(self.lengths, size, chunk=0)
        silence = vocoder.silence(self.lengths[-1] + 1)
        for chunk in (self.long, None):
            list(self._windows(Asked(silence[:1], vocoder.temperature, 0, who), chunk))
        for mel in (silence, silence[:1]):
            self._nats(np.zeros(len(mel) * vocoder.mel.hop_length, np.float32), mel, who)
        give_back_memory()  # that of the compiler

    @property
    def long(self) -> int:
        """Frames per window of mels longer than all lengths."""
        context = sum(self.vocoder.system.receptive_field)
        return self.vocoder.whole(max(16, context, self.lengths[-1] - context))

    def speaker(self, given: str | None) -> Any:
        """Who speaks, by the text in a request: a name, or a vector as in 0.1,-0.2. Raises UserError."""
        speakers = self.vocoder.speakers
        speaker: Any = given
        if given is not None and speakers.kind == "embedding":
            try:
                speaker = np.array([float(number) for number in given.split(",")], np.float32)
            except ValueError as error:
                raise UserError(f"speaker is {given[:100]!r}; give {speakers.size} numbers, as in 0.1,-0.2") from error
        speakers.numbers(speaker)
        return speaker

    async def speak(self, asked: Asked) -> np.ndarray:
        """The speech [F · hop]. It depends on nothing else in the batch, but for rounding."""
        length = next((n for n in self.lengths if len(asked.mel) <= n), None)
        if length is None:
            return np.concatenate([piece async for piece in self.pieces(asked, self.long)])
        speech: np.ndarray = await self.turns.batch(
            (SPEECH, length, asked.temperature), partial(self._together, length), asked
        )
        return finite(speech, f"the audio at temperature {asked.temperature:g}")

    async def pieces(self, asked: Asked, chunk: int | None = None) -> AsyncIterator[np.ndarray]:
        """The speech in pieces [n · hop], each as soon as it is computed. chunk: as in Vocoder.stream."""
        windows = self._windows(asked, chunk)
        more: Callable[[], np.ndarray | None] = partial(next, windows, None)
        while (piece := await self.turns.alone(SPEECH, more)) is not None:
            yield finite(piece, f"the audio at temperature {asked.temperature:g}")

    async def nats(self, audio: np.ndarray, mel: np.ndarray, speaker: Any) -> np.ndarray:
        """log p of the audio [F · hop] given its mel [F, M], in nats per sample in each frame, [F]."""
        found: np.ndarray = await self.turns.alone(LIKELIHOOD, partial(self._nats, audio, mel, speaker))
        return finite(found, "the likelihood")

    # in the thread of the queue

    def _together(self, length: int, batch: list[Asked]) -> list[np.ndarray]:
        mels, keys = [asked.mel for asked in batch], [jax.random.key(asked.seed) for asked in batch]
        who, temperature = [asked.speaker for asked in batch], batch[0].temperature
        size = next(size for size in self.sizes if size >= len(batch))
        return list(self.vocoder.synthesise(mels, keys, temperature, size, length, chunk=0, speakers=who))

    def _windows(self, asked: Asked, chunk: int | None) -> Iterator[np.ndarray]:
        mel, temperature, seed, speaker = asked
        yield from self.vocoder.stream([mel], temperature, jax.random.key(seed), chunk, speaker)

    def _nats(self, audio: np.ndarray, mel: np.ndarray, speaker: Any) -> np.ndarray:
        context = self.vocoder.system.context or (0, 0)
        window = max(self.lengths[-1], bucket(2 * sum(context)))
        chunk = self.vocoder.whole(window - sum(context))
        found: np.ndarray = self.vocoder.log_likelihood(audio, mel, speaker, True, chunk, window)
        return found


def finite(values: np.ndarray, what: str) -> np.ndarray:
    """The values. Raises UserError if one is NaN or infinite."""
    if not np.isfinite(values).all():
        raise UserError(f"{what} is not finite; send another recording or mel, or give a lower temperature")
    return values
