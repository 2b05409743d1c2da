"""Files that a user names: single ones, folders of them, patterns."""

import glob
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from fwn.errors import UserError


def matching(pattern: str, endings: Collection[str], flag: str = "", what: str = "recording") -> list[Path]:
    """The file of this name, or what a pattern fits, or the files of a folder with one of the endings (".wav").

    flag: with which it was given, for messages; what: is in the files. Raises UserError if there is none. A file that
    is named but missing is returned: who reads it says so.
    """
    path = Path(pattern)
    if path.is_dir():
        found = [file for file in path.iterdir() if file.suffix.lower() in endings and file.is_file()]
    else:
        found = [path] if path.exists() else [Path(name) for name in glob.glob(pattern)]
        if not found and not glob.has_magic(pattern):
            return [path]
    if not found:
        raise UserError(f"{flag}{pattern}: {f'no {what} in this folder' if path.is_dir() else 'no such file'}")
    return found


def distinct(outputs: Sequence[tuple[str, Path]], written: str, do: str) -> None:
    """Raises UserError if two files (name of the output, file) would be written to one, NAME + `written`.

    do: what is done with them ("sample them").
    """
    name, count = Counter(name for name, _ in outputs).most_common(1)[0]
    if count > 1:
        same = " and ".join(str(file) for output, file in outputs if output == name)
        raise UserError(f"{same} would all be written to {name}{written}; {do} in separate runs")
