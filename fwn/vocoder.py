"""A trained model as one object: mels in, speech out."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fwn import checkpoints
from fwn.errors import UserError
from fwn.mel import MelContract, check_mel
from fwn.nn.conv import fold_weight_norm
from fwn.systems import build

Array = jax.Array


def load(ckpt: str | Path, step: int | None = None) -> "Vocoder":
    """The vocoder of a workdir (of fwn.train or fwn.convert): its best checkpoint, or that of `step`."""
    return Vocoder(*checkpoints.read(ckpt, step))


def bucket(frames: int) -> int:
    """The padded length for a mel of so many frames: 64, 96, 128, 192, 256, 384, …: a handful of compilations."""
    size = 64
    while size < frames:
        size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
    return size


class Vocoder:
    """vocoder(mel) -> audio; vocoder.log_likelihood(audio, mel) -> nats per sample.

    Mels are float [F, M] (or [M, F]) by the model's own mel contract, `vocoder.mel`; audio is float [F · hop] in ±1, as
    `fwn.mel.align` gives it. All is padded to a few lengths and compiled once for each; padding changes no sample.
    """

    def __init__(self, config: Any, mel: MelContract, params: Any, step: int):
        self.config, self.mel, self.step = config, mel, step
        self.system = build(config)
        self.n_params = sum(a.size for a in jax.tree.leaves(params))
        self.params = jax.tree.map(jnp.asarray, fold_weight_norm(params))
        self.dtype = jax.tree.leaves(self.params)[0].dtype
        self.compile_seconds = self.run_seconds = self.sampled_seconds = 0.0  # kept by _run and synthesise
        self._compiled: dict[Any, Callable[..., Array]] = {}

    def __call__(self, mel: Any, temperature: float = 0.8, key: Array | None = None) -> np.ndarray:
        """Speech [F · hop], or [B, F · hop] for [B, F, M]. key: of the noise, jax.random.key(0) if not given."""
        key = jax.random.key(0) if key is None else key
        if not isinstance(key, Array):
            raise UserError(f"key is {key!r}; give jax.random.key({key!r})")
        if np.ndim(mel) == 3:
            return np.stack([self(one, temperature, jax.random.fold_in(key, i)) for i, one in enumerate(mel)])
        return next(self.synthesise([check_mel(np.asarray(mel), self.mel, "mel")], [key], temperature))

    def synthesise(
        self, mels: Sequence[Any], keys: Sequence[Array], temperature: float, batch_size: int = 1, least: int = 1
    ) -> Iterator[np.ndarray]:
        """Speech for each mel [F, M], in order; neighbours of one padded length go in one batch.

        least: frames that all are padded to at least. The longest of many makes one compilation do for all.
        """
        for group in self._groups([np.asarray(mel, self.dtype) for mel in mels], batch_size, least):
            mel, frames = self._stack([mels_i for _, mels_i in group], batch_size, least)
            chosen = jnp.stack([keys[i] for i, _ in group] + [keys[0]] * (batch_size - len(group)))
            audio = self._run("sample", mel, chosen, np.asarray(temperature, self.dtype), frames)
            for row, (_, mel_i) in zip(audio, group, strict=False):
                self.sampled_seconds += len(mel_i) * self.mel.hop_length / self.mel.sample_rate
                yield row[: len(mel_i) * self.mel.hop_length]

    def log_likelihood(self, audio: Any, mel: Any) -> np.ndarray:
        """log p(audio | mel) in nats per sample: a scalar, or [B] for [B, F · hop] and [B, F, M]."""
        if np.ndim(mel) == 3:
            return np.stack([self.log_likelihood(a, m) for a, m in zip(audio, mel, strict=True)])
        return self._run("log_likelihood", *self._pair(audio, mel))[0]

    def log_likelihoods(
        self, audios: Sequence[Any], mels: Sequence[Any], batch_size: int = 1, least: int = 1
    ) -> Iterator[float]:
        """log p(audio | mel) in nats per sample of each pair, in order, in the batches of `synthesise`."""
        pairs = [self._checked(audio, mel) for audio, mel in zip(audios, mels, strict=True)]
        for group in self._groups([mel for _, mel in pairs], batch_size, least):
            mel, frames = self._stack([mel for _, mel in group], batch_size, least)
            audio = [pairs[i][0] for i, _ in group] + [pairs[group[0][0]][0]] * (batch_size - len(group))
            length = mel.shape[1] * self.mel.hop_length
            padded = np.stack([np.pad(a, (0, length - len(a))) for a in audio])
            yield from map(float, self._run("log_likelihood", padded, mel, frames)[: len(group)])

    def roundtrip(self, audio: Any, mel: Any) -> np.ndarray:
        """inverse(forward(audio)) [F · hop]: what is lost by rounding alone. Only of a system that is a flow."""
        if self.system.roundtrip is None:
            raise UserError(f"{self.config.system} is no flow: there is no inverse to go through and back")
        return self._run("roundtrip", *self._pair(audio, mel))[0][: len(audio)]

    def _checked(self, audio: Any, mel: Any) -> tuple[np.ndarray, np.ndarray]:
        """audio [F · hop] and its mel [F, M]; UserError where they are no such pair."""
        hop, audio = self.mel.hop_length, np.asarray(audio, self.dtype)
        bands_last = True if np.shape(mel) == (len(audio) // hop, self.mel.n_mels) else None
        checked = check_mel(np.asarray(mel), self.mel, "mel", bands_last).astype(self.dtype)
        if not np.isfinite(audio).all():
            raise UserError(f"audio: {np.count_nonzero(~np.isfinite(audio))} of {audio.size} samples are not finite")
        if audio.shape != (len(checked) * hop,):
            raise UserError(
                f"audio of shape {list(audio.shape)} for a mel of {len(checked)} frames; it must have "
                f"{len(checked)} · {hop} = {len(checked) * hop} samples, as fwn.mel.align gives it"
            )
        return audio, checked

    def _pair(self, audio: Any, mel: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        audio, mel = self._checked(audio, mel)
        padded, frames = self._stack([mel], 1)
        return np.pad(audio, (0, (padded.shape[1] - len(mel)) * self.mel.hop_length))[None], padded, frames

    def _groups(self, mels: list[np.ndarray], batch_size: int, least: int) -> Iterator[list[tuple[int, np.ndarray]]]:
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

    def _stack(self, mels: list[np.ndarray], batch_size: int, least: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """mels, with copies of the first to fill the batch, padded -> [B, F, M] and their lengths [B]."""
        mels = mels + [mels[0]] * (batch_size - len(mels))
        size = bucket(max(least, *map(len, mels)))
        return np.stack([np.pad(m, ((0, size - len(m)), (0, 0))) for m in mels]), np.array([len(m) for m in mels])

    def _run(self, name: str, *args: Any) -> np.ndarray:
        """system.name(params, *args), compiled ahead, so that compiling and running can be told apart."""
        key = name, *(np.shape(a) for a in args)
        if key not in self._compiled:
            start = time.perf_counter()
            self._compiled[key] = jax.jit(getattr(self.system, name)).lower(self.params, *args).compile()
            self.compile_seconds += time.perf_counter() - start
        start = time.perf_counter()
        result = np.asarray(self._compiled[key](self.params, *args))
        self.run_seconds += time.perf_counter() - start
        return result
