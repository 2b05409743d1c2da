"""A trained model as a sampler: mels with random keys, or with noise of one's own, in; audio out."""

from collections.abc import Iterable, Iterator, Sequence
from threading import Lock
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fwn.errors import UserError, short
from fwn.mel import as_array, silence, with_speaker
from fwn.synthesis import chunked, tones
from fwn.synthesis.batches import groups, noise_key, stack, whole_frames
from fwn.synthesis.density import Density
from fwn.systems.base import given
from fwn.training.checkpoints import Run

Array = jax.Array
Temperature = float | Sequence[float]
KEPT = 64  # pairs of temperatures and speaker whose tones are remembered


class Sampler(Density):
    """Batches of mels to audio, and between noises. Arguments as in Vocoder."""

    def __init__(self, run: Run):
        super().__init__(run)
        self.low_temperature = self.system.low_temperature
        self.level_temperatures: list[float] | None = None
        self.denoise = 0.0
        self._tones: dict[bytes, np.ndarray] = {}  # by speaker and temperatures
        self.sampled_seconds = 0.0  # in all
        self._counting = Lock()

    @property
    def temperature(self) -> float:
        """Default scale of the noise."""
        return self.system.temperature

    def synthesise(
        self,
        mels: Sequence[Any],
        keys: Sequence[Array],
        temperature: Temperature,
        batch_size: int = 1,
        least: int = 1,
        chunk: int | None = None,
        speakers: Sequence[Any] | None = None,
    ) -> Iterator[np.ndarray]:
        """Speech for each mel [F, M], in order. Neighbours with the same padded length are computed in one batch.

        least: pad all mels to at least this many frames; with the longest of many, one compilation serves all.
        speakers: who speaks in each; None: in none it is said.
        """
        scale = self._scale(temperature)
        for group in groups(self._told([np.asarray(mel, self.dtype) for mel in mels], speakers), batch_size, least):
            mel, frames = stack([mels_i for _, mels_i in group], batch_size, least)
            chosen = jnp.stack([keys[i] for i, _ in group] + [keys[0]] * (batch_size - len(group)))
            audio = self._batch(mel, chosen, scale, frames, chunk)
            for row, (_, mel_i) in zip(audio, group, strict=False):
                with self._counting:
                    self.sampled_seconds += len(mel_i) * self.mel.hop_length / self.mel.sample_rate
                yield self._denoised(row[: len(mel_i) * self.mel.hop_length], mel_i[0, self.mel.n_mels :], scale)

    def decode(
        self,
        noise: Any,
        mel: Any,
        temperature: Temperature = 1.0,
        low_temperature: float = 1.0,
        speaker: Any = None,
        chunk: int | None = None,
    ) -> Any:
        """The audio [F · hop] of noise [F · hop]: the inverse of `encode`. [B, F · hop], or a list, for several.

        With the two temperatures of a call, and `self.noise` of its key, it is the audio of the call, if that has no
        `level_temperatures` and no `denoise`: these are for calls and streams.
        """
        self._is_flow(self.system.encode)
        scale = self._temperatures(temperature, low_temperature)

        def one(noise: Any, mel: Any, speaker: Any) -> np.ndarray:
            padded, mels, frames = self._pair(noise, mel, speaker, "noise")
            return self._batch(mels, padded, scale, frames, chunk)[0]

        return self._each(one, noise, mel, speaker)

    def noise(self, frames: int, key: Array | None = None) -> np.ndarray:
        """The noise [frames · hop] of a mel of so many frames and this key, before it is scaled by a temperature."""
        self._is_flow(self.system.encode)
        mel = np.zeros((1, whole_frames(frames, 1), self.mel.n_mels), self.dtype)
        return np.asarray(jax.jit(self.system.draw)(mel, noise_key(key)[None]))[0, : frames * self.mel.hop_length]

    def silence(self, frames: int) -> np.ndarray:
        """The mel [frames, M] of digital silence, by the model's contract."""
        return silence(self.mel, frames).astype(self.dtype)

    def levels(self, frames: int) -> np.ndarray:
        """At which split each noise sample leaves, int [frames · hop]: 0, 1, …; the last level is what never splits."""
        return np.resize(np.asarray(self.system.levels), frames * self.mel.hop_length)

    def interpolate(self, noise: Any, other: Any, share: Any) -> np.ndarray:
        """Noise [F · hop] between two: cos(share · π/2) · noise + sin(share · π/2) · other.

        Of two independent normal noises it is normal noise. share: 0 is noise, 1 is other; a number, or one for each
        level (`self.levels`).
        """
        noise, other = (as_array(value, "noise").astype(self.dtype) for value in (noise, other))
        if noise.shape != other.shape or noise.ndim != 1 or len(noise) % self.mel.hop_length:
            raise UserError(
                f"noise of shape {list(noise.shape)} and {list(other.shape)}; give two of one length, a multiple of "
                f"{self.mel.hop_length}"
            )
        angle = self._by_level(share, "share")[self.levels(len(noise) // self.mel.hop_length)] * np.pi / 2
        between: np.ndarray = (np.cos(angle) * noise + np.sin(angle) * other).astype(self.dtype)
        return between

    def _batch(self, mel: np.ndarray, source: Any, scale: np.ndarray, frames: np.ndarray, chunk: int | None) -> Any:
        """Audio [B, max(frames) · hop] of padded mels [B, F, M]. source: keys [B], or noise [B, F · hop]."""
        if (kept := self._kept(chunk, mel, source, scale, frames)) == 0:
            return self._sample(mel, source, scale, frames)[:, : max(frames) * self.mel.hop_length]
        pieces = self._pieces([mel[:, : max(frames)]], source, scale, kept, frames)
        audio, done = np.empty((len(mel), max(frames) * self.mel.hop_length), self.dtype), 0
        for piece in pieces:
            audio[:, done : done + piece.shape[1]] = piece
            done += piece.shape[1]
        return audio

    def _pieces(
        self,
        mels: Iterable[np.ndarray],
        source: Any,
        scale: np.ndarray,
        chunk: int,
        lengths: np.ndarray | None = None,
    ) -> Iterator[np.ndarray]:
        """chunked.pieces for this system. source: keys [B], or noise [B, T]."""
        recurrence, hop, noisy = self.system.recurrence, self.mel.hop_length, given(source)
        state = recurrence.start(len(source), self.dtype) if recurrence else None

        def step(mel: np.ndarray, frames: np.ndarray, first: np.int32, skip: np.int32) -> np.ndarray:
            nonlocal state
            own = chunked.cut(source, first, mel.shape[1], hop) if noisy else source
            if recurrence is None:
                return self._sample(mel, own, scale, frames, first)[:, skip * hop : (skip + chunk) * hop]
            audio, state = self._programs.run("proceed", mel, own, scale, frames, first, skip, state)
            return np.asarray(audio)

        return chunked.pieces(mels, chunk, self.system.receptive_field, step, lengths)

    def _sample(
        self, mel: np.ndarray, source: Any, scale: np.ndarray, frames: np.ndarray, first: Any = 0
    ) -> np.ndarray:
        return np.asarray(self._programs.run(*_call(mel, source, scale, frames, first)))

    def _denoised(self, audio: np.ndarray, who: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Audio minus `denoise` times the tones of the model's silence. who [S]: the numbers of the speaker."""
        if not self.denoise:
            return audio
        key = who.tobytes() + scale.tobytes()
        if (constant := self._tones.get(key)) is None:
            constant = self._of_silence(who, scale)
            with self._counting:
                if len(self._tones) >= KEPT:
                    del self._tones[next(iter(self._tones))]
                self._tones[key] = constant
        removed: np.ndarray = (audio - self.denoise * np.resize(constant, len(audio))).astype(audio.dtype)
        return removed

    def _of_silence(self, who: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """The tones of the model's silence, one period [unit · hop]."""
        unit, hop = self.system.unit, self.mel.hop_length
        frames = self.whole(max(tones.FRAMES, tones.PERIODS * unit))
        before, after = self.system.receptive_field  # away from both ends, which are not steady
        mel = with_speaker(self.silence(before + frames + after), who)
        padded, length = stack([mel], 1)
        audio = self._batch(padded, jax.random.key(0)[None], scale, length, None)[0]
        with self._counting:
            self.sampled_seconds += len(audio) / self.mel.sample_rate
        return tones.stationary(audio[before * hop :][: frames * hop], unit * hop)

    def _scale(self, temperature: Temperature) -> np.ndarray:
        """The temperature argument of System.sample for a call, with the factors of this vocoder."""
        if self.level_temperatures is not None:
            factors = self._by_level(self.level_temperatures, "level_temperatures")
            temperature = list(self._by_level(temperature, "temperature") * factors)
        return self._temperatures(temperature, self.low_temperature)

    def _temperatures(self, temperature: Temperature, low: float | None) -> np.ndarray:
        """The temperature argument of System.sample."""
        if np.ndim(temperature) == 0:
            return np.asarray(temperature if self.low_temperature is None else [temperature, low], self.dtype)
        scales = self._by_level(temperature, "temperature")
        if len(scales) == 1 and self.low_temperature is None:
            return scales[0]
        return np.asarray([*scales, 1.0 if low is None else low], self.dtype)

    def _by_level(self, value: Any, name: str) -> np.ndarray:
        """A number, or one for each level -> one for each. Raises UserError unless they are finite, 0 or more."""
        n, numbers = 1 + max(self.system.levels), np.asarray(value)
        if (
            numbers.dtype.kind not in "fiu"
            or numbers.shape not in ((), (n,))
            or not np.all((numbers >= 0) & (numbers < np.inf))
        ):
            several = f", or {n}, one for each level" if n > 1 else ""
            raise UserError(f"{name} is {short(value)}; give a finite number, 0 or more{several}")
        return np.broadcast_to(numbers.astype(self.dtype), (n,))

    def _kept(self, chunk: int | None, mel: np.ndarray, source: Any, scale: np.ndarray, frames: np.ndarray) -> int:
        """Frames per chunk for mels [B, F, M]; 0: all at once."""

        def needs(size: int) -> int:
            """Bytes, by the compiled program."""
            own = chunked.cut(source, 0, size, self.mel.hop_length) if given(source) else source
            program = self._programs.compiled(*_call(mel[:, :1].repeat(size, axis=1), own, scale, frames))
            return int(program.memory_analysis().temp_size_in_bytes)

        return self._chunk(chunk, mel.shape[1], self.system.receptive_field, needs)


def _call(mel: np.ndarray, source: Any, scale: np.ndarray, frames: np.ndarray, first: Any = 0) -> tuple[Any, ...]:
    """Name and arguments of the program for keys or noise."""
    if given(source):
        return "decode", mel, source, scale, frames
    return "sample", mel, source, scale, frames, np.int32(first)
