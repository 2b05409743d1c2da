"""Atomic writes, file locks and checksums."""

import contextlib
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from fwn.errors import UserError, short


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file that replaces `path` when the block succeeds. After an error or kill -9, `path` is unchanged."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if error.errno is None:  # a library's
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text file atomically."""
    with atomic(path) as file:
        file.write(text.encode())


@contextlib.contextmanager
def filled(path: Path, otherwise: str) -> Iterator[Path]:
    """A folder to write into, of which all comes to `path` when the block succeeds, one by one in order of names.

    After an error in the block `path` is as before. After kill -9, or ctrl-C while all comes to `path`, it has only
    what is whole and the folder .unfinished, and the next call starts anew. Raises UserError(otherwise) if `path` is a
    file or holds anything else, and UserError if another process is writing there.
    """
    unfinished = path / ".unfinished"
    if path.exists() and not unfinished.is_dir() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(otherwise)
    created = [folder for folder in (unfinished, path) if not folder.exists()]
    try:
        unfinished.mkdir(parents=True, exist_ok=True)
        alone = os.open(unfinished, os.O_RDONLY)
    except OSError:
        _remove(created)
        raise
    try:
        with contextlib.suppress(OSError):  # of a file system without locks
            _lock(alone, f"{path}: another process is writing there; wait for it, or name another folder")
        if not unfinished.is_dir():  # it has just finished
            raise UserError(otherwise)
        try:
            _empty(unfinished)  # it stays: without it, `path` would be taken for another's folder after the next kill
            yield unfinished
        except BaseException:
            with contextlib.suppress(OSError):
                _empty(unfinished)
            _remove(created)
            raise
        for entry in sorted(unfinished.iterdir()):
            if (there := path / entry.name).is_dir():  # moved before the kill
                shutil.rmtree(there)
            entry.replace(there)
        unfinished.rmdir()
    finally:
        os.close(alone)


def _remove(folders: list[Path]) -> None:
    """Removes those that are there and empty."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


@contextlib.contextmanager
def locked(file: Path, otherwise: str) -> Iterator[None]:
    """Creates and locks `file`, and its folder if missing. Raises UserError(otherwise) if another process holds it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        _lock(lock.fileno(), otherwise)
        yield


def _lock(file: int, otherwise: str) -> None:
    """Raises UserError(otherwise) if another process holds the lock of an open file or folder."""
    import fcntl  # not on Windows, where this can be imported but not run: fwn.posix

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(otherwise) from error


def sealed(values: dict[str, Any]) -> dict[str, Any]:
    """Values of a JSON file with their checksum, which `check_seal` compares."""
    return values | {"checksum": _checksum(values)}


def check_seal(values: Mapping[str, Any], file: Path) -> None:
    """Raises UserError if values that were read are not those that were sealed. Version 0.1 had no checksums."""
    if (stated := values.get("checksum")) is not None and stated != _checksum(values):
        raise UserError(
            f"{file}: damaged (its checksum is {_checksum(values)}, {short(stated)} was saved); restore it, or, if you "
            'changed it on purpose, delete its entry "checksum"'
        )


def _checksum(values: Mapping[str, Any]) -> str:
    content = {name: value for name, value in values.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def crc32(pieces: Iterable[bytes]) -> str:
    """CRC-32 of the pieces together, in hexadecimal."""
    value = 0
    for piece in pieces:
        value = zlib.crc32(piece, value)
    return f"{value:08x}"


def file_crc32(path: Path) -> str:
    """CRC-32 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return crc32(iter(lambda: file.read(1 << 20), b""))
