"""benchmarks/accelerator.py with measurements that take no time: goes on where it stopped, says what is missing."""

import json
import subprocess
import sys

import pytest
import small

MACHINE = {"device": "NVIDIA H100 80GB HBM3", "jax": "0.10.2"}
RECORDS = {
    "base_train": [{"batch": 8, "audio_seconds": 0.72, "seconds": 0.05, "samples_per_second": 8 * 15_872 / 0.05}],
    "base_sample": [
        {"batch": 1, "audio_seconds": 5.004, "seconds": 0.01, "samples_per_second": 110_336 / 0.01},
        {"batch": 32, "audio_seconds": 5.004, "seconds": 0.1, "samples_per_second": 32 * 110_336 / 0.1},
    ],
    "official_sample": [
        {"batch": 1, "audio_seconds": 5.004, "ours_seconds": 0.01, "peer_seconds": 0.05, "samples": 110_336}
    ],
    "wavenet_loop": [{"batch": 1, "audio_seconds": 1.0, "seconds": 20.0, "samples_per_second": 1_100.0}],
}
PLAN = {
    "dtype": "bfloat16",
    "operations": 6.4e12,
    "devices": 1,
    "moved_bytes": 67e9,
    "launches": 993,
    "kernels": {"fusion": 4_276},
}
# Run as the program, with other measurements and other plans than its own.
RUN = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("accelerator", {file!r})
program = importlib.util.module_from_spec(spec)
sys.modules["accelerator"] = program
spec.loader.exec_module(program)
found = [program.Measurement(name, tuple(command)) for name, command in json.loads({commands!r})]
program.measurements, program.PLANS = lambda: iter(found), program.Path({plans!r})
program.cli.run(program.main)
"""


def command(name, code=0):
    """Writes the records into the file that --output names, and ends with this code."""
    text = json.dumps({"machine": MACHINE, "records": RECORDS[name]})
    return ["-c", f"import sys; open(sys.argv[1].split('=')[1], 'w').write({text!r}); sys.exit({code})"]


def run(tmp_path, commands, *flags):
    file = str(small.ROOT / "benchmarks" / "accelerator.py")
    text = RUN.format(file=file, commands=json.dumps(commands), plans=str(tmp_path / "plans"))
    words = [sys.executable, "-c", text, f"--output={tmp_path / 'out'}", *flags]
    done = subprocess.run(words, capture_output=True, text=True)
    return small.Result(done.returncode, done.stdout, done.stderr)


def test_what_failed_is_measured_again_and_nothing_else(tmp_path):
    found = run(tmp_path, [("base_train", command("base_train")), ("base_sample", command("base_sample", 3))])
    assert found.code == 1
    assert "not measured: base_sample (it ended with exit code 3); the same command goes on with them" in found.err
    assert not (tmp_path / "out" / "base_sample.json").exists()
    found = run(tmp_path, [("base_train", ["-c", "1 / 0"]), ("base_sample", command("base_sample"))])
    assert found.code == 0, found.err
    assert "base_train: measured before" in found.out
    assert (tmp_path / "out" / "report.md").read_text().count("| base_sample |") == 2


def test_the_time_is_kept(tmp_path):
    found = run(tmp_path, [("base_train", ["-c", "import time; time.sleep(60)"])], "--minutes=0.02")
    assert (found.code, "it was stopped, as the time was over" in found.err) == (1, True)
    found = run(tmp_path, [("base_train", command("base_train"))], "--minutes=0")
    assert (found.code, "base_train (the time was over)" in found.err) == (1, True)


def test_the_table_by_hand(tmp_path):
    """67 GB at 3.35 TB/s are 20 ms; of other sizes there is no plan."""
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "base_train.json").write_text(json.dumps(PLAN | {"samples": 8 * 15_872}))
    (tmp_path / "plans" / "base_sample.json").write_text(json.dumps(PLAN | {"samples": 1}))
    found = run(tmp_path, [(name, command(name)) for name in RECORDS])
    assert found.code == 0, found.err
    lines = (tmp_path / "out" / "report.md").read_text().splitlines()
    assert lines[0] == "Measured on NVIDIA H100 80GB HBM3, jax 0.10.2."
    assert "| base_train | 8 | 0.72 | 50.00 | 2,539,520 | 20.00 ms |  |" in lines
    assert "| base_sample | 1 | 5.00 | 10.00 | 11,033,600 |  |  |" in lines
    assert "| official_sample | 1 | 5.00 | 10.00 | 11,033,600 |  | 50.00 ms |" in lines
    assert [line for line in lines if line.startswith("- ")] == [
        "- base, training, at least 40 steps a second: 20.0, NOT reached",
        "- base, 5 s of audio in at most 15 ms: 10.0, reached",
        "- base, sampling in batches, at least 20 million samples a second: 35.3, reached",
        "- official_sample, at least 4 times as fast as the official code: 5.0, reached",
        "- base, 1,000 times as fast as a WaveNet's loop: 10,030.5, reached",
    ]


@pytest.mark.parametrize("text", ["{", "[]", '{"machine": {}, "records": [1]}'])
def test_a_damaged_file_is_said(tmp_path, text):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "base_train.json").write_text(text)
    found = run(tmp_path, [("base_train", command("base_train"))])
    assert found.code == 1
    assert "base_train.json: not a file of measurements; delete it" in found.err
    assert "Traceback" not in found.err
