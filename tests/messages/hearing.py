"""Errors of `fwn.listening analyse`."""

import json
from collections.abc import Callable

from fwn.listening.answers import COLUMNS

from . import LISTENING, Place, Row, write
from .shelf import KEY, PREFERENCE, RATING

KEYED = "analyse --key={answered}/key.json "
ANSWERS = KEYED + "{here}/a.csv"
HEAD = ",".join(COLUMNS)


def answers(*rows: str, name: str = "a.csv") -> Callable[[Place], None]:
    return write(name, "\n".join([HEAD, *rows]) + "\n")


def two(place: Place) -> None:
    answers(RATING)(place)
    answers(RATING.replace(",3,", ",4,"), name="b.csv")(place)


def inattentive(place: Place) -> None:
    systems = {"c0": "reference", "c1": "anchor"}
    clips = {clip: {"system": system, "utterance": "u"} for clip, system in systems.items()}
    (place.here / "key.json").write_text(json.dumps(KEY | {"clips": clips}))
    answers(RATING, RATING.replace("1,mos,c0,,3", "2,mos,c1,,4"))(place)


ROWS = [
    Row(LISTENING, "analyse", "analyse: name the CSV files that listeners downloaded: analyse results/*.csv"),
    Row(
        LISTENING,
        "analyse {here}/a.csv",
        "no key.json in {here} or above; name the one that fwn.listening build wrote: --key=key.json",
        answers(RATING),
    ),
    Row(
        LISTENING,
        "analyse --key={here}/none.json {answered}/Ana.csv",
        ("{here}/none.json: no such file; name the key.json that fwn.listening build wrote: --key=FOLDER/key.json"),
    ),
    Row(
        LISTENING,
        "analyse --key={here}/key.json {answered}/Ana.csv",
        "{here}/key.json: not a key of fwn.listening build (Expecting property name enclosed in double "
        "quotes: line 1 column 2 (char 1))",
        write("key.json", "{"),
    ),
    Row(
        LISTENING,
        "analyse --key={here}/key.json {answered}/Ana.csv",
        "{here}/key.json: not a key of fwn.listening build (maximum recursion depth exceeded while "
        "decoding a JSON array from a unicode string)",
        write("key.json", "[" * 100_000),
    ),
    Row(
        LISTENING,
        "analyse --key={here}/key.json {answered}/Ana.csv",
        "{here}/key.json: not a key of fwn.listening build ('test' is missing or of another type)",
        write("key.json", "[1]"),
    ),
    Row(
        LISTENING,
        "analyse --key={here}/key.json {answered}/Ana.csv",
        "{here}/key.json: not a key of fwn.listening build ('half_steps' is missing or of another type)",
        write("key.json", json.dumps(KEY | {"half_steps": "no"})),
    ),
    Row(LISTENING, ANSWERS, "{here}/a.csv: no such file; name the CSV files that listeners downloaded"),
    Row(
        LISTENING,
        ANSWERS,
        "{here}/a.csv: not a CSV file of a listening test ('utf-8' codec can't decode byte 0xff in "
        "position 0: invalid start byte)",
        write("a.csv", b"\xff"),
    ),
    Row(
        LISTENING,
        ANSWERS,
        "{here}/a.csv: not a CSV file of a listening test (unexpected end of data)",
        write("a.csv", 'test,"listener'),
    ),
    Row(
        LISTENING,
        ANSWERS,
        "{here}/a.csv: not the results of a listening test: its columns must be "
        "test,listener,trial,kind,clip_a,clip_b,answer,plays,seconds,time",
        write("a.csv", "test,listener\n"),
    ),
    Row(LISTENING, ANSWERS, "{here}/a.csv: holds no answers; leave this file out", answers()),
    Row(LISTENING, ANSWERS, "{here}/a.csv, line 2: 11 fields instead of 10", answers(RATING + ",more")),
    Row(
        LISTENING,
        ANSWERS,
        "{here}/a.csv: belongs to test 't2', but the key to 't1'; analyse each test with its key",
        answers(RATING.replace("t1", "t2")),
    ),
    Row(
        LISTENING,
        ANSWERS,
        "{here}/a.csv, line 3: a second listener 'Bob'; give one file per listener",
        answers(RATING, PREFERENCE.replace("Ana", "Bob")),
    ),
    Row(
        LISTENING,
        ANSWERS,
        "{here}/a.csv, line 3: answered a second time; was the file edited?",
        answers(RATING, RATING),
    ),
    Row(
        LISTENING,
        ANSWERS,
        "{here}/a.csv, line 2: the kind 'mus' is neither mos nor ab; was the file edited?",
        answers(RATING.replace("mos", "mus")),
    ),
    Row(
        LISTENING,
        ANSWERS,
        "{here}/a.csv, line 2: the key has no clip 'c9'; was the file edited?",
        answers(RATING.replace("c0", "c9")),
    ),
    Row(
        LISTENING,
        ANSWERS,
        "{here}/a.csv, line 2: the key has no pair 'c0', 'c9'; was the file edited?",
        answers(PREFERENCE.replace("c1", "c9")),
    ),
    Row(
        LISTENING,
        ANSWERS,
        "{here}/a.csv, line 2: the answer '3.5' is not one of 1, 2, 3, 4, 5; was the file edited?",
        answers(RATING.replace(",3,", ",3.5,")),
    ),
    Row(
        LISTENING,
        KEYED + "{here}/a.csv {here}/b.csv",
        "{here}/a.csv and {here}/b.csv: different answers of the same listener 'Ana'; if these are two "
        "people, rename one in the file, otherwise leave one file out",
        two,
    ),
    Row(
        LISTENING,
        "analyse {here}/a.csv",
        "no listener is left: Ana rates the hidden anchor (4.00) above the hidden reference (3.00)",
        inattentive,
    ),
]
