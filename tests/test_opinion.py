"""fwn.listening analyse: exact tests against enumeration, scores against their definitions, refused files."""

import csv
import itertools
import json

import numpy as np
import pytest
import small
from scipy.stats import binomtest

from fwn.evaluation import estimates
from fwn.listening import answers, opinion
from fwn.listening.answers import COLUMNS, Preference, Rating

SYSTEMS = ["reference", "A", "B", "anchor"]
UTTERANCES = ["u0", "u1", "u2"]
CLIPS = {f"{s}{u}": {"system": s, "utterance": u} for s in SYSTEMS for u in UTTERANCES}
PAIRS = [[f"A{u}", f"B{u}"] for u in UTTERANCES]
KEY = {"test": "t1", "title": "Test", "half_steps": False, "systems": SYSTEMS, "clips": CLIPS, "pairs": PAIRS}
GOOD = {"reference": "5", "A": "4", "B": "3", "anchor": "1"}


def rows(listener="anna", scores=GOOD, preferred="a", test="t1"):
    """One listener's file, as lists."""
    mos = [["mos", clip, "", scores[c["system"]]] for clip, c in CLIPS.items()]
    answers = mos + [["ab", *pair, preferred] for pair in PAIRS]
    return [[test, listener, str(n), *answer, "1", "2.0", "now"] for n, answer in enumerate(answers, 1)]


def write(path, lines, header=COLUMNS):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *lines])
    return str(path)


@pytest.mark.parametrize("n", [1, 2, 9])
def test_sign_flip_is_exact(n, rng):
    for scale in (1.0, 0.5):
        d = scale * rng.integers(-3, 4, n)
        sums = np.array([np.dot(signs, d) for signs in itertools.product((-1, 1), repeat=n)])
        assert opinion.sign_flip(d) == pytest.approx((np.abs(sums) >= abs(d.sum())).mean())


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (5, 5), (9, 2), (60, 100)])
def test_preferences_are_tested_by_the_binomial(wins, losses):
    expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert opinion.sign_flip([1] * wins + [-1] * losses) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.04, 0.001], [0.04, 0.002]),
    ],
)
def test_holm(p, adjusted):
    assert opinion.holm(p) == pytest.approx(adjusted)


def ratings(rng, listeners=5):
    true = dict(zip(SYSTEMS, (4.6, 3.8, 3.4, 2.0), strict=True))
    return [
        Rating(f"l{n}", s, u, float(np.clip(np.rint(true[s] + rng.normal()), 1, 5)))
        for n in range(listeners)
        for s in SYSTEMS
        for u in UTTERANCES
    ]


def test_scores_are_means_with_students_interval(rng):
    rated = ratings(rng)
    found = opinion.analyse(SYSTEMS, rated, [], {})
    for s in SYSTEMS:
        scores = np.array([[r.score for r in rated if r[:2] == (f"l{n}", s)] for n in range(5)])
        assert found.scores[s].mos == estimates.estimate(scores.ravel())
        assert found.scores[s].over_listeners == estimates.estimate(scores.mean(axis=1))
        assert found.scores[s].mos.mean == pytest.approx(found.scores[s].over_listeners.mean)


def test_z_scores_do_not_depend_on_a_listeners_use_of_the_scale(rng):
    rated = ratings(rng)
    other = [r._replace(score=2 + r.score / 2) if r.listener == "l1" else r for r in rated]
    one, two = (opinion.analyse(SYSTEMS, x, [], {}).scores for x in (rated, other))
    for s in SYSTEMS:
        assert one[s].z.mean == pytest.approx(two[s].z.mean)
        assert one[s].mos.mean != two[s].mos.mean
    assert sum(one[s].z.mean for s in SYSTEMS) == pytest.approx(0, abs=1e-12)


def test_only_ratings_of_both_systems_are_paired(rng):
    rated = [r for r in ratings(rng) if r[:3] != ("l0", "A", "u0")]
    found = {(c.a, c.b): c for c in opinion.analyse(SYSTEMS, rated, [], {}).comparisons}
    assert set(found) == {("reference", "A"), ("reference", "B"), ("A", "B")}  # not the anchor
    sums = {n: [r.score for r in rated if r[:2] == (n, "A")] for n in ("l0", "l1")}
    assert [len(s) for s in sums.values()] == [2, 3]
    own = {(r.listener, r.utterance): r.score for r in rated if r.system == "B"}
    expected = [np.mean([r.score - own[r[0], r[2]] for r in rated if r[:2] == (f"l{n}", "A")]) for n in range(5)]
    assert found["A", "B"].difference == estimates.estimate(expected)
    assert all(c.p_holm >= c.p for c in found.values())


