"""The wheel has one top-level package, with experiments, voices and data_prep, and works in any folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import small


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=small.ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, tracked.stdout.split("\0")):
        if (small.ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((small.ROOT / name).read_bytes())
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", f"--outdir={folder}", str(source)]
    built = subprocess.run(build, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """run(module, *flags) runs a program of the wheel in a folder with unrelated packages experiments and data_prep."""
    place, elsewhere = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("elsewhere")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(place)
    for name in ("experiments", "data_prep"):
        (elsewhere / name).mkdir()
        (elsewhere / name / "__init__.py").write_text("raise SystemExit('not fwn')\n")

    def run(module, *flags):
        environment = os.environ | {"PYTHONPATH": str(place), "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-m", module, *map(str, flags)]
        return subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)

    return run


def test_it_has_every_package_and_nothing_outside_fwn(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = {Path(name) for name in file.namelist()}
    assert {name.parts[0] for name in names if not name.parts[0].endswith(".dist-info")} == {"fwn"}
    expected = set()
    for folder in ("fwn", "data_prep", "experiments", "voices"):
        files = [p.relative_to(small.ROOT) for p in (small.ROOT / folder).rglob("*") if p.is_file()]
        expected |= {p if folder == "fwn" else Path("fwn", p) for p in files if p.suffix != ".pyc"}
    assert not expected - names


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
