"""Builds the sdist and the wheel of the last commit, and tries both in new environments under each Python found here.

    make release-check

It works in a folder of its own (build/release), on a clone: only what is committed is in a release. Checked are the
metadata (twine), the files (the sdist has all tracked ones, the wheel only fwn, the sdist makes the same wheel), the
documents and imports in the unpacked sdist, and in an environment for each Python, with nothing but the wheel or the
sdist and what pip installs for it: the command fwn, every program's --help, sampling; of the wheel also data
preparation, a step of training, export, evaluation, a listening test, and the types that a type checker sees.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from email import message_from_bytes
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "release"
# What an sdist has beside the tracked files.
ADDED = {"PKG-INFO", "fwn/commit.txt"}
TESTS = ("tests/test_layers.py", "tests/test_docs.py")
COMMAND = "../../../bin/fwn"
OWNED = ("fwn/", "fwn-", COMMAND)  # what the distribution may install, from site-packages
TRAIN = ["--config=tiny", "--config.num_steps=1", "--config.batch_size=1", "--config.eval_batches=1"]
TRAIN += [f"--config.model.{size}" for size in ("n_block=2", "n_flow=1", "channels=8", "prior_channels=8")]
TYPED = "import fwn\n\nreveal_type(fwn.load)\nreveal_type(fwn.Vocoder)\n"
COLD = "import sys, fwn; sys.exit(bool({'jax', 'numpy'} & set(sys.modules)) and 'import fwn imports too much')"


def fail(message: str) -> None:
    sys.exit(f"release-check: {message}")


def run(*command: str | Path, cwd: Path = WORK, **environment: str) -> str:
    """What a command prints. If it fails, that is shown and the check ends."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=clean | environment, capture_output=True, text=True)
    if done.returncode:
        fail(f"`{' '.join(words)}` exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def only(folder: Path, pattern: str) -> Path:
    (file,) = folder.glob(pattern)
    return file


def build(source: Path) -> tuple[Path, Path]:
    """(sdist, wheel) of the clone, where the wheel is built from the sdist."""
    run(sys.executable, "-m", "build", f"--outdir={WORK / 'dist'}", source)
    run(sys.executable, "-m", "build", "--wheel", f"--outdir={WORK / 'direct'}", source)
    return only(WORK / "dist", "*.tar.gz"), only(WORK / "dist", "*.whl")


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in file.namelist()}


def check_files(source: Path, sdist: Path, wheel: Path) -> Path:
    """Compares lists of files. Returns the folder of the unpacked sdist."""
    with tarfile.open(sdist) as file:
        file.extractall(WORK / "unpacked", filter="data")
    unpacked = only(WORK / "unpacked", "fwn-*")
    tracked = set(filter(None, run("git", "ls-files", "-z", cwd=source).split("\0")))
    found = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    found = {name for name in found if not name.startswith("fwn.egg-info/")}
    if found != tracked | ADDED:
        fail(f"the sdist should have {sorted(tracked - found)}, and should not {sorted(found - tracked - ADDED)}")
    files = contents(wheel)
    foreign = sorted(name for name in files if not name.startswith(("fwn/", "fwn-")))
    if foreign:
        fail(f"the wheel has more than fwn: {foreign}")
    direct = contents(only(WORK / "direct", "*.whl"))
    if differ := sorted(name for name in files.keys() | direct.keys() if files.get(name) != direct.get(name)):
        fail(f"the wheels of the sdist and of the checkout differ in {differ}")
    metadata = message_from_bytes(files[next(name for name in files if name.endswith("/METADATA"))])
    print(f"  {metadata['Name']} {metadata['Version']}: sdist {len(found)} files, {sdist.stat().st_size / 1e6:.1f} MB")
    print(f"  wheel {len(files)} files, {wheel.stat().st_size / 1e6:.1f} MB")
    return unpacked


def pythons() -> Iterator[tuple[str, str]]:
    """(version, path) of each Python of .ci/pythons that is found here."""
    for line in run(ROOT / ".ci" / "pythons").splitlines():
        version, _, path = line.partition(" ")
        if path:
            yield version, path
        else:
            print(f"  Python {version} is not found here and not tried")


