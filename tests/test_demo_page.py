"""The demo page of fwn.listening: transcripts, copies in order, measured and published figures, the model."""

import html
import json
import re

import pytest
import small
from pages import SENTENCE, build


def test_figures_stand_above_the_published(demo):
    rows = re.findall('<tr.*?<th scope="row">(.*?)<small>(.*?)</small>(.*)</tr>', demo)
    assert [row[:2] for row in rows] == [
        ("Flow, T = 0.6", "2 held-out clips"),
        ("Flow, T = 1.0", "2 held-out clips"),
        ("Published: FloWaveNet (T = 0.8)", "5 other clips"),
    ]
    cells = [re.findall("<td>(.*?)</td>", row[2]) for row in rows]
    assert cells[2] == ["0.338", "1.148", "3.41", "0.973", "2.45", "−0.83"]
    assert [row[2] for row in cells[:2]] == ["not measured"] * 2
    assert cells[0][3].startswith("0.973<small>± 0.000")
    assert cells[1][5].startswith("0.84<")
    assert len(re.findall('<th scope="col">', demo)) == 6
    assert "before all clips were set to one level" in demo


def test_the_page_says_what_the_model_is(demo):
    assert dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", html.unescape(demo))) == {
        "Model": "flowavenet, 1,234,567 parameters",
        "Trained": "1,500 steps in 1 min 15 s, on data set “lj”",
        "Checkpoint": "step 1,200",
        "Measured on": "2 of the 2 clips (0.8 s) held out of data set “lj”; its training part is 11 clips (1 min 00 s)",
        "Likelihood": "4.5000 ± 0.0000 nats/sample, with uniform dequantisation noise of one 16-bit step",
        "Mel": "flowavenet (a13bd5d9b250)",
        "Measured by": "fwn 0.1.0, commit 0123456789ab, jax 0.10.2 on cpu, seed 3",
    }
    assert re.findall('class="soft">(Held.*?)</p>', demo) == [
        "Held out; the training part has 7 clips of its chapter, LJ001.",
        "Held out; the training part has 1 clip of its chapter, LJ001.",
    ]
    assert "/data" not in demo  # no absolute path


def test_a_clip_is_titled_by_its_transcript(demo, tmp_path):
    """The file name follows in small type; without a transcript it is the title. HTML is escaped."""
    assert re.findall("<section><h2>(.*?)</h2>", demo) == [
        f"{html.escape(SENTENCE)} <small>book/LJ001-0001</small>",
        "book/LJ001-0002",
    ]
    assert "<i>" not in demo
    page = tmp_path / "out" / "test"
    text = " ".join(file.read_text() for file in page.iterdir() if file.is_file())
    for word in ("Fust", "LJ001"):  # the blind test shows neither
        assert word in demo
        assert word not in text


def test_results_without_transcripts_show_file_names(evaluated, tmp_path):
    """Older versions of fwn.evaluate wrote no transcripts."""
    pytest.importorskip("matplotlib")
    results = json.loads((evaluated / "results.json").read_text())
    del results["card"]["transcripts"]
    (evaluated / "results.json").write_text(json.dumps(results))
    result = small.program("fwn.listening", "build", f"--systems=Flow={evaluated}@1", f"--output={tmp_path / 'out'}")
    assert (result.code, result.err) == (0, "")
    page = (tmp_path / "out" / "demo" / "index.html").read_text()
    assert re.findall("<section><h2>(.*?)</h2>", page) == ["book/LJ001-0001", "book/LJ001-0002"]


def test_a_page_of_folders_has_no_figures(folders, tmp_path):
    assert build(folders, tmp_path / "out").code == 0
    page = (tmp_path / "out" / "demo" / "index.html").read_text()
    assert "<table" not in page
    assert "Held out" not in page
