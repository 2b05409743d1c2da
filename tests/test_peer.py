"""benchmarks/peer.py without PyTorch and without checkouts: every mistake is reported in one line."""

import subprocess
import sys
from pathlib import Path

import pytest
import small

CLONE = "; git clone https://github.com"


def peer(*args: str, cwd: Path = small.ROOT) -> small.Result:
    """Runs the program in a new process, as a file: it imports the modules beside it."""
    command = [sys.executable, str(small.ROOT / "benchmarks/peer.py"), *args]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    return small.Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def checkouts(tmp_path_factory):
    """Folders with some of the files that the program checks for, all empty."""
    folder = tmp_path_factory.mktemp("checkouts")
    files = {"empty": [], "clarinet": ["wavenet.py", "wavenet_iaf.py"], "waveglow": ["glow.py"]}
    for name, there in files.items():
        (folder / name).mkdir()
        for file in there:
            (folder / name / file).touch()
    return folder


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([], 1, "nothing to compare with; give a checkout: --flowavenet=DIR, --waveglow=DIR or --clarinet=DIR"),
        (
            ["--flowavenet=empty"],
            1,
            f"--flowavenet=empty: not a checkout of ksw0306/FloWaveNet (model.py is missing){CLONE}/ksw0306/FloWaveNet",
        ),
        (["--flowavenet=nowhere"], 1, f"--flowavenet=nowhere: no such folder{CLONE}/ksw0306/FloWaveNet"),
        (
            ["--waveglow=waveglow"],
            1,
            f"--waveglow=waveglow: not a checkout of NVIDIA/waveglow (config.json is missing){CLONE}/NVIDIA/waveglow",
        ),
        (
            ["--clarinet=clarinet", "--only=training"],
            1,
            "only sampling is compared with ClariNet; leave out --only=training",
        ),
        (["stray"], 1, "unexpected argument 'stray': all settings are flags (--help lists them)"),
        (["--ours=none.py"], 1, "--ours=none.py: no such file; give an experiment, such as experiments/base.py"),
        (
            ["--dtype=half"],
            2,
            "flag --dtype=half: value should be one of <float32|bfloat16> (--help lists the flags)",
        ),
    ],
)
def test_a_mistake_is_one_line(checkouts, args, code, message):
    assert peer(*args, cwd=checkouts) == small.Result(code, "", f"python {small.ROOT}/benchmarks/peer.py: {message}\n")


def test_help_has_the_commands():
    result = peer("--help")
    assert (result.code, result.err) == (0, "")
    for words in ("--flowavenet=FloWaveNet --clarinet=ClariNet --waveglow=waveglow", "--ours:", "--memory", "--dtype:"):
        assert words in result.out