def try_out(python: str, distribution: Path, source: Path, commit: str, label: str) -> None:
    """Installs a distribution in a new environment, and uses it in an empty folder."""
    start = time.monotonic()
    place, away = WORK / label, WORK / f"{label}-away"
    away.mkdir()
    run(python, "-m", "venv", place)
    own = place / "bin" / "python"
    run(own, "-m", "pip", "install", "-q", "--disable-pip-version-check", distribution)
    run(own, "-m", "pip", "check")
    listed = run(own, "-c", "from importlib.metadata import files; print(*files('fwn'), sep=chr(10))").splitlines()
    if foreign := [name for name in listed if not name.startswith(OWNED)]:
        fail(f"{label}: fwn also installed {foreign}")
    if COMMAND not in listed:
        fail(f"{label}: there is no command fwn")

    def fwn(*args: str | Path) -> str:
        return run(place / "bin" / "fwn", *args, cwd=away, JAX_PLATFORMS="cpu", XDG_CACHE_HOME=str(WORK / "cache"))

    version = fwn("--version")
    if f"commit {commit}\n" not in version or "devices: cpu, 1 × cpu" not in version:
        fail(f"{label}: fwn --version prints\n{version}")
    run(own, "-c", COLD, cwd=away)
    programs = [line.split()[0] for line in fwn("--help").partition("programs:\n")[2].splitlines()]
    for name in programs:
        fwn(name, "--help")
    mel = source / "voices" / "lj-mini" / "mels" / "LJ002-0173.npy"
    fwn("sample", f"--mel={mel}", "--output=from_mel")
    if distribution.suffix == ".whl":  # the sdist makes the same one
        use(fwn, source, away, mel)
        check_types(own, away)
    for folder in away.glob("from_*"):
        if not [*folder.glob("*.wav")]:
            fail(f"{label}: there is no audio in {folder}")
    print(f"  {label}: {len(programs)} programs, {time.monotonic() - start:.0f} s", flush=True)


def use(fwn: Callable[..., str], source: Path, away: Path, mel: Path) -> None:
    """Every kind of program once: from recordings to a model, its speech and its figures. The voices' samples do."""
    (away / "corpus").mkdir()
    recordings = sorted(source.glob("voices/*/samples/*.flac"))
    for i, file in enumerate(recordings):
        shutil.copy(file, away / "corpus" / f"{i}.flac")
    fwn("sample", f"--wav={recordings[0]}", "--output=from_wav")
    fwn("mel", "inspect", mel)
    fwn("prepare", "--corpus=folder", "--input=corpus", "--output=data")
    fwn("train", *TRAIN, "--config.data=data", "--workdir=run")
    fwn("export", "--ckpt=run", "--output=voice")
    fwn("sample", "--ckpt=voice", f"--mel={mel}", "--output=from_voice")
    fwn("evaluate", "--ckpt=run", "--data=data", "--output=results")
    fwn("listening", "build", "--systems=Small=results", "--output=listening")


def check_types(python: Path, away: Path) -> None:
    """A program that uses the installed package gets its types."""
    (away / "typed.py").write_text(TYPED, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", f"--python-executable={python}", "--cache-dir=types", "typed.py"]
    seen = run(*command, cwd=away)
    if "-> fwn.synthesis.vocoder.Vocoder" not in seen:
        fail(f"{away.name}: a type checker sees\n{seen}")


def main() -> None:
    start = time.monotonic()
    if WORK.exists():
        shutil.rmtree(WORK)
    WORK.mkdir(parents=True)
    print("[1/4] a clone of the last commit, its sdist and wheel", flush=True)
    if run("git", "status", "--porcelain", "--untracked-files=no", cwd=ROOT):
        print("  there are changes that are not committed: they are not in it")
    source = WORK / "source"
    run("git", "clone", "-q", ROOT, source)
    commit = run("git", "rev-parse", "HEAD", cwd=source).strip()
    sdist, wheel = build(source)
    print("[2/4] metadata and files", flush=True)
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    unpacked = check_files(source, sdist, wheel)
    print(f"[3/4] in the unpacked sdist: {', '.join(TESTS)}", flush=True)
    run(sys.executable, "-m", "pytest", "-q", *TESTS, cwd=unpacked, PYTHONPATH=str(unpacked))
    print("[4/4] in new environments", flush=True)
    for version, python in pythons():
        for kind, distribution in (("wheel", wheel), ("sdist", sdist)):
            try_out(python, distribution, source, commit, f"{kind}-{version}")
    print(f"Done in {time.monotonic() - start:.0f} s. {sdist.name} and {wheel.name} are in {WORK / 'dist'}")


if __name__ == "__main__":
    main()
