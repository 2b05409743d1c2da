"""The listening test in a real Chromium, opened from the disk, operated by keyboard and by touch."""

import csv
import json

import pytest
import small
from browser import Browser, find
from pages import build

from fwn.listening.answers import COLUMNS

SHOWN = "document.querySelector('section:not([hidden])').id"


@pytest.fixture
def page(tmp_path):
    with Browser(tmp_path / "browser") as opened:
        yield opened
        assert opened.messages == []
        assert not [url for url in opened.requests if url.startswith(("http:", "https:", "ws:"))]


@pytest.fixture
def root(folders, tmp_path):
    """A test of one utterance: four clips, then one pair."""
    find()
    assert build(folders, tmp_path / "mos", "--utterances=1", "--title=Which voice?").code == 0
    return tmp_path / "mos"


def start(page, root, name="Ana, B."):
    page.open(root / "test" / "index.html")
    assert page.js(SHOWN) == "start"
    page.click("#listener")
    for letter in name:
        page.press(letter)
    page.press("Enter")
    page.until(f"{SHOWN} === 'trial'")


def answer(page, key):
    """Plays all clips of the trial to the end, answers and goes to the next trial, by keyboard."""
    number = page.js("state.answers.length")
    for _ in range(page.js("current.players.length")):
        unheard = page.js("current.players.filter((p) => !p.heard).length")
        page.press(" ")
        page.until(f"current.players.filter((p) => !p.heard).length < {unheard}")
    page.press(key)
    page.press("Enter")
    page.until(f"state.answers.length === {number + 1}")


def rate_by_system(page, key, scores):
    """Rates each clip with the score of its system."""
    while page.js("state.answers.length < TEST.mos.length"):
        clip = page.js("trials[state.answers.length].clips[0]")
        answer(page, scores[key["clips"][clip]["system"]])


def test_answer_reload_download_analyse(page, root):
    key = json.loads((root / "key.json").read_text())
    start(page, root)
    scores = {"reference": "5", "Alpha": "4", "Beta flow": "3", "anchor": "2"}
    first = page.js("trials[0].clips[0]")
    answer(page, scores[key["clips"][first]["system"]])
    order = page.js("trials")
    page.open(root / "test" / "index.html")  # as after closing the tab
    assert page.js(SHOWN) == "trial"
    assert "Welcome back, Ana, B." in page.js("document.querySelector('#status').textContent")
    assert page.js("trials") == order
    assert page.js("document.querySelector('#position').textContent") == "2 of 5"
    assert page.js("document.querySelector('#progress').value") == 1
    page.click("#sofar")
    name = f"{key['test']}.Ana_B_.csv"
    page.downloaded(name).rename(root / "early.csv")
    rate_by_system(page, key, scores)
    assert page.js(SHOWN) == "between"
    page.press("Tab")
    page.press("Enter")
    page.until(f"{SHOWN} === 'trial'")
    alpha_is = "AB"[[key["clips"][c]["system"] for c in page.js("trials[4].clips")].index("Alpha")]
    answer(page, "1" if alpha_is == "A" else "3")
    page.until(f"{SHOWN} === 'done'")
    page.click("#download")
    lines = list(csv.reader(page.downloaded(name).read_text(encoding="utf-8").splitlines()))
    assert tuple(lines[0]) == COLUMNS
    assert [line[:4] for line in lines[1:]] == [
        [key["test"], "Ana, B.", str(n), "mos" if n < 5 else "ab"] for n in range(1, 6)
    ]
    result = small.program(
        "fwn.listening",
        "analyse",
        str(page.downloads / name),
        str(root / "early.csv"),
        f"--key={root / 'key.json'}",
        f"--output={root / 'analysis'}",
    )
    assert (result.code, result.err) == (0, "")
    assert "hold the same answers" in result.out
    found = json.loads((root / "analysis" / "results.json").read_text())
    assert {s: score["mos"]["mean"] for s, score in found["scores"].items()} == {s: int(v) for s, v in scores.items()}
    assert [(p["a"], p["b"], p["prefer_a"]) for p in found["preferences"]] == [("Alpha", "Beta flow", 1)]


