"""What all tests share: four virtual CPU devices, float64 on demand, real speech where it is at hand."""

import os
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

# Before any computation, which is when jax starts its backend.
jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS", "cpu"))
jax.config.update("jax_num_cpu_devices", 4)
os.environ.setdefault("PJRT_NPROC", "16")  # jax 0.10 and 0.11 can deadlock with more virtual devices than threads


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
