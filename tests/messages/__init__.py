"""Every error that a user can cause: program, arguments, input, exact message and exit code, a row each.

tests/test_messages.py runs the rows, and checks that no error of the programs is without one.
"""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import small

from fwn.mel import PRESETS, difference

from .shelf import Shelf

PREPARE, SPEAK = "data_prep.prepare", "data_prep.speak"
TRAIN, SAMPLE, EVALUATE, COMPARE = "fwn.train", "fwn.sample", "fwn.evaluate", "fwn.compare"
CONVERT, EXPORT, BENCH, LISTENING = "fwn.convert", "fwn.export", "fwn.bench", "fwn.listening"
DOCTOR, SCORE, SERVE, PLAN = "fwn.doctor", "fwn.score", "fwn.serve", "fwn.plan"


class Place(NamedTuple):
    """Where a row is run: its own empty folder, and folders that it may read."""

    here: Path
    shelf: Shelf

    def copy(self, *names: str) -> Path:
        """Copies of the shelf's folders, to damage. Returns the last."""
        for name in names:
            self.shelf.copy(name, self.here / name)
        return self.here / names[-1]

    def arguments(self, template: str) -> list[str]:
        """Of a command, as a shell splits them."""
        return shlex.split(self.text(template))

    def text(self, template: str) -> str:
        """The template, where {here} is the folder, and {name} one of the shelf's."""

        def path(match: re.Match[str]) -> str:
            name = match[1]
            if name == "flags":
                return shlex.join(small.config_flags(self.shelf["corpus"]))
            return str(self.here if name == "here" else self.shelf[name]) if self.shelf.knows(name) else match[0]

        return re.sub(r"\{(\w+)\}", path, template)


def nothing(_: Place) -> None:
    """No input."""


class Row(NamedTuple):
    """An error.

    program: the module that is run, or a call of the Python API. args: as in a shell. message: what it says;
    <number>, <hash> and <reason> (a library's) stand for what differs from run to run. make: writes the input; what
    it returns is entered, if it is a context manager. code: of the exit; with 3 the message is a line of stdout.
    creates: what may be there afterwards, paths in the folder. needs: a package.
    """

    program: str | Callable[[Place], Any]
    args: str
    message: str
    make: Callable[[Place], Any] = nothing
    code: int = 1
    creates: tuple[str, ...] = ()
    needs: str = ""


HOLES = {"<number>": r"-?[\d.,]+(?:e[-+]?\d+)?", "<hash>": "[0-9a-f]+", "<reason>": ".+"}


def matches(expected: str, found: str) -> bool:
    """Whether a message is the expected one."""
    pattern = re.escape(expected)
    for hole, values in HOLES.items():
        pattern = pattern.replace(re.escape(hole), values)
    return re.fullmatch(pattern, found) is not None


def table(one: str, other: str) -> str:
    """The table of two mel contracts that errors show."""
    return difference(PRESETS[one], PRESETS[other])


def write(name: str, content: str | bytes) -> Callable[[Place], None]:
    """Writes a file into the folder."""

    def make(place: Place) -> None:
        file = place.here / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())

    return make
