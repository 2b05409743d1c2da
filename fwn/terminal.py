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


def printable(text: str, newlines: bool = True) -> str:
    """The text with control characters as escapes, since names of files may have them: ESC -> \\x1b.

    newlines: keep them.
    """

    def shown(c: str) -> bool:
        return unicodedata.category(c) not in ("Cc", "Cs") or (newlines and c == "\n")

    return "".join(c if shown(c) else ascii(c)[1:-1] for c in text)


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


def marked(text: str) -> str:
    """Text for a Markdown page, in one line: it makes no column of a table, no element and no link."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")


def aligned(lines: Sequence[Sequence[str]], align: str, markdown: bool = False) -> str:
    """A text table of rows of cells, the heading first; `align` has "<" or ">" for each column."""
    if markdown:
        lines = [[marked(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines = [[f"{t:{a}{w}}" for t, a, w in zip(line, align, widths, strict=True)] for line in lines]
    if not markdown:
        return "\n".join("  ".join(line).rstrip() for line in lines)
    rule = ["-" * w if a == "<" else "-" * (w - 1) + ":" for a, w in zip(align, widths, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])
