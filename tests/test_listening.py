"""fwn.listening build: the test is blind, level-matched and reproducible; odd input is reported."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import small
import soundfile
from pages import NAMES, SAMPLES, build

from fwn.audio import audio_file
from fwn.listening import stimuli


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_listeners_cannot_tell_the_systems(folders, tmp_path):
    result = build(folders, tmp_path / "out")
    assert (result.code, result.err) == (0, "")
    key = json.loads((tmp_path / "out" / "key.json").read_text())
    files = contents(tmp_path / "out" / "test")
    clips = {name for name in files if name.startswith("clips/")}
    assert clips == {f"clips/{clip}.wav" for clip in key["clips"]}
    assert set(files) - clips == {"index.html", "data.js", "order.js", "test.js", "style.css"}
    text = " ".join([*files, *(files[name].decode() for name in set(files) - clips)]).lower()
    for word in (*NAMES, *(f"u{i:02d}" for i in range(3)), "reference", "anchor", "recording"):
        assert not re.search(rf"\b{word.lower()}\b", text), word
    order = [key["clips"][clip]["system"] for clip in sorted(key["clips"])]
    assert order != sorted(order)
    assert order != sorted(order, key=key["systems"].index)
    heard_first = {key["clips"][a]["system"] for a, _ in key["pairs"]}
    assert heard_first <= set(NAMES)
    everything = {(c["system"], c["utterance"]) for c in key["clips"].values()}
    assert everything == {(s, f"u{i:02d}") for s in ("reference", *NAMES, "anchor") for i in range(3)}


def test_nothing_is_fetched_from_a_network(folders, tmp_path):
    build(folders, tmp_path / "out")
    for name, content in contents(tmp_path / "out").items():
        if not name.endswith((".wav", ".png")):
            assert not re.search(rb"""https?:|["'(]//|@import|fetch\(|XMLHttpRequest""", content), name


def test_a_seed_gives_one_test(folders, tmp_path):
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        build(folders, tmp_path / name, f"--seed={seed}")
    one, same, other = (contents(tmp_path / name) for name in ("one", "same", "other"))
    assert one == same
    assert not {n for n in one if n.startswith("test/clips")} & {n for n in other if n.startswith("test/clips")}
    assert json.loads(one["key.json"])["test"] != json.loads(other["key.json"])["test"]


def rms_db(clip: np.ndarray) -> float:
    return 10 * np.log10(np.mean(clip.astype(float) ** 2))


@pytest.mark.parametrize("click", [0.0, 0.99], ids=["as it is", "a loud click in one clip"])
def test_levels_are_matched_without_clipping(folders, tmp_path, click):
    path = folders["Alpha"] / "u01.wav"
    clip = 0.1 * soundfile.read(path)[0]
    clip[100] += click
    audio_file.write(path, clip, small.RATE)
    result = build(folders, tmp_path / "out")
    clips = [soundfile.read(p)[0] for p in (tmp_path / "out").rglob("*.wav")]
    assert len(clips) == 3 * 4 + 3 * 3
    levels = [rms_db(clip) for clip in clips]
    assert np.ptp(levels) < 0.02  # 16-bit rounding
    assert max(np.abs(clip).max() for clip in clips) <= 10 ** (stimuli.CEILING / 20) + 1e-4
    level = json.loads((tmp_path / "out" / "key.json").read_text())["level_db"]
    assert np.mean(levels) == pytest.approx(level, abs=0.02)
    assert (level < stimuli.LEVEL) == bool(click)
    assert ("the peak of u01 of Alpha is not clipped" in result.out) == bool(click)


def test_anchor_is_the_low_passed_recording():
    impulse = np.zeros(22050, np.float32)
    impulse[11025] = 1
    response = stimuli.anchor(impulse, 22050)
    assert np.abs(response).argmax() == 11025
    db = 20 * np.log10(np.abs(np.fft.rfft(response)) + 1e-12)  # bins of 1 Hz
    assert np.abs(db[:3500]).max() < 0.1
    assert db[4000:].max() < -25
    assert db[4500:].max() < -50


