"""What an examination yields: facts, which are lines of text, and findings, which have a severity and a remedy."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fwn.errors import UserError

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = ERROR, WARNING, NOTE  # the worst first
SHOWN = 4  # names in a finding; the others are counted


class Finding(NamedTuple):
    """severity: one of SEVERITIES. what: what was found, in one line. remedy: what to do about it, in one line."""

    severity: str
    what: str
    remedy: str


Examination = Iterator[str | Finding]


def damage(error: UserError, remedy: str) -> Finding:
    """An error of reading as a finding. Its own remedy is what follows its last semicolon; `remedy` if it has none."""
    line, *_ = str(error).splitlines() or [""]  # tables may follow
    what, _, own = line.rpartition("; ")
    return Finding(ERROR, what or own, own if what else remedy)


def guarded(examination: Examination, what: str | Path) -> Examination:
    """The same facts and findings. If the examination fails, that is the last finding."""
    try:
        yield from examination
    except UserError as error:
        yield damage(error, f"restore {what}, or make it again")
    except Exception as error:  # the doctor goes on with the rest, whatever the patient did
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        yield Finding(
            ERROR,
            f"{what}: could not be examined further ({reason})",
            "check that its files belong together, and restore it or make it again",
        )


def named(names: Sequence[str]) -> str:
    """The first SHOWN names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def ordered(findings: Sequence[Finding]) -> list[Finding]:
    """The worst first; equal ones in their order."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def size(count: float) -> str:
    """A number of bytes, as 1.5 GiB or 20 MiB."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
