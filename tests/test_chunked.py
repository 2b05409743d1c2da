"""Speech in chunks and from streams is that of one pass over all, at every boundary and for every system."""

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fwn import chunked
from fwn.chunked import bucket
from fwn.errors import UserError
from fwn.mel import PRESETS
from fwn.systems import build
from fwn.vocoder import Vocoder

MELS = 4
NARROW = {"channels": 2, "prior_channels": 2, "weight_norm": False}
LITE = NARROW | {"n_block": 4, "n_flow": 3, "upsample_strides": (4, 4)}
WAVENET = {"channels": 4, "gate_channels": 4, "skip_channels": 4, "weight_norm": False}
# experiment, what is changed in its model: the paper's depth at small width, and small ones
DEEP = {
    "base": ("base", NARROW),
    "base without split": ("flowavenet_no_split", NARROW),
    "causal base": ("flowavenet_causal", NARROW),
    "clarinet": ("clarinet", WAVENET),
}
SHALLOW = {
    "lite": ("base", LITE | {"block_per_split": 2}),
    "lite, odd": ("base", LITE | {"block_per_split": 1, "n_layer": 3, "prior_layer": 1, "upsample_strides": (3, 16)}),
    "lite without split": ("base", LITE | {"block_per_split": 4}),
    "causal lite": ("base", LITE | {"causal": True, "block_per_split": 2}),
    "clarinet": ("clarinet", WAVENET | {"n_layer": 4, "upsample_strides": (4, 4)}),
    "parallel_wavenet": ("parallel_wavenet", WAVENET | {"n_layer": 2, "stacks": (1, 2), "upsample_strides": (4, 4)}),
    "wavenet": ("wavenet_gaussian", WAVENET | {"n_layer": 3, "upsample_strides": (4, 4)}),
    "wavenet_mol": ("wavenet_mol", WAVENET | {"n_layer": 3, "upsample_strides": (4, 2)}),
}


def vocoder(experiment: str, fields: dict[str, Any]) -> Vocoder:
    """A model with weights away from every special value, whose audio neither dies out nor grows."""
    config = importlib.import_module(f"experiments.{experiment}").get_config().unlock()
    config.model.update(fields)
    hop = int(np.prod(config.model.upsample_strides))
    batch = {"audio": np.zeros((1, hop)), "mel": np.zeros((1, 1, MELS)), "index": np.zeros(1, np.int32)}
    batch = jax.tree.map(lambda a: a.astype(np.float32) if a.dtype == float else a, batch)
    shapes = jax.eval_shape(build(config).init, jax.random.key(0), batch, {})
    rng = np.random.default_rng(0)

    def weight(path: Any, leaf: Any) -> np.ndarray:
        drawn = rng.normal(size=leaf.shape).astype(np.float32)
        name = path[-1].key
        if name == "kernel":
            return drawn / np.sqrt(np.prod(leaf.shape[:-1])) * (0.3 if path[-2].key == "out" else 1)
        return 1 + 0.05 * drawn if name == "scale" else 0.1 * drawn

    mel = dataclasses.replace(PRESETS["flowavenet"], hop_length=hop, n_mels=MELS)
    return Vocoder(config, mel, jax.tree_util.tree_map_with_path(weight, shapes), 0)


def mel_of(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (frames, MELS)).astype(np.float32)


def close(a: np.ndarray, b: np.ndarray) -> bool:
    """To 1e-5 of the largest sample, or of full scale: sums of another shape are rounded in another order."""
    assert a.shape == b.shape
    assert 0.05 < b.std() < 20
    return bool(abs(a - b).max() <= 1e-5 * max(1, abs(b).max()))


@pytest.fixture(scope="module", params=SHALLOW)
def shallow(request: pytest.FixtureRequest) -> Vocoder:
    return vocoder(*SHALLOW[request.param])


def heard(v: Vocoder, frames: int, at: int) -> tuple[int, int]:
    """Frames of audio (before, after) frame `at` of the mel that change if this frame of mel and noise is no number.

    A NaN reaches all that is computed of it, whatever the weights.
    """
    frame_of_noise, inverse = at, v.system.sample
    mel = mel_of(frames)
    mel[at] = np.nan

    def sample(mel: Any) -> Any:
        return inverse(v.params, mel, jnp.stack([jax.random.key(0)]), jnp.nan_to_num(mel[0, :, 0]) * 0 + 1, None)

    raise NotImplementedError(sample, frame_of_noise)


@pytest.mark.parametrize("name", [*DEEP])
def test_chunks_of_the_papers_depth(name: str) -> None:
    """One frame at a time: every frame's edges are boundaries."""
    v = vocoder(*DEEP[name])
    mel = mel_of(sum(v.system.halo) + 30)
    whole = v(mel, chunk=0)
    assert close(v(mel, chunk=1), whole)
    assert close(v(mel, chunk=25), whole)


def test_chunks_of_every_length(shallow: Vocoder) -> None:
    """Longer than the mel, shorter than the halo, and all between."""
    mel = mel_of(70)
    whole = shallow(mel, chunk=0)
    for chunk in (1, 2, 3, 5, 8, 13, 34, 35, 63, 64, 69, 70, 71, 200):
        assert close(shallow(mel, chunk=chunk), whole), chunk