def test_an_output_of_evaluate(evaluated, tmp_path):
    pytest.importorskip("matplotlib")
    flags = [f"--systems=Flow={evaluated}@1", f"--output={tmp_path / 'out'}"]
    result = small.program("fwn.listening", "build", *flags)
    assert (result.code, result.err) == (0, "")
    assert f"reference: the recordings in {evaluated}" in result.out
    key = json.loads((tmp_path / "out" / "key.json").read_text())
    assert {c["utterance"] for c in key["clips"].values()} == {"book/LJ001-0001", "book/LJ001-0002"}
    pairs = [{key["clips"][clip]["system"] for clip in pair} for pair in key["pairs"]]
    assert pairs == [{"Flow", "reference"}] * 2  # a single system is compared with the reference
    page = (tmp_path / "out" / "demo" / "index.html").read_text()
    assert re.findall("<figcaption>(.*?)</figcaption>", page) == ["Recording", "Flow, T = 0.6", "Flow, T = 1.0"] * 2
    for name in re.findall(r'src="([^"]+)"', page):
        assert (tmp_path / "out" / "demo" / name).is_file()
    clip = stimuli.parse(f"Flow={evaluated}@1").files["book/LJ001-0001"]
    assert clip.name == "LJ001-0001.T1.0.wav"


def test_names_are_text_in_the_pages(folders, tmp_path):
    folders = folders | {"<b>&": folders["Alpha"]}
    flags = ["--systems=<b>&=" + str(folders["<b>&"]), "--title=<i>", "--half_steps", "--pairs=<b>&,Alpha"]
    assert build(folders, tmp_path / "out", *flags).code == 0
    page = (tmp_path / "out" / "demo" / "index.html").read_text()
    assert "&lt;b&gt;&amp;" in page
    assert "&lt;i&gt;" in page
    assert "<b>" not in page
    assert "<i>" not in page
    key = json.loads((tmp_path / "out" / "key.json").read_text())
    assert {key["clips"][clip]["system"] for pair in key["pairs"] for clip in pair} == {"<b>&", "Alpha"}


def resampled(folders: dict[str, Path]) -> None:
    soundfile.write(folders["Alpha"] / "u00.wav", small.speech(0, 7000), 16000)


def beyond(folders: dict[str, Path]) -> None:
    soundfile.write(folders["Alpha"] / "u00.wav", 10 * small.speech(0, SAMPLES), small.RATE, subtype="FLOAT")


REPORTED = {  # change of the folders, exit code, message
    "an utterance is missing": (
        lambda f: (f["Alpha"] / "u01.wav").unlink(),
        3,
        "Alpha: lacks u01; left out of the test for all systems",
    ),
    "another rate": (resampled, 0, "Alpha: 1 clip resampled 16000 -> 22050 Hz"),
    "beyond full scale": (beyond, 0, "Alpha: 1 clip at or beyond full scale"),
    "another length": (
        lambda f: audio_file.write(f["Alpha"] / "u00.wav", small.speech(0, 3 * SAMPLES), small.RATE) and None,
        0,
        "Alpha: 1 clip more than 0.1 s longer or shorter",
    ),
    "missing in the reference": (
        lambda f: (f["reference"] / "u01.wav").unlink(),
        0,
        "Alpha: not in the reference and not used: u01",
    ),
    "missing in all systems": (
        lambda f: audio_file.write(f["reference"] / "x.wav", small.speech(0, SAMPLES), small.RATE) and None,
        0,
        "reference: in no system and not used: x",
    ),
}


@pytest.mark.parametrize("case", REPORTED)
def test_reports_odd_input(case, folders, tmp_path):
    change, code, message = REPORTED[case]
    change(folders)
    result = build(folders, tmp_path / "out")
    assert (result.code, result.err) == (code, "")
    assert message in result.out
