"""The exception for errors that a user can cause: programs print it as one line and exit with 1, no traceback."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Its message says what was wrong, with the value and the file, and what to do."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """ "; did you mean 'x'?" with the valid name most like a mistyped one; "" if none is similar."""
    near = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.3)
    return f"; did you mean {near[0]!r}?" if near else ""


def short(value: object) -> str:
    """How a value is shown in a message: its first 200 characters, in one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 200 else f"{text[:200]}…"