def test_a_name_is_neither_a_formula_nor_html(page, root):
    """In the file a spreadsheet would compute it, on the page a browser would run it."""
    name = '=HYPERLINK("http://x","<img src=x onerror=alert(1)>")'
    key = json.loads((root / "key.json").read_text())
    start(page, root, name)
    answer(page, "3")
    page.open(root / "test" / "index.html")
    assert f"Welcome back, {name}:" in page.js("document.querySelector('#status').textContent")
    assert page.js("document.querySelectorAll('img').length") == 0
    page.click("#sofar")
    file = page.downloaded(page.js("fileName()"))
    (line,) = list(csv.reader(file.read_text(encoding="utf-8").splitlines()))[1:]
    assert line[:2] == [key["test"], f"'{name}"]
    result = small.program(
        "fwn.listening", "analyse", str(file), f"--key={root / 'key.json'}", f"--output={root / 'analysis'}"
    )
    assert result.code == 0, result


def test_resumes_after_the_browser_was_closed(root, tmp_path):
    with Browser(tmp_path / "browser") as page:
        start(page, root, "Ümit")
        answer(page, "2")
        kept = page.js("state")
    with Browser(tmp_path / "browser") as page:
        page.open(root / "test" / "index.html")
        assert page.js(SHOWN) == "trial"
        assert page.js("state") == kept
        assert kept["listener"] == "Ümit"


def test_no_answer_before_the_clip_was_heard(page, root):
    start(page, root)
    page.press("4")
    page.press("Enter")
    assert page.js("state.answers.length") == 0
    assert page.js("document.querySelector('#status').textContent") == "Listen to the whole clip first."
    answer(page, "4")
    assert page.js("state.answers[0][6]") == "4"
    assert page.js("document.querySelector('#unkept').hidden")
    page.js("Storage.prototype.setItem = () => { throw new Error('no storage'); }")
    answer(page, "5")
    assert not page.js("document.querySelector('#unkept').hidden")


def test_by_touch_on_a_phone(page, root):
    """Nothing is wider than the screen, targets are large, and no keyboard is needed."""
    page.size(360, 640)
    small_targets = (
        "[...document.querySelectorAll('button, label, input[type=text]')].map((e) => [e, e.getBoundingClientRect()])"
        ".filter(([e, r]) => r.width && (r.height < 44 || r.width < 44)).map(([e]) => e.outerHTML)"
    )
    fits = "document.documentElement.scrollWidth <= innerWidth"
    start(page, root)
    for _ in range(4):
        assert page.js(fits)
        assert page.js(small_targets) == []
        page.click("#players button")
        page.until("!document.querySelector('#scale').disabled")
        page.click(".choice:nth-child(2)")
        page.click("#next")
    assert page.js("state.answers.map((row) => row[6])") == ["2"] * 4
    page.click("#on")
    assert page.js(fits)
    assert page.js(small_targets) == []
    page.open(root / "demo" / "index.html")
    assert page.js(fits)


def test_with_a_screen_reader(page, root):
    """All controls have a name, the question has the focus, the scale is a named group."""
    page.send("Accessibility.enable")

    def nodes():
        found = page.send("Accessibility.getFullAXTree")["nodes"]
        return [(n["role"]["value"], n["name"]["value"]) for n in found if not n["ignored"] and "name" in n]

    operable = ("button", "radio", "textbox", "progressbar", "image", "Audio", "combobox")
    page.open(root / "test" / "index.html")
    assert ("textbox", "Your name, or the code that you were given") in nodes()
    start(page, root)
    assert page.js("document.activeElement.id") == "question"
    tree = nodes()
    assert all(name for role, name in tree if role in operable)
    assert ("group", "Quality of the speech") in tree
    assert [name for role, name in tree if role == "radio"] == ["1 Bad", "2 Poor", "3 Fair", "4 Good", "5 Excellent"]
    assert [name.strip() for role, name in tree if role == "button"] == ["Play not yet heard", "Next"]
    assert page.js("document.querySelector('#position').getAttribute('aria-live')") == "polite"
    answer(page, "3")
    assert page.js("document.activeElement.id") == "question"
    page.open(root / "demo" / "index.html")
    tree = nodes()
    assert all(name for role, name in tree if role in operable)
    assert ("image", "Spectrogram: u00, Alpha") in tree


