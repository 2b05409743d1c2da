"""glibc's memory, which programs on the CPU compute in."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # of malloc.h


def keep_memory(platform: str) -> None:
    """Has glibc keep freed memory for the next run of a program for this platform, if that is the CPU.

    A training step of the paper's size asks for 3 GB each time: 900,000 pages of fresh memory are a sixth of its time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if platform != "cpu" or mallopt is None:  # None: macOS, musl
        return
    for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_ARENA_MAX, 1)):
        mallopt(parameter, value)


def give_back_memory() -> None:
    """Has glibc give back all freed memory at once, once what starting a program took is not needed again."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
