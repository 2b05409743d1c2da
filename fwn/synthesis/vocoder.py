"""A trained model as one object: mels in, speech out."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fwn.errors import UserError, short
from fwn.mel import as_array, check_mel, check_mels, with_speaker
from fwn.synthesis import exported
from fwn.synthesis.batches import noise_key, whole_frames
from fwn.synthesis.chunked import Stream, bucket
from fwn.synthesis.sampler import Sampler, Temperature
from fwn.xla import cache

Array = jax.Array


def load(
    ckpt: str | Path,
    step: int | None = None,
    low_temperature: float | None = None,
    level_temperatures: Sequence[float] | None = None,
    denoise: float = 0.0,
) -> "Vocoder":
    """The vocoder of a voice, or of a workdir of fwn.train or fwn.convert: its best checkpoint, or that of `step`.

    low_temperature, level_temperatures, denoise: see Vocoder. None: the system's defaults. Raises UserError if the
    model has no such bands, or other levels.
    What is compiled is kept for later processes, in the folder that fwn.xla.cache names.
    """
    cache.enable()
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
    if level_temperatures is not None:
        n = len(vocoder._by_level(level_temperatures, "level_temperatures"))
        vocoder.level_temperatures = np.full(n, level_temperatures, float).tolist()
    if isinstance(denoise, bool) or not isinstance(denoise, int | float | np.number) or not 0 <= denoise <= 1:
        raise UserError(
            f"denoise is {short(denoise)}: it must be a number from 0 to 1, the share of the tones to remove"
        )
    vocoder.denoise = float(denoise)
    return vocoder


class Vocoder(Sampler):
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
    level_temperatures: factors on the temperature of calls and streams, one for each level of the split (`levels`);
    None: all are 1.
    denoise: how much of the model's constant tones is subtracted in calls and streams, 0 to 1: those that it makes of a
    silent mel, at the same temperature and by the same speaker (docs/tones.md). To measure them, 256 mel frames of
    silence and the receptive field are sampled when they are first needed; more if `system.unit` is not 1.
    """

    def __call__(
        self,
        mel: Any,
        temperature: Temperature | None = None,
        key: Array | None = None,
        chunk: int | None = None,
        speaker: Any = None,
    ) -> Any:
        """Speech [F · hop] for a mel [F, M], [B, F · hop] for [B, F, M], a list of [F · hop] for a list of mels.

        A list of mels may have different lengths; they are sampled one by one. A list of [M] is one mel, of F frames.
        temperature: scale of the noise, or one for each level of the split (`self.levels`); None: `self.temperature`.
        key: of the noise; None: jax.random.key(0). Mel i of several gets jax.random.fold_in(key, i).
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
        temperature: Temperature | None = None,
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
        scale = self._scale(self.temperature if temperature is None else temperature)
        chunk = self.whole(max(16, sum(receptive_field)) if chunk is None else whole_frames(chunk, 1))
        numbers = np.asarray([] if who is None else who, self.dtype)

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
                with self._counting:
                    self.sampled_seconds += piece.shape[1] / self.mel.sample_rate
                yield self._denoised(piece[0], numbers, scale)

        return Stream(audio(), chunk + receptive_field[1] - 1, self.mel.sample_rate / self.mel.hop_length)

    def warm_up(self, lengths: Iterable[int], batch_size: int = 1, chunk: int | None = None) -> float:
        """Compiles what mels of these numbers of frames need, by sampling silence. Returns the seconds that it took.

        Programs are kept in JAX's compilation cache (fwn.load), so the next process takes less.
        """
        start = time.perf_counter()
        for padded in sorted({bucket(whole_frames(frames, 1)) for frames in lengths}):
            silence = [self.silence(padded)] * batch_size
            keys, who = [jax.random.key(0)] * batch_size, [self.speakers.example] * batch_size
            list(self.synthesise(silence, keys, self.temperature, batch_size, chunk=chunk, speakers=who))
        return time.perf_counter() - start
