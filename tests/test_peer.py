"""benchmarks/peer.py, as far as it goes without PyTorch and a peer's checkout: every mistake is one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import small

CLONE = "; git clone https://github.com"


def peer(*args: str, cwd: Path = small.ROOT) -> small.Result:
    """The program as a process of its own: its name is a file, and beside it are the files of its sides."""
    command = [sys.executable, str(small.ROOT / "benchmarks/peer.py"), *args]
    environment = os.environ | {"PYTHONPATH": str(small.ROOT)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    return small.Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def checkouts(tmp_path_factory):
    """Folders that have the files which are asked for, all empty."""
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
        ([], 1, "nothing to compare with; name a checkout: --flowavenet=DIR, --waveglow=DIR or --clarinet=DIR"),
        (
            ["--flowavenet=empty"],
            1,
            f"--flowavenet=empty: no checkout of ksw0306/FloWaveNet (it has no model.py){CLONE}/ksw0306/FloWaveNet",
        ),
        (["--flowavenet=nowhere"], 1, f"--flowavenet=nowhere: no such folder{CLONE}/ksw0306/FloWaveNet"),
        (
            ["--waveglow=waveglow"],
            1,
            f"--waveglow=waveglow: no checkout of NVIDIA/waveglow (it has no config.json){CLONE}/NVIDIA/waveglow",
        ),
        (
            ["--clarinet=clarinet", "--only=training"],
            1,
            "of ClariNet only the sampling is compared; leave out --only=training",
        ),
        (["stray"], 1, "unexpected argument 'stray': all settings are flags (--help lists them)"),
        (["--ours=none.py"], 1, "--ours=none.py: no such file; give an experiment, as experiments/base.py"),
        (
            ["--dtype=half"],
            2,
            "flag --dtype=half: value should be one of <float32|bfloat16> (--help lists the flags)",
        ),
    ],
)
def test_a_mistake_is_one_line(checkouts, args, code, message):
    assert peer(*args, cwd=checkouts) == small.Result(code, "", f"python -m peer.py: {message}\n")


def test_help_has_the_commands():
    result = peer("--help")
    assert (result.code, result.err) == (0, "")
    for words in ("--flowavenet=FloWaveNet --clarinet=ClariNet --waveglow=waveglow", "--ours:", "--memory", "--dtype:"):
        assert words in result.out
