"""Fixtures for tests of the listening pages: folders of clips, an evaluation, the pages built from them.

conftest.py makes them available to all tests.
"""

import json
import shutil

import numpy as np
import pytest
import small

from fwn.audio import audio_file
from fwn.evaluation.metrics import METRICS

NAMES = ("Alpha", "Beta flow")  # of the systems
SAMPLES = 8820  # 0.4 s
LENGTHS = [SAMPLES, SAMPLES + 700, SAMPLES + 1400]


def degraded(clip: np.ndarray, noise: float, gain: float = 1.0) -> np.ndarray:
    return (gain * (clip + noise * np.random.default_rng(0).normal(size=clip.shape))).astype(np.float32)


@pytest.fixture
def folders(tmp_path):
    """{"reference", "Alpha", "Beta flow": folder} of u00.wav, …; Beta flow has 0.16 of the level."""
    found = {"reference": small.record(tmp_path / "reference", LENGTHS)}
    for name, noise, gain in (("Alpha", 0.003, 1.0), ("Beta flow", 0.02, 0.16)):
        found[name] = tmp_path / name
        found[name].mkdir()
        for i, samples in enumerate(LENGTHS):
            audio_file.write(found[name] / f"u{i:02d}.wav", degraded(small.speech(i, samples), noise, gain), small.RATE)
    return found


MEASURED = {  # temperature -> metrics, equal for both utterances; published: 0.338 1.148 3.41 0.973 2.45 -0.83
    1.0: {"log_mel_l1": 0.5, "stoi": 0.974, "line_noise": 2.5, "level_ratio_db": 0.84},
    0.6: {"log_mel_l1": 0.3, "stoi": 0.9731, "line_noise": 0.4, "level_ratio_db": 0.5},
}


SENTENCE = 'Is <i>Fust & Schoeffer</i> "printed" matter?'  # characters that HTML must escape


@pytest.fixture
def evaluated(tmp_path):
    return write_evaluated(tmp_path / "evaluated")


def write_evaluated(folder):
    """An output of fwn.evaluate: two temperatures, two clips of LJSpeech in a folder, a transcript of the first."""
    (folder / "book").mkdir(parents=True)
    names = [f"book/LJ001-000{i}" for i in (1, 2)]
    for i, (name, samples) in enumerate(zip(names, LENGTHS, strict=False)):
        clip = small.speech(i, samples)
        audio_file.write(folder / f"{name}.recording.wav", clip, small.RATE)
        for t in MEASURED:
            audio_file.write(folder / f"{name}.T{t}.wav", degraded(clip, 0.01 * t), small.RATE)
    row = dict.fromkeys(METRICS, 9.0) | {"pesq_wb": None}
    results = {
        "step": 1200,
        "data": "/data/lj",
        "seed": 3,
        "card": {
            "system": "flowavenet",
            "parameters": 1234567,
            "mel": "flowavenet (a13bd5d9b250)",
            "trained_on": "data/lj",
            "training": {"steps": 1500, "seconds": 75.0, "steps_per_second": 20.0},
            "parts": {"train": {"utterances": 11, "seconds": 60.0}, "test": {"utterances": 2, "seconds": 0.8}},
            "transcripts": {names[0]: SENTENCE},
            "chapters": {name: {"name": "LJ001", "train": n} for name, n in zip(names, (7, 1), strict=True)},
            "machine": {"fwn": "0.1.0", "commit": "0123456789abcdef", "jax": "0.10.2", "device": "cpu"},
        },
        "utterances": {
            "likelihood": {name: {"nats_per_sample_dequantised": 4.5} for name in names},
            "copies": {str(t): dict.fromkeys(names, row | values) for t, values in MEASURED.items()},
        },
    }
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def build(folders, output, *flags):
    pytest.importorskip("matplotlib")
    systems = [f"--systems={name}={folders[name]}" for name in NAMES]
    return small.program(
        "fwn.listening", "build", f"--reference={folders['reference']}", *systems, f"--output={output}", *flags
    )


@pytest.fixture
def demo(evaluated, folders, tmp_path):
    """Text of the demo page of two systems: one from fwn.evaluate, one from a folder of clips."""
    pytest.importorskip("matplotlib")
    shutil.copytree(folders["Alpha"], tmp_path / "plain" / "book")
    for i in (1, 2):
        (tmp_path / "plain" / "book" / f"u{i:02d}.wav").rename(tmp_path / "plain" / "book" / f"LJ001-000{i}.wav")
    flags = [f"--systems=Flow={evaluated}@0.6", f"--systems=Plain={tmp_path / 'plain'}", f"--output={tmp_path / 'out'}"]
    result = small.program("fwn.listening", "build", *flags)
    assert (result.code, result.err) == (0, "")
    return (tmp_path / "out" / "demo" / "index.html").read_text()
