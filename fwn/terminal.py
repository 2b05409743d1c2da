"""Words to a person at a terminal, or to a log: progress with the time left, plain lines, tables."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")


def say(message: str) -> None:
    """A plain line on stdout, at once; above a progress bar where there is one."""
    tqdm.write(message, file=sys.stdout)
    sys.stdout.flush()


def progress(items: Iterable[T], what: str, total: int | None = None, every: float = 30.0, **bar: Any) -> Iterator[T]:
    """Yields `items` under a bar with the time left on a terminal; elsewhere a plain line every `every` seconds."""
    if sys.stderr.isatty():
        yield from tqdm(items, desc=what, total=total, leave=False, dynamic_ncols=True, **bar)
        return
    total = total if total is not None else len(items) if isinstance(items, Sized) else None
    start = spoken = time.monotonic()
    for i, item in enumerate(items):
        yield item
        now = time.monotonic()
        if now - spoken >= every:
            spoken = now
            rest = f", {(now - start) / (i + 1) * (total - i - 1):.0f} s left" if total else ""
            say(f"{what}: {i + 1}{f'/{total}' if total else ''}{rest}")


def aligned(lines: Sequence[Sequence[str]], align: str, markdown: bool = False) -> str:
    """Rows of cells, the first the heading -> columns under each other; `align` has a "<" or ">" for each column."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines = [[f"{t:{a}{w}}" for t, a, w in zip(line, align, widths, strict=True)] for line in lines]
    if not markdown:
        return "\n".join("  ".join(line).rstrip() for line in lines)
    rule = ["-" * w if a == "<" else "-" * (w - 1) + ":" for a, w in zip(align, widths, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])
