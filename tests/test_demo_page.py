"""The demo page of fwn.listening: all copies in order, the measured figures beside the published, what the model is."""

import html
import math
import re

import pytest
from pages import BETTER, build

from fwn.listening import demo_page


def test_figures_stand_above_the_published(demo):
    rows = re.findall('<tr.*?<th scope="row">(.*?)<small>(.*?)</small>(.*)</tr>', demo)
    assert [row[:2] for row in rows] == [
        ("Flow, T = 0.6", "2 held-out clips"),
        ("Flow, T = 1.0", "2 held-out clips"),
        ("Published: FloWaveNet (T = 0.8)", "5 other clips"),
    ]
    cells = [re.findall("<td>(.*?)</td>", row[2]) for row in rows]
    assert cells[2] == ["0.338", "1.148", "3.41", "0.973", "2.45", "−0.83"]
    assert [[("✓" in cell) for cell in row] for row in cells[:2]] == list(BETTER.values())
    assert [row[2] for row in cells[:2]] == ["not measured"] * 2
    assert cells[0][3].startswith("0.973<small>± 0.000")
    assert cells[1][5].startswith("0.84<")
    assert len(re.findall('<th scope="col">', demo)) == 6
    assert "before all were set to one level" in demo


def test_the_page_says_what_the_model_is(demo):
    assert dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", html.unescape(demo))) == {
        "Model": "flowavenet, 1,234,567 parameters",
        "Trained": "1,500 steps in 1 min 15 s, on data set “lj”",
        "Checkpoint": "of step 1,200",
        "Measured on": "2 of the 2 clips (0.8 s) held out of data set “lj”; its training part is 11 clips (1 min 00 s)",
        "Likelihood": "4.5000 ± 0.0000 nats/sample, with uniform noise of one 16-bit step",
        "Mel": "flowavenet (a13bd5d9b250)",
        "Measured by": "fwn 0.1.0, commit 0123456789ab, jax 0.10.2 on cpu, noise of seed 3",
    }
    assert re.findall('class="soft">(Held.*?)</p>', demo) == [
        "Held out; the training part has 7 clips of its chapter, LJ001.",
        "Held out; the training part has 1 clip of its chapter, LJ001.",
    ]
    assert "/data" not in demo  # no path of the machine that it was measured on


def test_a_page_of_folders_has_no_figures(folders, tmp_path):
    assert build(folders, tmp_path / "out").code == 0
    page = (tmp_path / "out" / "demo" / "index.html").read_text()
    assert "<table" not in page
    assert "Held out" not in page


@pytest.mark.parametrize(
    ("name", "value", "than", "better"),
    [
        ("log_mel_l1", 0.3374, 0.338, True),
        ("log_mel_l1", 0.3376, 0.338, False),  # 0.338 as it is written
        ("stoi", 0.974, 0.973, True),
        ("stoi", 0.97, 0.973, False),
        ("level_ratio_db", 0.5, -0.83, True),
        ("level_ratio_db", 0.83, -0.83, False),
        ("level_ratio_db", -2.0, -0.83, False),
        ("line_noise", math.nan, 2.45, False),
    ],
)
def test_better_is_as_the_metric_says(name, value, than, better):
    assert demo_page.is_better(name, value, than) == better
