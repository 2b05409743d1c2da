"""What a server accepts, and how it refuses the rest."""

from typing import NamedTuple

from fwn.errors import UserError
from fwn.terminal import printable


class Limits(NamedTuple):
    """bytes of a body, seconds of audio in a request, requests in the server at one time, seconds for a request."""

    bytes: int
    seconds: float
    queue: int
    timeout: float


class Refused(Exception):
    """A request that gets an error: HTTP status, one line for the user, seconds after which to try again, or None."""

    def __init__(self, status: int, message: str, retry_after: int | None = None):
        super().__init__(message)
        self.status, self.retry_after = status, retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Retry-After, if trying again can help."""
        return {} if self.retry_after is None else {"retry-after": str(self.retry_after)}


def one_line(error: Exception | str) -> str:
    """The first line of a message. Tables of mel contracts follow it."""
    return printable(str(error).partition("\n")[0])


def check_seconds(seconds: float, limits: Limits) -> None:
    """Raises Refused if a request is to have more audio than is allowed."""
    if seconds > limits.seconds:
        raise Refused(
            413,
            f"{seconds:.1f} s of audio; this server takes up to {limits.seconds:g} s in a request: send it in parts",
        )


def check_flags(limits: Limits, lengths: list[int], batch_size: int) -> None:
    """Raises UserError for limits with which no request could be answered."""
    if not lengths or min(lengths) < 1 or max(lengths) > 8192:
        shown = ",".join(map(str, lengths))
        raise UserError(f"--warm_up={shown}: give numbers of mel frames, each from 1 to 8192, as in 128,256,512")
    if not 1 <= batch_size <= 256:
        raise UserError(f"--batch_size={batch_size}: give 1 to 256 requests")
    for name, value in (("max_seconds", limits.seconds), ("timeout", limits.timeout)):
        if not 0 < value <= 86_400:
            raise UserError(f"--{name}={value:g}: give a number of seconds above 0, at most 86400")
