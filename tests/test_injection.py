"""Names of files, titles, systems and listeners are text in pages, tables and CSV, whatever they hold."""

import csv
import json
import re
from html.parser import HTMLParser

import pytest
import small
from messages.shelf import KEY, PREFERENCE, RATING
from pages import SAMPLES, degraded, write_evaluated

from fwn.audio import audio_file
from fwn.evaluation import report
from fwn.listening.answers import COLUMNS

HOSTILE = [
    "<script>alert(1)<\\script>",
    "\"'><img src=x onerror=alert(1)>",
    "--><svg onload=alert(1)>&lt;b&gt;",
    "${title} $sections {x} %s",
    "=1+1|a\\|b|[x](javascript:alert(1))",
]


class Elements(HTMLParser):
    """The elements of a page, with the names of their attributes, and its text."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, ...]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, *(name for name, _ in attrs)))

    def handle_data(self, data):
        self.text += data


def built(folder, utterances, system, title):
    """The demo page and the test page of clips with these names."""
    pytest.importorskip("matplotlib")
    for name, noise in (("reference", 0.0), ("clips", 0.01)):
        (folder / name).mkdir(parents=True)
        for i, utterance in enumerate(utterances):
            clip = degraded(small.speech(i, SAMPLES), noise)
            audio_file.write(folder / name / f"{utterance}.wav", clip, small.RATE)
    evaluated = write_evaluated(folder / "evaluated")
    results = json.loads((evaluated / "results.json").read_text())
    results["card"]["transcripts"] = dict.fromkeys(results["card"]["transcripts"], title)
    results["card"] |= {"system": system, "trained_on": title}
    (evaluated / "results.json").write_text(json.dumps(results))
    pages = []
    for reference, clips, output in ((folder / "reference", folder / "clips", "a"), (evaluated, f"{evaluated}@1", "b")):
        given = [f"--reference={reference}", f"--systems={system}={clips}", f"--title={title}"]
        result = small.program("fwn.listening", "build", *given, f"--output={folder / output}")
        assert (result.code, result.err) == (0, "")
        pages += [folder / output / name / "index.html" for name in ("demo", "test")]
    return [Elements(page.read_text()) for page in pages]


def test_pages_of_hostile_names_have_the_elements_of_plain_ones(tmp_path):
    plain = built(tmp_path / "plain", ["u0", "u1", "u2", "u3", "u4"], "Flow", "A title")
    for i, name in enumerate(HOSTILE[:3]):
        system = name.replace("=", "").replace("@", "")  # --systems=NAME=FOLDER
        found = built(tmp_path / str(i), [f"{text}" for text in HOSTILE], system, name)
        for page, expected in zip(found, plain, strict=True):
            assert page.found == expected.found
        demo, test = found[:2]
        assert all(text in demo.text for text in (*HOSTILE, system))
        assert name in test.text


def analysed(folder, name):
    """The tables of a test whose title, systems, clips and listener have this name."""
    folder.mkdir()
    clips = {"c0": {"system": name, "utterance": name}, "c1": {"system": "b", "utterance": name}}
    (folder / "key.json").write_text(json.dumps(KEY | {"title": name, "systems": [name, "b"], "clips": clips}))
    rows = [row.split(",") for row in (RATING, RATING.replace("1,mos,c0", "3,mos,c1"), PREFERENCE)]
    with (folder / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *([row[0], name, *row[2:]] for row in rows)])
    result = small.program("fwn.listening", "analyse", folder / "a.csv", f"--output={folder / 'out'}")
    assert (result.code, result.err) == (0, "")
    return (folder / "out" / "table.md").read_text(), json.loads((folder / "out" / "results.json").read_text())


def test_tables_of_hostile_names_have_the_columns_of_plain_ones(tmp_path):
    pytest.importorskip("matplotlib")
    plain, _ = analysed(tmp_path / "plain", "a")
    for i, name in enumerate(HOSTILE):
        table, results = analysed(tmp_path / str(i), name)
        assert "<" not in table
        assert columns(table) == columns(plain)
        assert re.search(r"(?<!\\)\[", table) is None
        assert results["title"] == name
        assert list(results["scores"]) == [name, "b"]


def columns(markdown):
    return [len(re.findall(r"(?<!\\)\|", line)) for line in markdown.splitlines()]


@pytest.mark.parametrize("name", HOSTILE)
def test_reports_of_models_have_text(name):
    """Of fwn.evaluate and fwn.compare, where models are named by their folders."""
    section = report.Section(name, [["model", "metric"], [name, "1.0"]], notes=[f"{name}: not measured"])
    page = report.render([section], markdown=True)
    assert "<" not in page
    assert re.search(r"(?<!\\)\[", page) is None
    assert [n for n in columns(page) if n] == [3, 3, 3]
