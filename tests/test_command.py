"""The command fwn: its list of programs, its version, and what it says on Windows."""

import pkgutil
import subprocess
import sys

import pytest
import small
from test_programs import PROGRAMS

import fwn
from fwn import __main__ as command
from fwn import version

UNLOADED = ("jax", "flax", "numpy", "absl")


def python(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code], cwd=small.ROOT, capture_output=True, text=True)


def test_the_programs_are_those_that_have_a_help():
    assert {module for module, _ in command.programs().values()} == {*PROGRAMS} - {"tools.slots"}


@pytest.mark.parametrize("what", ["import fwn", "fwn", "fwn --help", "fwn trian"])
def test_nothing_heavy_is_imported(what):
    start = f"import sys\nsys.argv = {what.split()}\nimport runpy\n"
    run = "import fwn" if what == "import fwn" else "runpy.run_module('fwn', run_name='__main__')"
    code = f"{start}import atexit\natexit.register(lambda: print([m for m in {UNLOADED} if m in sys.modules]))\n{run}"
    assert python(code).stdout.splitlines()[-1] == "[]"


def test_the_overview_has_each_program_with_its_first_line(capsys, monkeypatch):
    for arguments in ([], ["-h"], ["--help"]):
        monkeypatch.setattr(sys, "argv", ["fwn", *arguments])
        command.main()
        lines = capsys.readouterr().out.splitlines()
        for name, (_, file) in command.programs().items():
            first = file.read_text(encoding="utf-8").splitlines()[0].removeprefix('"""')
            assert f"  {name:<10} {first}" in lines


@pytest.mark.parametrize(("given", "near"), [("trian", "train"), ("--verson", "--version"), ("bosch", "bench")])
def test_an_unknown_program_is_one_line(given, near, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fwn", given])
    with pytest.raises(SystemExit) as exited:
        command.main()
    said = capsys.readouterr()
    expected = f"fwn: there is no program {given!r}; did you mean {near!r}? (fwn --help lists them)\n"
    assert (exited.value.code, said.out, said.err) == (2, "", expected)


# -- the version


def git(folder, *args):
    who = ["-c", "user.name=x", "-c", "user.email=x@x"]
    return subprocess.run(["git", "-C", folder, *who, *args], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with a file fwn/code.py, which is taken for fwn's own."""
    (tmp_path / "fwn").mkdir()
    (tmp_path / "fwn" / "code.py").write_text("1")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "fwn")
    git(tmp_path, "commit", "-qm", "x")
    git(tmp_path, "tag", "-a", "v9", "-m", "x")  # its name is not wanted
    monkeypatch.setattr(version, "HERE", tmp_path / "fwn")
    return tmp_path


def test_the_commit_is_that_of_the_checkout(checkout):
    head = git(checkout, "rev-parse", "HEAD")
    assert version.commit() == head
    (checkout / "fwn" / "code.py").write_text("2")
    assert version.commit() == f"{head}-dirty"


def test_the_recorded_commit_comes_first(checkout):
    (checkout / "fwn" / version.COMMIT).write_text("abc\n")
    assert version.commit() == "abc"


def test_the_commit_of_a_repository_around_it_is_not_taken(checkout, monkeypatch):
    """fwn in the environment inside another project."""
    inside = checkout / "env" / "fwn"
    inside.mkdir(parents=True)
    monkeypatch.setattr(version, "HERE", inside)
    assert version.commit() == "unknown"


def test_without_git_the_commit_is_unknown(checkout, monkeypatch):
    monkeypatch.setenv("PATH", str(checkout))
    assert version.commit() == "unknown"


def test_the_version_names_the_devices():
    lines = version.report().splitlines()
    assert lines[0].startswith(f"fwn {fwn.__version__}, commit ")
    assert lines[-1] == "devices: cpu, 4 × cpu"


def test_the_version_is_printed_without_a_device():
    said = python(
        "import os\nos.environ['JAX_PLATFORMS'] = 'nonsense'\nfrom fwn import version\nprint(version.report())"
    )
    assert said.returncode == 0, said.stderr
    assert "\ndevices: none can be used (RuntimeError: Unable to initialize backend 'nonsense'" in said.stdout


# -- Windows, as far as it can be had here: no fcntl, no resource, its name

WITHOUT = "import sys\nsys.modules |= {'fcntl': None, 'resource': None}\n"
REFUSED = "fwn does not run on this system (%s), which has no file locks of POSIX (Python's fcntl); on Windows"


def run_as(program: str, start: str) -> "subprocess.CompletedProcess[str]":
    return python(f"{start}import runpy\nsys.argv = ['', {program!r}]\nrunpy.run_module('fwn', run_name='__main__')")


@pytest.mark.parametrize("program", ["train", "mel"])
def test_on_windows_the_command_says_why_it_does_not_run(program):
    said = run_as(program, "import sys\nsys.platform = 'win32'\n")
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.startswith(f"fwn {program}: {REFUSED % 'win32'}")
    assert len(said.stderr.splitlines()) == 1


def test_on_windows_the_command_lists_the_programs():
    assert run_as("--help", "import sys\nsys.platform = 'win32'\n").stdout.startswith("The command `fwn`")


def test_without_file_locks_a_module_says_why_it_does_not_run():
    """jax warns on stderr, before it."""
    said = python(
        f"{WITHOUT}import runpy\nsys.argv = ['', '--output=x']\n"
        "runpy.run_module('fwn.sample', run_name='__main__', alter_sys=True)"
    )
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.splitlines()[-1].startswith(f"python -m fwn.sample: {REFUSED % sys.platform}")


def test_without_file_locks_the_packages_can_be_imported():
    """All but the programs, of which two in one process define one flag twice."""
    names = [module.name for module in pkgutil.walk_packages(fwn.__path__, "fwn.")]
    modules = [name for name in names if name not in PROGRAMS and not name.endswith("__main__")]
    assert len(modules) > 100
    code = f"{WITHOUT}import importlib\nfor module in {modules}: importlib.import_module(module)\nprint('done')"
    assert python(code).stdout == "done\n"


def test_without_file_locks_mels_can_be_computed():
    code = f"{WITHOUT}import numpy as np\nfrom fwn.mel import PRESETS, mel_spectrogram\n"
    code += "print(mel_spectrogram(np.ones(4096, np.float32), PRESETS['hifigan']).shape)"
    assert python(code).stdout == "(16, 80)\n"
