"""The one exception for what a user can cause: programs print it as one line and exit 1, without a traceback."""


class UserError(Exception):
    """Says what was wrong, with the value and the file, and what to do about it."""
