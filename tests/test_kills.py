"""kill -9 at random moments, a few for each program (tests/kills.py; `make chaos` runs 100 each)."""

import shutil
import subprocess
import sys
from pathlib import Path

import kills
import numpy as np
import pytest
import small
import writers

from fwn.disk import filled
from fwn.errors import UserError
from fwn.xla import cache

NAMES = ["training", "checkpointing", "preparation", "conversion", "sampling", "evaluation", "export"]
NAMES += ["export over a voice", "speech", "a listening test"]
CARELESS = """
import pathlib, sys, tempfile, time
out = pathlib.Path(sys.argv[-1].partition("=")[2])
out.mkdir(exist_ok=True)
with tempfile.TemporaryDirectory(dir=out) as folder, open(out / "a.txt", "w") as file:
    for _ in range(100):
        file.write("a")
        file.flush()
        time.sleep(0.001)
"""


@pytest.fixture(scope="module")
def programs(corpus, run, tmp_path_factory):
    kills.serve()
    return writers.programs(tmp_path_factory.mktemp("kills"), corpus.parent / "in", corpus, run)


@pytest.mark.parametrize("name", NAMES)
def test_killed_and_started_again_it_ends_as_if_it_was_not(name, programs):
    ends = kills.attack(programs[name], 2, np.random.default_rng(), warm=False)
    assert ends.keys() == {"killed", "finished, equal"}, ends
    assert ends["killed"] == 2


def test_all_programs_are_killed(programs):
    assert programs.keys() == set(NAMES)


def test_what_a_careless_program_leaves_is_found(programs, tmp_path, monkeypatch):
    """It writes under a file's last name, and its temporary folder has another name each time."""
    (tmp_path / "careless.py").write_text(CARELESS)
    monkeypatch.syspath_prepend(tmp_path)
    output = tmp_path / "k" / "out"
    program = writers.Program("careless", [f"--output={output}"], output, writers.files_are_whole)
    ends = " ".join(kills.attack(program, 12, np.random.default_rng(0)))
    assert "HALF: AssertionError: out/a.txt is not whole" in ends
    assert "LEFT BEHIND" in ends


def test_a_folder_is_filled_or_as_it_was(tmp_path):
    """After an error nothing is left; after a kill the next call starts anew; other contents are refused."""
    folder = tmp_path / "a" / "b"

    def fail():
        with filled(folder, "taken") as inside:
            (inside / "half").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not folder.exists()
    (folder / ".unfinished").mkdir(parents=True)
    (folder / ".unfinished" / "half").write_text("half")
    (folder / "part").mkdir()
    (folder / "part" / "moved").write_text("before the kill")
    with pytest.raises(ZeroDivisionError):
        fail()
    assert sorted(path.name for path in folder.iterdir()) == [".unfinished", "part"]
    with filled(folder, "taken") as inside:
        (inside / "part").mkdir()
        (inside / "part" / "file").write_text("whole")
    assert [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*"))] == ["part", "part/file"]
    with pytest.raises(UserError, match="taken"), filled(folder, "taken"):
        pass
    shutil.rmtree(folder)
    busy = pytest.raises(UserError, match=f"^{folder}: another process is writing there; ")
    with filled(folder, "taken"), busy, filled(folder, "taken"):
        pass
    assert list(folder.iterdir()) == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="taken"), filled(tmp_path / "file", "taken"):
        pass


def test_a_folder_that_was_half_moved_when_interrupted_is_filled_anew(tmp_path, monkeypatch):
    """It is not taken for whole: .unfinished stays, as after kill -9."""
    moved, replace = [], Path.replace

    def interrupted(path, target):
        if moved:
            raise KeyboardInterrupt
        moved.append(path.name)
        return replace(path, target)

    def write():
        with filled(tmp_path / "a", "taken") as inside:
            for name in ("one", "two"):
                (inside / name).write_text(name)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [".unfinished", "one"]
    write()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["one", "two"]


def test_a_compiled_program_is_kept_whole_or_not_at_all(tmp_path):
    """jax's own entries replace what a killed process left; an entry is written once."""
    code = (
        "import jax; from fwn.xla import cache; cache.write_atomically(); cache.write_atomically()\n"
        "jax.jit(lambda x: x + 1)(1.0)"
    )

    def compiled():
        command, environment = [sys.executable, "-c", code], small.environment(tmp_path)
        done = subprocess.run(command, cwd=small.ROOT, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        return {path.name for path in tmp_path.iterdir()}

    names = compiled()
    assert names
    assert all(name.endswith("-cache") for name in names)
    for name in names:
        (tmp_path / name).rename(tmp_path / f".{name}.partial")
    assert compiled() == names
    (tmp_path / ".k-cache.partial").write_bytes(b"half of a longer one")
    for value in (b"whole", b"another"):
        cache._put(tmp_path, "k-cache", value)
    assert (tmp_path / "k-cache").read_bytes() == b"whole"
    assert {path.name for path in tmp_path.iterdir()} == names | {"k-cache"}
