"""A trained model as a density: recordings and their mels in, noise and likelihoods out."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fwn.config import Speakers
from fwn.errors import UserError
from fwn.mel import rows, several, with_speaker
from fwn.models.weight_forms import in_dtype, unstack
from fwn.nn.weight_norm import fold_weight_norm
from fwn.synthesis import chunked
from fwn.synthesis.batches import checked_pair, groups, stack, whole_frames
from fwn.synthesis.programs import Programs
from fwn.systems import build
from fwn.training.checkpoints import Run
from fwn.xla.layout import placed

Array = jax.Array


class Density:
    """log p(audio | mel), the noise of audio, and what Vocoder is built on. Arguments as in Vocoder.

    chunk: mel frames to compute at a time, in windows with all that they depend on (`system.context`), which changes
    results by rounding only; 0: all at once. By default all, or fewer if they need more than half of the free memory.
    A student's noise depends on all audio before it: it is always computed at once.
    """

    def __init__(self, run: Run):
        self.config, self.mel, params, self.step = run
        self.system = build(self.config, mel=self.mel)
        self.speakers = Speakers(self.config)
        self.n_params = sum(a.size for a in jax.tree.leaves(params))
        self.params = jax.tree.map(jnp.asarray, unstack(fold_weight_norm(params)))
        self.dtype = jax.tree.leaves(self.params)[0].dtype
        self._programs = Programs(self.system, placed(in_dtype(self.params, self.config.model.get("dtype"))))

    @property
    def compile_seconds(self) -> float:
        """In all."""
        return self._programs.compile_seconds

    @property
    def run_seconds(self) -> float:
        """In all."""
        return self._programs.run_seconds

    def log_likelihood(
        self,
        audio: Any,
        mel: Any,
        speaker: Any = None,
        per_frame: bool = False,
        chunk: int | None = None,
        least: int = 1,
    ) -> Any:
        """log p(audio | mel) in nats per sample: a scalar, or [B] for [B, F · hop] and [B, F, M], or lists of both.

        per_frame: what each mel frame's samples add, [F], in nats per sample, whose mean is the scalar; [B, F], or a
        list. It is exact: log p is a sum over positions (systems.base.nats_by_frame).
        least: pad all mels to at least this many frames; with the longest of many, one compilation serves all.
        """

        def one(audio: Any, mel: Any, speaker: Any) -> np.ndarray:
            padded, mels, frames = self._pair(audio, mel, speaker, least=least)
            # so that no program is compiled for its size alone; both need the same memory
            whole = not per_frame and mels.shape[1] <= chunked.LONGEST
            size = self._size(chunk, "log_likelihood" if whole else "nats_by_frame", mels)
            if not size and not per_frame:
                return np.asarray(self._programs.run("log_likelihood", padded, mels, frames))[0]
            nats = self._by_window("nats_by_frame", padded, mels, frames, size, 1)
            return nats if per_frame else np.asarray(nats.mean(dtype=np.float64), nats.dtype)

        nats = self._each(one, audio, mel, speaker)
        return np.stack(nats) if isinstance(nats, list) and not per_frame else nats

    def log_likelihoods(
        self,
        audios: Sequence[Any],
        mels: Sequence[Any],
        batch_size: int = 1,
        least: int = 1,
        speakers: Sequence[Any] | None = None,
    ) -> Iterator[float]:
        """log p(audio | mel) in nats per sample for each pair, in order, in batches as in Vocoder.synthesise."""
        pairs = [checked_pair(audio, mel, self.mel, self.dtype) for audio, mel in zip(audios, mels, strict=True)]
        for group in groups(self._told([mel for _, mel in pairs], speakers), batch_size, least):
            mel, frames = stack([mel for _, mel in group], batch_size, least)
            audio = [pairs[i][0] for i, _ in group] + [pairs[group[0][0]][0]] * (batch_size - len(group))
            length = mel.shape[1] * self.mel.hop_length
            padded = np.stack([np.pad(a, (0, length - len(a))) for a in audio])
            nats = np.asarray(self._programs.run("log_likelihood", padded, mel, frames))
            yield from map(float, nats[: len(group)])

    def encode(self, audio: Any, mel: Any, speaker: Any = None, chunk: int | None = None) -> Any:
        """The noise of audio, float [F · hop], of which Vocoder.decode makes the audio again; only of a flow.

        Under the model it is standard normal (of Parallel WaveNet: logistic), independent of the mel. [B, F · hop], or
        a list, for several.
        """
        self._is_flow(self.system.encode)

        def one(audio: Any, mel: Any, speaker: Any) -> np.ndarray:
            padded, mels, frames = self._pair(audio, mel, speaker)
            size = self._size(chunk, "encode", mels)
            return self._by_window("encode", padded, mels, frames, size, self.mel.hop_length)

        return self._each(one, audio, mel, speaker)

    def roundtrip(self, audio: Any, mel: Any, speaker: Any = None) -> np.ndarray:
        """inverse(forward(audio)) [F · hop], which differs from audio by rounding. Only for a system that is a flow."""
        self._is_flow(self.system.roundtrip)
        return np.asarray(self._programs.run("roundtrip", *self._pair(audio, mel, speaker)))[0][: len(audio)]

    def whole(self, chunk: int) -> int:
        """The chunk in whole units of the system."""
        return -(-chunk // self.system.unit) * self.system.unit

    def _is_flow(self, function: Any) -> None:
        """Raises UserError for a system without this function of flows."""
        if function is None:
            raise UserError(f"{self.config.system} is not a flow, so it has no inverse")

    def _each(self, one: Callable[..., np.ndarray], given: Any, mel: Any, speaker: Any) -> Any:
        """one(given, mel, speaker), or that of each of several: a stack for a batch, a list for a list."""
        if not several(mel):
            return one(given, mel, speaker)
        mels = rows(mel, "mel")
        results = [one(*each) for each in zip(given, mels, self.speakers.each(speaker, len(mels)), strict=True)]
        return results if isinstance(mel, list | tuple) else np.stack(results)

    def _told(self, mels: Sequence[np.ndarray], speakers: Sequence[Any] | None) -> list[np.ndarray]:
        """The mels [F, M] with who speaks, [F, M + channels]. Raises UserError before any is sampled."""
        who = [None] * len(mels) if speakers is None else speakers
        return [with_speaker(mel, self.speakers.numbers(one)) for mel, one in zip(mels, who, strict=True)]

    def _pair(
        self, audio: Any, mel: Any, speaker: Any, source: str = "audio", least: int = 1
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(audio [1, F' · hop], mel [1, F', M], number of frames [1]), padded."""
        audio, mel = checked_pair(audio, mel, self.mel, self.dtype, source)
        padded, frames = stack(self._told([mel], [speaker]), 1, least)
        return np.pad(audio, (0, (padded.shape[1] - len(mel)) * self.mel.hop_length))[None], padded, frames

    def _size(self, chunk: int | None, name: str, mel: np.ndarray) -> int:
        """Frames per chunk for a mel [1, F, M]; 0: all at once."""
        if (context := self.system.context) is None:
            return 0

        def needs(size: int) -> int:
            """Bytes, by the compiled program."""
            audio, part = np.zeros((1, size * self.mel.hop_length), self.dtype), mel[:, :1].repeat(size, axis=1)
            program = self._programs.compiled(name, audio, part, np.full(1, size))
            return int(program.memory_analysis().temp_size_in_bytes)

        return self._chunk(chunk, mel.shape[1], context, needs)

    def _chunk(self, chunk: int | None, frames: int, field: tuple[int, int], needs: Callable[[int], int]) -> int:
        """Frames per chunk of so many frames, with `field` around it; 0: all at once. needs: as in chunked.window."""
        if chunk is None:
            chunk = chunked.window(frames, field, needs) - sum(field)
        chunk = self.whole(whole_frames(chunk))
        return 0 if chunk == 0 or frames <= chunk + sum(field) else chunk

    def _by_window(
        self, name: str, audio: np.ndarray, mel: np.ndarray, frames: np.ndarray, chunk: int, each: int
    ) -> np.ndarray:
        """system.name of audio [1, T] and mel [1, F, M] -> [frames · each], in chunks of frames; 0: all at once."""
        if not chunk:
            return np.asarray(self._programs.run(name, audio, mel, frames))[0, : int(frames[0]) * each]

        def step(mel: np.ndarray, real: np.ndarray, first: np.int32, skip: np.int32) -> np.ndarray:
            own = chunked.cut(audio, first, mel.shape[1], self.mel.hop_length)
            found = np.asarray(self._programs.run(name, own, mel, real))
            return found[:, skip * each : (skip + chunk) * each]

        assert self.system.context is not None
        pieces = chunked.pieces([mel[:, : int(frames[0])]], chunk, self.system.context, step)
        return np.concatenate([piece[0] for piece in pieces])
