"""Audio of any length in bounded memory, and of mels as they come: window by window, with nothing to hear in between.

A window is the frames that are kept, `chunk` of them, and the system's receptive field around them
(systems.base.System.receptive_field):
what is kept is of nothing outside of the window, and noise is drawn by the index of a frame, so it is the audio of one
pass over all. Windows do not begin before the utterance does, and what lies behind its end is masked as in any padded
mel, so that both ends are seen as by the whole pass. All windows have one shape: one compilation.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

import jax
import numpy as np

Step = Callable[[np.ndarray, np.ndarray, np.int32, np.int32], np.ndarray]
LONGEST = 1024  # frames of a window that is not asked for: of the paper's model a tenth of it is receptive field
SHARE = 0.5  # of the free memory is what a window may take


def pieces(
    lumps: Iterable[np.ndarray],
    chunk: int,
    receptive_field: tuple[int, int],
    step: Step,
    lengths: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Audio [B, n · hop] for each next n = `chunk` frames of mel as soon as it can be, and for what is left at the end.

    lumps: the mel in order, [B, n, M] of any n. lengths [B]: how many frames of each example are real; None: all.
    step: (window [B, F, M], how many of its frames are real [B], the index of its first frame, how many frames come
    before the kept ones) -> audio [B, chunk · hop] of the kept ones; F = chunk + sum(receptive_field).
    """
    before, after = receptive_field
    held, first, done = None, 0, 0  # frames that are still needed, from the index `first` on; how many are done
    for lump in chain(lumps, [None]):
        if lump is not None:
            held = lump if held is None else np.concatenate([held, lump], axis=1)
        fed = 0 if held is None else first + held.shape[1]
        while held is not None and (done + chunk + after <= fed or (lump is None and done < fed)):
            end = min(done + chunk + after, fed)  # never more, even if it is here: nothing depends on the lumps
            mel = np.pad(held[:, : end - first], ((0, 0), (0, before + chunk + after - (end - first)), (0, 0)))
            real = np.full(len(mel), end) if lengths is None else np.minimum(lengths, end)
            audio = step(mel, np.maximum(real - first, 0), np.int32(first), np.int32(done - first))
            yield audio[:, : min(chunk, fed - done) * (audio.shape[1] // chunk)]
            done += chunk
            drop = max(0, done - before - first)
            held, first = held[:, drop:], first + drop


def bucket(frames: int) -> int:
    """The padded length for a mel of so many frames: 64, 96, 128, 192, 256, 384, …: a handful of compilations."""
    size = 64
    while size < frames:
        size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
    return size


def window(size: int, receptive_field: tuple[int, int], needs: Callable[[int], int]) -> int:
    """How many frames to compute at a time, of a padded length of `size`: all of it, or what the free memory is for.

    needs: frames -> bytes, in proportion. Not less than twice the receptive field.
    """
    size = min(size, LONGEST)
    fit = size * SHARE * free_memory() / max(1, needs(size))
    while size > fit:
        size = size * 3 // 4 if size & (size - 1) == 0 else size * 2 // 3
    return max(size, bucket(2 * sum(receptive_field)))


class Stream(Iterator[np.ndarray]):
    """Audio [n · hop] of mel frames as they come; `for audio in stream` ends with the mels.

    latency_frames: so many frames after a frame of mel, its audio has come, or at the end of all if that is before.
    latency: the same in seconds. The time to compute is not in it.
    """

    def __init__(self, audio: Iterator[np.ndarray], latency_frames: int, frames_per_second: float):
        self._audio, self.latency_frames = audio, latency_frames
        self.latency = latency_frames / frames_per_second

    def __next__(self) -> np.ndarray:
        return next(self._audio)


def free_memory() -> int:
    """Bytes that are free: of the device that computes, where it says so, else of this machine or container."""
    stats = jax.local_devices()[0].memory_stats()
    if stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    known = Path("/proc/meminfo")
    if not known.exists():  # no Linux: all that there is
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = _numbers(known)["MemAvailable:"] * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.stat")  # of a container, cgroup v2
    if limit.exists() and (most := limit.read_text().strip()) != "max":
        free = min(free, int(most) - _numbers(used)["anon"])
    return free


def _numbers(file: Path) -> dict[str, int]:
    """Lines "name number …" of a file of the kernel's."""
    return {words[0]: int(words[1]) for line in file.read_text().splitlines() if len(words := line.split()) > 1}
