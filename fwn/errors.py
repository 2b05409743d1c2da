"""The one exception for what a user can cause: programs print it as one line and exit 1, without a traceback."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Says what was wrong, with the value and the file, and what to do about it."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """The end of a sentence about a mistyped name: the valid one nearest to it, if any is near."""
    near = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.3)
    return f"; did you mean {near[0]!r}?" if near else ""
