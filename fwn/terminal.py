"""Output for a terminal or a log: lines, progress with the time left, tables."""

import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
CONTROL = r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]"  # the last: bytes of names that are not UTF-8
ESCAPED, ESCAPED_IN_REPORTS = re.compile(rf"(?!\n  ){CONTROL}"), re.compile(rf"(?!\n){CONTROL}")
_silent = False


def silence() -> None:
    """From now on `say` and `progress` print nothing: for all processes of a run but the first."""
    global _silent
    _silent = True


def say(message: str, newlines: bool = False) -> None:
    """Prints a line (`printable`) on stdout and flushes it; above the progress bar, if there is one."""
    if _silent:
        return
    tqdm.write(printable(message, newlines), file=sys.stdout)
    sys.stdout.flush()


def printable(text: str, newlines: bool = False) -> str:
    """The text with control characters as escapes, since names of files may have them: ESC -> \\x1b.

    Newlines are kept before two spaces, with which the lines of our lists and tables begin. newlines: keep all.
    """
    return (ESCAPED_IN_REPORTS if newlines else ESCAPED).sub(lambda c: ascii(c[0])[1:-1], text)


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