def test_preferences_count_for_the_system_not_the_side():
    votes = [Preference("l", "A", "B", "u0", "A"), Preference("l", "B", "A", "u1", "A")]
    votes += [Preference("l", "B", "A", "u2", None)]
    found = opinion.analyse(SYSTEMS, [], votes, {})
    assert found.preferences == [opinion.Shares("A", "B", 2, 1, 0, 1.0, 1.0)]  # one listener proves nothing
    assert (found.first, found.decided) == (1, 2)


def test_answers_of_one_listener_are_not_independent():
    """If n listeners all prefer A, p is that of n coin tosses, however many questions each one answers."""
    for times in (1, 7):
        votes = [Preference(f"l{n}", "A", "B", f"u{i}", "A") for n in range(5) for i in range(times)]
        rated = [Rating(f"l{n}", s, f"u{i}", 4.0 + (s == "A")) for n in range(5) for i in range(times) for s in "AB"]
        found = opinion.analyse(["A", "B"], rated, votes, {})
        assert found.preferences[0].p == found.comparisons[0].p == 2 * 0.5**5


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        (GOOD, None),
        (GOOD | {"anchor": "5", "reference": "2"}, "rates the hidden anchor (5.00) above the hidden reference (2.00)"),
        (dict.fromkeys(SYSTEMS, "3"), "rates the hidden anchor (3.00) level with the hidden reference (3.00)"),
    ],
)
def test_inattentive_listeners_are_left_out_by_name(scores, why, tmp_path):
    (tmp_path / "key.json").write_text(json.dumps(KEY))
    files = [write(tmp_path / "a.csv", rows("anna")), write(tmp_path / "b.csv", rows("bob", scores))]
    result = small.program("fwn.listening", "analyse", *files)  # finds the key beside them
    assert (result.code, result.err) == (3 if why else 0, "")
    assert (f"bob: left out: {why}" in result.out) == bool(why)
    assert f"Test: {'1 listener' if why else '2 listeners'}, {12 if why else 24} ratings" in result.out


def test_the_files_hold_the_figures(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "key.json").write_text(json.dumps(KEY))
    files = [
        write(tmp_path / f"{n}.csv", rows(n, GOOD | {"A": a}, b)) for n, a, b in (("x", "4", "a"), ("y", "5", "same"))
    ]
    output = tmp_path / "analysis"
    result = small.program("fwn.listening", "analyse", *files, f"--key={tmp_path / 'key.json'}", f"--output={output}")
    assert (result.code, result.err) == (0, "")
    assert {p.name for p in output.iterdir()} == {"results.json", "table.txt", "table.md", "mos.png", "preferences.png"}
    assert (output / "table.txt").read_text() in result.out
    found = json.loads((output / "results.json").read_text())
    assert found["scores"]["A"]["mos"]["mean"] == 4.5
    assert found["preferences"][0]["prefer_a"] == 3
    assert found["listeners"] == ["x", "y"]


def test_a_file_downloaded_twice_counts_once(tmp_path):
    files = [write(tmp_path / "early.csv", rows()[:5]), write(tmp_path / "late.csv", rows())]
    for order in (files, files[::-1], [files[1], files[1]]):
        found = answers.read(order, KEY)
        assert len(found.ratings) == 12
        assert len(found.notes) == 1
        assert f"only {files[1]} is used" in found.notes[0]


def test_an_unfinished_file_is_used_and_reported(tmp_path):
    found = answers.read([write(tmp_path / "half.csv", rows()[:5])], KEY)
    assert len(found.ratings) == 5
    assert "anna: unfinished, 5 of 15 answers" in found.notes[0]
    left_out, unknown = opinion.inattentive(found.ratings)
    assert not left_out
    assert "anna: attention cannot be checked" in unknown[0]


def test_nobody_left_is_an_error(tmp_path):
    (tmp_path / "key.json").write_text(json.dumps(KEY))
    result = small.program(
        "fwn.listening", "analyse", write(tmp_path / "a.csv", rows(scores=dict.fromkeys(SYSTEMS, "2")))
    )
    assert result.code == 1
    assert "no listener is left: anna rates the hidden anchor (2.00) level" in result.err


def test_the_page_and_the_reader_agree_on_the_columns():
    script = (small.ROOT / "fwn" / "listening" / "pages" / "test.js").read_text()
    line = next(line for line in script.splitlines() if line.startswith("const COLUMNS"))
    assert tuple(json.loads(line.partition("= ")[2].rstrip(";"))) == COLUMNS
