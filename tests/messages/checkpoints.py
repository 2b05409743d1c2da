"""Errors of checkpoints, damaged or missing."""

from collections.abc import Callable
from pathlib import Path

from . import SAMPLE, TRAIN, Place, Row
from .runs import READ, edited

TRAINED = "{flags} --workdir={here}/run"


def cut(name: str) -> Callable[[Place], None]:
    """The largest file of that name, without its second half."""

    def make(place: Place) -> None:
        files = [path for path in place.copy("run").rglob(name) if path.is_file()]
        file: Path = max(files, key=lambda path: path.stat().st_size)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    return make


def replaced(name: str) -> Callable[[Place], None]:
    """A run of which a file has other contents."""
    return lambda place: (place.copy("run") / name).write_text("{") and None


def empty(place: Place) -> None:
    for file in sorted((place.copy("run") / "checkpoints").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()


def none(place: Place) -> None:
    empty(place)
    (place.here / "run" / "checkpoints").rmdir()


ROWS = [
    Row(SAMPLE, READ, "{here}/run: no checkpoint in it; train for longer, or give another folder", none),
    Row(SAMPLE, READ, "{here}/run: no complete checkpoint in it; train for longer, or give another folder", empty),
    Row(
        SAMPLE,
        READ,
        "{here}/run/checkpoints/8/_CHECKPOINT_METADATA: damaged (JSONDecodeError('Expecting property "
        "name enclosed in double quotes: line 1 column 2 (char 1)')); restore it, or delete all of "
        "{here}/run/checkpoints/8",
        replaced("checkpoints/8/_CHECKPOINT_METADATA"),
    ),
    Row(
        SAMPLE,
        READ,
        (
            "{here}/run/checkpoints/8/metrics/metrics: damaged (JSONDecodeError(\"Expecting ',' delimiter: "
            'line 1 column 15 (char 14)")); restore it, or delete all of {here}/run/checkpoints/8'
        ),
        cut("metrics"),
    ),
    Row(
        SAMPLE,
        READ,
        "{here}/run/checkpoints/8/_CHECKPOINT_METADATA: damaged (AttributeError(\"'list' object has no "
        "attribute 'get'\")); restore it, or delete all of {here}/run/checkpoints/8",
        edited("checkpoints/8/_CHECKPOINT_METADATA", lambda c: c.update(custom_metadata=[1])),
    ),
    Row(
        SAMPLE,
        READ + " --step=8",
        "{here}/run/checkpoints/8: its mel contract is '0123456789ab', that of {here}/run/config.json is "
        "flowavenet (a13bd5d9b250); restore the file that was changed",
        edited("checkpoints/8/_CHECKPOINT_METADATA", lambda c: c["custom_metadata"].update(mel_hash="0123456789ab")),
    ),
    Row(
        SAMPLE,
        READ + " --step=8",
        (
            "{here}/run/checkpoints/8: the checkpoint is damaged or incomplete (OUT_OF_RANGE: Error reading "
            '<reason> in OCDBT database at local file "{here}/run/checkpoints/8/params/": Requested byte range '
            "[<number>, <number>) is not valid for value of size <number>); restore it or train again"
        ),
        cut("checkpoints/8/params/**/d/*"),
    ),
    Row(
        TRAIN,
        TRAINED,
        "{here}/run/checkpoints/8: the checkpoint is damaged or incomplete (Encountered error while "
        "reading array index: (slice(0, 3, 1), slice(0, 80, 1), slice(0, 8, 1))); "
        "restore it, or delete it to begin again",
        cut("checkpoints/8/params/**/d/*"),
    ),
]
