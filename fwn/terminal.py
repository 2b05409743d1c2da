"""Output for a terminal or a log: lines, progress with the time left, tables."""

import sys
import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
_silent = False


def silence() -> None:
    """From now on `say` and `progress` print nothing: for all processes of a run but the first."""
    global _silent
    _silent = True


def say(message: str) -> None:
    """Prints a line on stdout and flushes it; above the progress bar, if there is one."""
    if _silent:
        return
    tqdm.write(printable(message), file=sys.stdout)
    sys.stdout.flush()


def printable(text: str) -> str:
    """The text with control characters but newlines as escapes, since names of files may have them: ESC -> \\x1b."""
    return "".join(c if c == "\n" or unicodedata.category(c) not in ("Cc", "Cs") else ascii(c)[1:-1] for c in text)


def progress(items: Iterable[T], what: str, total: int | None = None, every: float = 30.0, **bar: Any) -> Iterator[T]:
    """Yields `items` with a progress bar on a terminal; elsewhere prints a line with the time left every `every` s."""
    if sys.stderr.isatty() and not _silent:
        yield from tqdm(items, desc=what, total=total, leave=False, dynamic_ncols=True, **bar)
        return
    total = total if total is not None else len(items) if isinstance(items, Sized) else None
    start = last = time.monotonic()
    for i, item in enumerate(items):
        yield item
        now = time.monotonic()
        if now - last >= every:
            last = now
            left = f", {(now - start) / (i + 1) * (total - i - 1):.0f} s left" if total else ""
            say(f"{what}: {i + 1}{f'/{total}' if total else ''}{left}")


def aligned(lines: Sequence[Sequence[str]], align: str, markdown: bool = False) -> str:
    """A text table of rows of cells, the heading first; `align` has "<" or ">" for each column."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines = [[f"{t:{a}{w}}" for t, a, w in zip(line, align, widths, strict=True)] for line in lines]
    if not markdown:
        return "\n".join("  ".join(line).rstrip() for line in lines)
    rule = ["-" * w if a == "<" else "-" * (w - 1) + ":" for a, w in zip(align, widths, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])