ROLES = ("columnheader", "rowheader", "region", "Audio", "image", "link")
BESIDE = "[...document.querySelectorAll('.grid')].map((g) => new Set([...g.children].map((e) => e.offsetTop)).size)"
SCROLL = "document.querySelector('.scroll')"


def test_the_demo_page_with_figures(page, demo, tmp_path):
    """At several widths, by keyboard and with a screen reader; one clip plays at a time."""
    file = tmp_path / "out" / "demo" / "index.html"
    for width, rows in ((1280, 1), (420, 4), (360, 4)):
        page.size(width, 740)
        page.open(file)
        assert page.js(BESIDE) == [rows] * 2  # the recording, two temperatures, the other system
        assert page.js("document.documentElement.scrollWidth <= innerWidth")
        assert page.js(
            "Math.min(...players.map((p) => p.clientWidth)) >= Math.min(250, 0.8 * innerWidth)"
        )  # seek bar, volume
    page.js(f"{SCROLL}.focus()")  # on a phone the table scrolls, also by keyboard
    assert page.js(f"{SCROLL}.scrollWidth > {SCROLL}.clientWidth && document.activeElement === {SCROLL}")
    assert page.js("document.querySelector('tbody th').getBoundingClientRect().right < innerWidth / 2")
    page.send("Accessibility.enable")
    nodes = [n for n in page.send("Accessibility.getFullAXTree")["nodes"] if not n["ignored"] and "name" in n]
    told = [(n["role"]["value"], n["name"]["value"]) for n in nodes]
    assert all(name for role, name in told if role in ROLES)
    assert ("region", "Figures") in told
    assert ("Audio", "book/LJ001-0001, Flow, T = 0.6") in told
    assert next(name for role, name in told if role == "rowheader") == "Flow, T = 0.6 2 held-out clips"
    assert [name.split(" ")[0] for role, name in told if role == "columnheader"][2:4] == ["PESQ-WB", "STOI"]
    assert page.js("[...document.querySelectorAll('a')].every((a) => document.querySelector(a.hash))")
    page.js("players[1].loop = true, players[1].focus()")
    page.press(" ")
    page.until("!players[1].paused")
    page.js("players[0].play()")
    page.until("players[1].paused")
    assert page.js("players.every((player) => player.duration > 0.3)")


def test_each_listener_has_an_order(page, root):
    """Another for each name, the same again for one; all hear everything, and no clip twice."""
    page.open(root / "test" / "index.html")
    orders = page.js("['a', 'b', 'c', 'd', 'e', 'f'].map((name) => trialsOf(name).map((t) => t.clips.join()))")
    assert len({tuple(order) for order in orders}) > 1
    assert orders[0] == page.js("trialsOf('a').map((t) => t.clips.join())")
    clips = sorted(page.js("TEST.mos.map(([clip]) => clip)"))
    assert all(sorted(order[:4]) == clips for order in orders)
    assert {order[4] for order in orders} == {
        ",".join(pair) for pair in page.js("[[0, 1], [1, 0]].map((p) => p.map((i) => TEST.ab[0][i]))")
    }
    heard = page.js("spread([[1, 'x'], [2, 'x'], [3, 'x'], [4, 'y'], [5, 'z']]).map((item) => item[1]).join('')")
    assert "xx" not in heard


def test_another_listener_and_half_steps(page, folders, tmp_path):
    assert build(folders, tmp_path / "mos", "--utterances=1", "--half_steps", "--pairs=Alpha,reference").code == 0
    start(page, tmp_path / "mos", "one")
    page.press(" ")
    page.until("!document.querySelector('#scale').disabled")
    for key in "4+++-":
        page.press(key)
    page.press("Enter")
    assert page.js("state.answers[0][6]") == "4.5"
    page.js("document.querySelector('#again').click()")  # opens a dialog, which the browser of the test confirms
    page.until(f"{SHOWN} === 'start'")
    start(page, tmp_path / "mos", "two")
    assert page.js("[state.listener, state.answers.length]") == ["two", 0]
