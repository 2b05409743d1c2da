"""Audio of any length in bounded memory, and while its mel is being made: window by window, without audible seams.

A window is a chunk, the frames whose audio is kept, and the system's receptive field around it
(systems.base.System.receptive_field). The audio of a chunk depends on nothing outside of its window, and noise is drawn
by frame index, so it equals the audio of one pass. Windows do not begin before the utterance, and frames after its end
are masked as in any padded mel, so both ends are those of one pass. All windows have one shape: one compilation.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np

from fwn.xla import memory

Step = Callable[[np.ndarray, np.ndarray, np.int32, np.int32], np.ndarray]
LONGEST = 1024  # frames in a window by default; a tenth of it is the receptive field of the paper's model
SHARE = 0.5  # of the free memory that a window may take


def pieces(
    groups: Iterable[np.ndarray],
    chunk: int,
    receptive_field: tuple[int, int],
    step: Step,
    lengths: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Audio [B, n · hop] of each chunk as early as possible, n = `chunk` frames; the last chunk may be shorter.

    groups: the mel in order, as arrays [B, n, M] with any n. lengths [B]: number of real frames of each example; None:
    all. step: (window [B, F, M], number of its real frames [B], index of its first frame, number of frames before the
    chunk) -> audio [B, chunk · hop] of the chunk, with F = chunk + sum(receptive_field).
    """
    before, after = receptive_field
    held, first, done = None, 0, 0  # frames still needed, index of the first of them, number of frames done
    for group in chain(groups, [None]):
        if group is not None:
            held = group if held is None else np.concatenate([held, group], axis=1)
        fed = 0 if held is None else first + held.shape[1]
        while held is not None and (done + chunk + after <= fed or (group is None and done < fed)):
            end = min(done + chunk + after, fed)  # not more, even if it is here: the grouping must not matter
            mel = np.pad(held[:, : end - first], ((0, 0), (0, before + chunk + after - (end - first)), (0, 0)))
            real = np.full(len(mel), end) if lengths is None else np.minimum(lengths, end)
            audio = step(mel, np.maximum(real - first, 0), np.int32(first), np.int32(done - first))
            yield audio[:, : min(chunk, fed - done) * (audio.shape[1] // chunk)]
            done += chunk
            drop = max(0, done - before - first)
            held, first = held[:, drop:], first + drop


def cut(samples: np.ndarray, first: Any, frames: int, hop: int) -> np.ndarray:
    """[B, T] -> [B, frames · hop], from mel frame `first` on, with zeros after the end."""
    part = samples[:, first * hop : (first + frames) * hop]
    return np.pad(part, ((0, 0), (0, frames * hop - part.shape[1])))


def bucket(frames: int) -> int:
    """The least padded length for a mel of this many frames: 64, 96, 128, 192, 256, 384, …, for few compilations."""
    size = 64
    while size < frames:
        size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
    return size


def window(size: int, receptive_field: tuple[int, int], needs: Callable[[int], int]) -> int:
    """Frames per window for a padded length of `size`: all of them, or what the free memory allows.

    needs: frames -> bytes, proportional. The result is at least twice the receptive field.
    """
    size = min(size, LONGEST)
    fit = size * SHARE * memory.device().free / max(1, needs(size))
    while size > fit:
        size = size * 3 // 4 if size & (size - 1) == 0 else size * 2 // 3
    return max(size, bucket(2 * sum(receptive_field)))


class Stream(Iterator[np.ndarray]):
    """An iterator over audio [n · hop], which ends with the mel frames.

    latency_frames: the audio of a mel frame comes after this many more frames, or at the end of the mel. latency: the
    same in seconds, without the time to compute.
    """

    def __init__(self, audio: Iterator[np.ndarray], latency_frames: int, frames_per_second: float):
        self._audio, self.latency_frames = audio, latency_frames
        self.latency = latency_frames / frames_per_second

    def __next__(self) -> np.ndarray:
        return next(self._audio)
