"""benchmarks/training_compute.py: likelihood at equal steps and at equal compute, of runs with equal settings."""

import json

import pytest
import small

from fwn import config as configs

PROGRAM = "benchmarks.training_compute"
HELD_OUT = {"wide": {2: 2.0, 4: 2.25}, "narrow": {step: 1 + step / 8 for step in range(1, 41)}, "other": {4: 0.0}}


@pytest.fixture
def runs(tmp_path):
    """{name: --runs}: a wide run, a narrow one with cheaper steps, and one with other crops."""
    for name, held_out in HELD_OUT.items():
        config = small.config(tmp_path / "data", frames=2 if name == "other" else 4)
        config.model.channels = 128 if name == "wide" else 64
        configs.write(tmp_path / name, config, configs.mel_of(config))
        lines = [{"what": "held_out", "step": step, "nats_per_sample": nats} for step, nats in held_out.items()]
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {name: f"--runs={name}={tmp_path / name}" for name in HELD_OUT}


def test_a_cheaper_model_makes_more_steps_at_equal_compute(runs, tmp_path):
    pytest.importorskip("matplotlib")
    result = small.program(PROGRAM, runs["wide"], runs["narrow"], f"--output={tmp_path / 'out'}")
    assert (result.code, result.err) == (0, "")
    head, _, wide, narrow = ([cell.strip() for cell in line.split("|")] for line in result.out.splitlines())
    assert "at step 4" in head[4]
    assert (wide[4], narrow[4]) == ("2.250", "1.500")
    of_wide, of_narrow, half = float(wide[3]), float(narrow[3]), 0.005  # half a unit of the last printed digit
    last = int(narrow[5].partition("(step ")[2].rstrip(")"))
    assert int(4 * (of_wide - half) / (of_narrow + half)) <= last <= int(4 * (of_wide + half) / (of_narrow - half))
    assert 4 < last < 40
    assert (wide[5], narrow[5]) == ("2.250 (step 4)", f"{1 + last / 8:.3f} (step {last})")
    assert (tmp_path / "out" / "table.md").read_text() == result.out
    assert (tmp_path / "out" / "held_out.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no runs; give --runs=NAME=WORKDIR"),
        (["narrow", "narrow"], "give NAME=WORKDIR, each name once"),
        (["narrow", "other"], "config.frames is 2, but 4 in the first run; runs must have the same settings"),
    ],
)
def test_mistakes_are_one_line(names, message, runs):
    result = small.program(PROGRAM, *(runs[name] for name in names))
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert message in result.err
