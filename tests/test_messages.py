"""Every error that a user can cause: its row (tests/messages/) is what happens, no error is without one.

And nothing that was there is changed.
"""

import contextlib
import importlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import small
from messages import Place, Row, matches, sites
from messages.shelf import Shelf

from data_prep import shards
from fwn.errors import UserError

FILES = ["preparing", "recordings", "datasets", "fields", "training", "beginning", "runs", "checkpoints", "sampling"]
FILES += ["mels", "conventions", "converting", "listening", "hearing", "measuring", "speaking", "calls", "scoring"]
FILES += ["serving", "planning"]
ROWS: list[Row] = [row for name in FILES for row in importlib.import_module(f"messages.{name}").ROWS]


@pytest.fixture(scope="module")
def shelf(corpus, run, tmp_path_factory):
    return Shelf(tmp_path_factory.mktemp("shelf"), corpus, run)


def names(row: Row) -> str:
    return f"{row.program if isinstance(row.program, str) else 'call'}: {row.message.partition(chr(10))[0][:70]}"


def contents(folder: Path) -> dict[str, bytes | str]:
    """Of all files, and the targets of links."""
    found = {}
    for path in sorted(folder.rglob("*")):
        what = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else "other"
        found[str(path.relative_to(folder))] = what
    return found


def outcome(row: Row, place: Place) -> tuple[int, str]:
    """(exit code, message) of a row's program or call."""
    if not isinstance(row.program, str):
        try:
            row.program(place)
        except UserError as error:
            return 1, str(error)
        return 0, "no error"
    result = small.program(row.program, *place.arguments(row.args))
    if row.code == 3:
        lines = result.out.splitlines()
        return result.code, next((line for line in lines if matches(place.text(row.message), line)), result.out)
    start = f"python -m {row.program}: "
    whole = result.err.startswith(start) and result.err.endswith("\n")
    return result.code, result.err.removeprefix(start)[:-1] if whole else f"{result}"


@pytest.mark.parametrize("row", ROWS, ids=names)
def test_row(row, shelf, tmp_path, monkeypatch):
    if row.needs:
        pytest.importorskip(row.needs)
    monkeypatch.setattr(shards, "workers", ThreadPoolExecutor)  # which start at once
    monkeypatch.chdir(tmp_path)
    place = Place(tmp_path, shelf)
    made = row.make(place)
    there = shelf.state()
    before = contents(tmp_path)
    manager = isinstance(made, contextlib.AbstractContextManager) and not isinstance(made, Path)
    with made if manager else contextlib.nullcontext():
        code, message = outcome(row, place)
    assert (code, matches(place.text(row.message), message)) == (row.code, True), message
    after = contents(tmp_path)
    new = {name for name in after.keys() - before.keys() if not any(Path(name).match(p) for p in row.creates)}
    assert not new
    assert {name: after.get(name) for name in before} == before
    assert shelf.state().items() >= there.items()


def test_every_error_has_a_row():
    """Each `raise UserError` of the programs gives the message of a row, but for those in sites.WITHOUT."""
    found = sites.without_rows([row.message for row in ROWS])
    assert found == sites.WITHOUT.keys(), sorted(found ^ sites.WITHOUT.keys())
