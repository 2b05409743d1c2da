"""What all tests share: four virtual CPU devices, float64 on demand, real speech where it is at hand."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import compiled as programs
import jax
import long
import numpy as np
import pytest
from pages import demo, evaluated, folders

__all__ = ["demo", "evaluated", "folders"]  # fixtures

# Before any computation, which is when jax starts its backend.
jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS", "cpu"))
jax.config.update("jax_num_cpu_devices", 4)
os.environ.setdefault("PJRT_NPROC", "16")  # jax 0.10 and 0.11 can deadlock with more virtual devices than threads
os.environ |= programs.settings()
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)

# Files of the longest tests, the longest first.
LONGEST = ["messages", "corpus_recipes", "commands", "resume", "exported", "divergence", "chunked", "latent"]
LONGEST += ["parallel", "checkpoints", "bijectors", "mel_conventions", "denoise", "recipes", "gradients"]
LONGEST += ["training", "kills", "formats", "students", "programs", "prediction", "bench", "evaluate"]
LONGEST += ["mel_files", "speakers", "platforms"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="Run the tests of tests/long.py too.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files come first, so that the workers end at about one time. Needs --no-loadscope-reorder."""
    collected, whole = {item.nodeid for item in items}, not any("::" in arg for arg in config.args)
    files = {node.partition("::")[0] for node in collected}
    if whole and (gone := {node for node in long.NAMES - collected if node.partition("::")[0] in files}):
        raise pytest.UsageError(f"tests/long.py names tests that are not there: {', '.join(sorted(gone))}")
    if whole and not config.getoption("--all"):
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in long.NAMES])
        items[:] = [item for item in items if item.nodeid not in long.NAMES]
    rank = {f"test_{name}": i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


def pytest_sessionfinish() -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        programs.trim()


@pytest.fixture(scope="module", autouse=True)
def forget() -> Iterator[None]:
    """Compiled programs leave memory after each file: a process ends in a crash at 65,530 maps (vm.max_map_count)."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def compiled() -> Path:
    """The folder of compiled programs: the same step is compiled once for all tests and their processes."""
    return programs.folder()


@pytest.fixture
def x64() -> Iterator[None]:
    """Float64 for the duration of one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    """The same random numbers in every run."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden values and real speech: $FWN_SHARED, or `shared` beside the checkout."""
    folder = Path(os.environ.get("FWN_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: set FWN_SHARED to the shared golden values and recordings")
    return folder


@pytest.fixture
def disk_of(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """disk_of("64k") is a folder on a disk of that size."""
    mounted = []

    def make(size: str) -> Path:
        disk = tmp_path / "disk"
        disk.mkdir()
        if (
            os.geteuid() != 0
            or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk]).returncode
        ):
            pytest.skip("may not mount a small tmpfs here")
        mounted.append(disk)
        return disk

    yield make
    for disk in mounted:
        subprocess.run(["umount", disk], check=True)


@pytest.fixture
def small_disk(disk_of: Callable[[str], Path]) -> Path:
    return disk_of("64k")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set: eight train utterances, of which one is too short for a crop, and two test utterances."""
    import small

    from data_prep.prepare import Kind, prepare
    from fwn.mel import PRESETS

    folder = tmp_path_factory.mktemp("corpus")
    small.record(folder / "in", [3000 + 700 * i for i in range(2, 9)] + [1500, 9000, 9500])
    kind = Kind(PRESETS["flowavenet"], "int16", "float32")
    assert prepare("folder", folder / "in", folder / "data", kind, 0.2, None, 1) == []
    return folder / "data"


@pytest.fixture(scope="session")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a finished run of eight steps, held-out figures at 4 and 8, on four devices."""
    import small

    workdir = tmp_path_factory.mktemp("run") / "run"
    result = small.program("fwn.train", *small.config_flags(corpus), f"--workdir={workdir}")
    assert result.code == 0, result
    return workdir
