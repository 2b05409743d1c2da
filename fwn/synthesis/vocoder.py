"""A trained model as one object: mels in, speech out."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fwn.config import Speakers
from fwn.errors import UserError
from fwn.mel import as_array, check_mel, check_mels, rows, several, with_speaker
from fwn.models.blocks import unstack
from fwn.nn.weight_norm import fold_weight_norm
from fwn.synthesis import chunked, exported
from fwn.synthesis.batches import checked_pair, groups, noise_key, stack, whole_frames
from fwn.synthesis.chunked import Stream
from fwn.synthesis.programs import Programs
from fwn.systems import build
from fwn.training.checkpoints import Run

Array = jax.Array


def load(ckpt: str | Path, step: int | None = None, low_temperature: float | None = None) -> "Vocoder":
    """The vocoder of a voice, or of a workdir of fwn.train or fwn.convert: its best checkpoint, or that of `step`.

    low_temperature: see Vocoder; None: the system's default. Raises UserError if the model has none.
    """
    vocoder = Vocoder(exported.read_run(ckpt, step))
    if low_temperature is not None:
        if vocoder.low_temperature is None:
            raise UserError(
                f"{ckpt}: low_temperature is {low_temperature:g}, but the model has no autoregression over blocks "
                "(config.model.autoregression); leave low_temperature out"
            )
        if not 0 <= low_temperature < math.inf:
            raise UserError(f"low_temperature is {low_temperature}: it must be a finite number, 0 or more")
        vocoder.low_temperature = low_temperature
    return vocoder


class Vocoder:
    """vocoder(mel) -> audio; vocoder.stream(mels) -> chunks of audio; vocoder.log_likelihood(audio, mel) -> nats.

    Mels are float [F, M] or [M, F] by the model's mel contract, `vocoder.mel`: arrays of NumPy, JAX or PyTorch on any
    device, or nested lists. Audio is float [F · hop] in ±1, as `fwn.mel.align` returns it. Mels are padded to a few
    lengths, each compiled once; padding does not change a sample.
    chunk: mel frames to compute at a time (fwn.synthesis.chunked), which does not change a sample either; 0: all at
    once. By default up to 1024 frames, or fewer if they need more than half of the free memory. It is rounded up to a
    multiple of `vocoder.system.unit`, which is 1 if positions of the flow's last block divide a mel frame.
    speaker: who speaks, for a model that is told (docs/speakers.md): a name of `vocoder.speakers.names`, or a vector of
    `vocoder.speakers.size` numbers. None is enough for other models. For several mels it is one, or a list of as many.
    low_temperature: scale of the noise in the bands of autoregression over blocks, times the temperature; None: the
    model has no such bands.
    """

    def __init__(self, run: Run):
        self.config, self.mel, params, self.step = run
        self.system = build(self.config, mel=self.mel)
        self.speakers, self.low_temperature = Speakers(self.config), self.system.low_temperature
        self.n_params = sum(a.size for a in jax.tree.leaves(params))
        self.params = jax.tree.map(jnp.asarray, unstack(fold_weight_norm(params)))
        self.dtype = jax.tree.leaves(self.params)[0].dtype
        self.sampled_seconds = 0.0  # in all
        self._programs = Programs(self.system, self.params)

    @property
    def compile_seconds(self) -> float:
        """In all."""
        return self._programs.compile_seconds

    @property
    def run_seconds(self) -> float:
        """In all."""
        return self._programs.run_seconds

    @property
    def temperature(self) -> float:
        """Default scale of the noise."""
        return self.system.temperature

    def __call__(
        self,
        mel: Any,
        temperature: float | None = None,
        key: Array | None = None,
        chunk: int | None = None,
        speaker: Any = None,
    ) -> Any:
        """Speech [F · hop] for a mel [F, M], [B, F · hop] for [B, F, M], a list of [F · hop] for a list of mels.

        A list of mels may have different lengths; they are sampled one by one. A list of [M] is one mel, of F frames.
        temperature: None: `Vocoder.temperature`. key: of the noise; None: jax.random.key(0). Mel i of several gets
        jax.random.fold_in(key, i).
        """
        key, temperature = noise_key(key), self.temperature if temperature is None else temperature
        mels = check_mels(mel, self.mel, "mel")
        if isinstance(mels, np.ndarray) and mels.ndim == 2:
            return next(self.synthesise([mels], [key], temperature, chunk=chunk, speakers=[speaker]))
        keys, who = [jax.random.fold_in(key, i) for i in range(len(mels))], self.speakers.each(speaker, len(mels))
        if isinstance(mels, list):
            return list(self.synthesise(mels, keys, temperature, chunk=chunk, speakers=who))
        return np.stack(list(self.synthesise(list(mels), keys, temperature, len(mels), chunk=chunk, speakers=who)))

    def stream(
        self,
        mel_frames: Iterable[Any],
        temperature: float | None = None,
        key: Array | None = None,
        chunk: int | None = None,
        speaker: Any = None,
    ) -> Stream:
        """Speech while its mel is being made: an iterator over audio [n · hop], in sum the audio of vocoder(mel).

        mel_frames: single frames [M], or arrays [n, M] of any n. chunk: frames of audio at a time. A smaller chunk is
        heard sooner (Stream.latency) and costs more, since every chunk is computed with its receptive field
        (`vocoder.system.receptive_field`). By default a chunk is as long as that: twice the work of one pass.
        """
        receptive_field, key, who = self.system.receptive_field, noise_key(key), self.speakers.numbers(speaker)
        scale = self.temperature if temperature is None else temperature
        chunk = self.whole(max(16, sum(receptive_field)) if chunk is None else whole_frames(chunk, 1))

        def checked() -> Iterator[np.ndarray]:
            fed = 0
            for group in mel_frames:
                frames = as_array(group, f"mel_frames, from frame {fed} on")
                frames = frames[None] if frames.ndim == 1 else frames
                mel = check_mel(frames, self.mel, f"mel_frames, from frame {fed} on", bands_last=True)
                fed += len(mel)
                yield with_speaker(mel, who)[None].astype(self.dtype)
            if not fed:
                raise UserError("mel_frames is empty; give at least one frame")

        def audio() -> Iterator[np.ndarray]:
            for piece in self._pieces(checked(), key[None], scale, chunk):
                self.sampled_seconds += piece.shape[1] / self.mel.sample_rate
                yield piece[0]

        return Stream(audio(), chunk + receptive_field[1] - 1, self.mel.sample_rate / self.mel.hop_length)

    def synthesise(
        self,
        mels: Sequence[Any],
        keys: Sequence[Array],
        temperature: float,
        batch_size: int = 1,
        least: int = 1,
        chunk: int | None = None,
        speakers: Sequence[Any] | None = None,
    ) -> Iterator[np.ndarray]:
        """Speech for each mel [F, M], in order. Neighbours with the same padded length are computed in one batch.

        least: pad all mels to at least this many frames; with the longest of many, one compilation serves all.
        speakers: who speaks in each; None: in none it is said.
        """
        for group in groups(self._told([np.asarray(mel, self.dtype) for mel in mels], speakers), batch_size, least):
            mel, frames = stack([mels_i for _, mels_i in group], batch_size, least)
            chosen = jnp.stack([keys[i] for i, _ in group] + [keys[0]] * (batch_size - len(group)))
            if (kept := self._kept(chunk, mel, chosen, frames)) == 0:
                audio = self._sample(mel, chosen, temperature, frames)
            else:
                audio, done = np.empty((len(mel), max(frames) * self.mel.hop_length), self.dtype), 0
                for piece in self._pieces([mel[:, : max(frames)]], chosen, temperature, kept, frames):
                    audio[:, done : done + piece.shape[1]] = piece
                    done += piece.shape[1]
            for row, (_, mel_i) in zip(audio, group, strict=False):
                self.sampled_seconds += len(mel_i) * self.mel.hop_length / self.mel.sample_rate
                yield row[: len(mel_i) * self.mel.hop_length]

    def log_likelihood(self, audio: Any, mel: Any, speaker: Any = None) -> np.ndarray:
        """log p(audio | mel) in nats per sample: a scalar, or [B] for [B, F · hop] and [B, F, M], or lists of both."""
        pairs = [(audio, mel, speaker)]
        if several(mel):
            pairs = list(zip(audio, mels := rows(mel, "mel"), self.speakers.each(speaker, len(mels)), strict=True))
        nats = [np.asarray(self._programs.run("log_likelihood", *self._pair(*pair)))[0] for pair in pairs]
        return np.stack(nats) if several(mel) else nats[0]

    def log_likelihoods(
        self,
        audios: Sequence[Any],
        mels: Sequence[Any],
        batch_size: int = 1,
        least: int = 1,
        speakers: Sequence[Any] | None = None,
    ) -> Iterator[float]:
        """log p(audio | mel) in nats per sample for each pair, in order, in batches as in `synthesise`."""
        pairs = [checked_pair(audio, mel, self.mel, self.dtype) for audio, mel in zip(audios, mels, strict=True)]
        for group in groups(self._told([mel for _, mel in pairs], speakers), batch_size, least):
            mel, frames = stack([mel for _, mel in group], batch_size, least)
            audio = [pairs[i][0] for i, _ in group] + [pairs[group[0][0]][0]] * (batch_size - len(group))
            length = mel.shape[1] * self.mel.hop_length
            padded = np.stack([np.pad(a, (0, length - len(a))) for a in audio])
            nats = np.asarray(self._programs.run("log_likelihood", padded, mel, frames))
            yield from map(float, nats[: len(group)])

    def roundtrip(self, audio: Any, mel: Any, speaker: Any = None) -> np.ndarray:
        """inverse(forward(audio)) [F · hop], which differs from audio by rounding. Only for a system that is a flow."""
        if self.system.roundtrip is None:
            raise UserError(f"{self.config.system} is not a flow, so it has no inverse")
        return np.asarray(self._programs.run("roundtrip", *self._pair(audio, mel, speaker)))[0][: len(audio)]

    def _told(self, mels: Sequence[np.ndarray], speakers: Sequence[Any] | None) -> list[np.ndarray]:
        """The mels [F, M] with who speaks, [F, M + channels]. Raises UserError before any is sampled."""
        who = [None] * len(mels) if speakers is None else speakers
        return [with_speaker(mel, self.speakers.numbers(one)) for mel, one in zip(mels, who, strict=True)]

    def _pair(self, audio: Any, mel: Any, speaker: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        audio, mel = checked_pair(audio, mel, self.mel, self.dtype)
        padded, frames = stack(self._told([mel], [speaker]), 1)
        return np.pad(audio, (0, (padded.shape[1] - len(mel)) * self.mel.hop_length))[None], padded, frames

    def _pieces(
        self,
        mels: Iterable[np.ndarray],
        keys: Array,
        temperature: float,
        chunk: int,
        lengths: np.ndarray | None = None,
    ) -> Iterator[np.ndarray]:
        """chunked.pieces for this system."""
        recurrence, hop = self.system.recurrence, self.mel.hop_length
        state = recurrence.start(len(keys), self.dtype) if recurrence else None

        def step(mel: np.ndarray, frames: np.ndarray, first: np.int32, skip: np.int32) -> np.ndarray:
            nonlocal state
            if recurrence is None:
                return self._sample(mel, keys, temperature, frames, first)[:, skip * hop : (skip + chunk) * hop]
            scale = self._temperatures(temperature)
            audio, state = self._programs.run("proceed", mel, keys, scale, frames, first, skip, state)
            return np.asarray(audio)

        return chunked.pieces(mels, chunk, self.system.receptive_field, step, lengths)

    def _sample(
        self, mel: np.ndarray, keys: Array, temperature: float, frames: np.ndarray, first: Any = 0
    ) -> np.ndarray:
        scale = self._temperatures(temperature)
        return np.asarray(self._programs.run("sample", mel, keys, scale, frames, np.int32(first)))

    def _temperatures(self, temperature: float) -> np.ndarray:
        """The temperature argument of System.sample."""
        low = self.low_temperature
        return np.asarray(temperature if low is None else [temperature, low], self.dtype)

    def _kept(self, chunk: int | None, mel: np.ndarray, keys: Array, frames: np.ndarray) -> int:
        """Frames per chunk for mels [B, F, M]; 0: all at once."""

        def needs(size: int) -> int:
            """Bytes, by the compiled program."""
            args = np.zeros((len(mel), size, mel.shape[2]), self.dtype), keys, self._temperatures(0.0), frames
            return self._programs.compiled("sample", *args, np.int32(0)).memory_analysis().temp_size_in_bytes

        receptive_field = self.system.receptive_field
        if chunk is None:
            chunk = chunked.window(mel.shape[1], receptive_field, needs) - sum(receptive_field)
        chunk = self.whole(whole_frames(chunk))
        return 0 if chunk == 0 or mel.shape[1] <= chunk + sum(receptive_field) else chunk

    def whole(self, chunk: int) -> int:
        """The chunk in whole units of the system."""
        return -(-chunk // self.system.unit) * self.system.unit
