"""Reads the CSV files that listeners downloaded from the test page, and checks them against the test's key."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fwn.errors import UserError, short

# The same as in fwn/listening/pages/test.js
COLUMNS = ("test", "listener", "trial", "kind", "clip_a", "clip_b", "answer", "plays", "seconds", "time")
CHOICES = ("a", "same", "b")
KEY = {"test": str, "title": str, "half_steps": bool, "systems": list, "clips": dict, "pairs": list}


class Rating(NamedTuple):
    """A score from 1 to 5; `system` may be the reference or the anchor."""

    listener: str
    system: str
    utterance: str
    score: float


class Preference(NamedTuple):
    """An A/B answer. a, b: the systems behind A and B on the page. preferred: one of them; None for no difference."""

    listener: str
    a: str
    b: str
    utterance: str
    preferred: str | None


class Answers(NamedTuple):
    """All answers. notes: messages about duplicate and unfinished files."""

    ratings: list[Rating]
    preferences: list[Preference]
    notes: list[str]


def read_key(path: str | Path) -> dict[str, Any]:
    """Reads and checks a key.json of fwn.listening build."""
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; name the key.json that fwn.listening build wrote: --key=FOLDER/key.json"
        )
    try:
        key = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a key of fwn.listening build ({error})") from error
    wrong = [name for name, kind in KEY.items() if not isinstance(key, dict) or not isinstance(key.get(name), kind)]
    if wrong:
        raise UserError(f"{path}: not a key of fwn.listening build ({wrong[0]!r} is missing or of another type)")
    return key


def find_key(results: Sequence[str]) -> Path:
    """The key.json in the folder of the first file, or in one of the two folders above it."""
    folder = Path(results[0]).resolve().parent
    for place in (folder, *folder.parents[:2]):
        if (place / "key.json").is_file():
            return place / "key.json"
    raise UserError(f"no key.json in {folder} or above; name the one that fwn.listening build wrote: --key=key.json")


def read(paths: Sequence[str], key: dict[str, Any]) -> Answers:
    """Reads all files. If one listener handed in two, and one continues the other, the longer one is used."""
    notes: list[str] = []
    by_listener: dict[str, tuple[str, list[dict[str, str]]]] = {}
    for path in paths:
        rows = _rows(path, key)
        listener = rows[0]["listener"]
        if listener not in by_listener:
            by_listener[listener] = path, rows
            continue
        other, others = by_listener[listener]
        less, more = sorted((rows, others), key=len)
        if more[: len(less)] != less:
            raise UserError(
                f"{other} and {path}: different answers of the same listener {listener!r}; if these are two people, "
                "rename one in the file, otherwise leave one file out"
            )
        used = path if len(rows) > len(others) else other
        notes.append(f"{listener}: {other} and {path} hold the same answers; only {used} is used")
        by_listener[listener] = used, more
    total = len(key["clips"]) + len(key["pairs"])
    ratings: list[Rating] = []
    preferences: list[Preference] = []
    for listener, (path, rows) in by_listener.items():
        if len(rows) < total:
            notes.append(f"{listener}: unfinished, {len(rows)} of {total} answers, which are used ({path})")
        for row in rows:
            a = key["clips"][row["clip_a"]]
            if row["kind"] == "mos":
                ratings.append(Rating(listener, a["system"], a["utterance"], float(row["answer"])))
                continue
            b = key["clips"][row["clip_b"]]
            preferred = {"a": a["system"], "b": b["system"], "same": None}[row["answer"]]
            preferences.append(Preference(listener, a["system"], b["system"], a["utterance"], preferred))
    return Answers(ratings, preferences, notes)


def _rows(path: str, key: dict[str, Any]) -> list[dict[str, str]]:
    """The checked rows of one listener's file."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; name the CSV files that listeners downloaded")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            header, *lines = list(csv.reader(file, strict=True)) or [[]]
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file of a listening test ({error})") from error
    if tuple(header) != COLUMNS:
        raise UserError(f"{path}: not the results of a listening test: its columns must be {','.join(COLUMNS)}")
    rows = []
    for n, line in enumerate((line for line in lines if line), 2):
        if len(line) != len(COLUMNS):
            raise UserError(f"{path}, line {n}: {len(line)} fields instead of {len(COLUMNS)}")
        rows.append(dict(zip(COLUMNS, line, strict=True)))
    if not rows:
        raise UserError(f"{path}: holds no answers; leave this file out")
    answered = set()
    pairs = {frozenset(pair) for pair in key["pairs"]}
    for n, row in enumerate(rows, 2):
        if row["test"] != key["test"]:
            raise UserError(
                f"{path}: belongs to test {short(row['test'])}, but the key to {short(key['test'])}; analyse each test "
                "with its key"
            )
        if row["listener"] != rows[0]["listener"]:
            raise UserError(f"{path}, line {n}: a second listener {row['listener']!r}; give one file per listener")
        problem = _problem(row, key, pairs)
        trial = (row["kind"], frozenset((row["clip_a"], row["clip_b"])))
        if problem or trial in answered:
            raise UserError(f"{path}, line {n}: {problem or 'answered a second time'}; was the file edited?")
        answered.add(trial)
    return rows


def _problem(row: dict[str, str], key: dict[str, Any], pairs: set[frozenset[str]]) -> str | None:
    """What is wrong with a row, or None."""
    kind, answer = row["kind"], row["answer"]
    if kind not in ("mos", "ab"):
        return f"the kind {kind!r} is neither mos nor ab"
    if kind == "ab" and frozenset((row["clip_a"], row["clip_b"])) not in pairs:
        return f"the key has no pair {row['clip_a']!r}, {row['clip_b']!r}"
    if kind == "mos" and (row["clip_a"] not in key["clips"] or row["clip_b"]):
        return f"the key has no clip {row['clip_a'] + row['clip_b']!r}"
    scores = [f"{steps / 2:g}" for steps in range(2, 11, 1 if key["half_steps"] else 2)]
    allowed = scores if kind == "mos" else CHOICES
    return None if answer in allowed else f"the answer {answer!r} is not one of {', '.join(allowed)}"
