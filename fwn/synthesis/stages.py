"""What a flow makes on its way from noise to audio: the noise of models cut off after their first blocks."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from fwn.synthesis.vocoder import Vocoder
from fwn.systems import build
from fwn.training.checkpoints import Run


def truncated(run: Run, blocks: int, low: bool = True) -> Vocoder:
    """The model of the first blocks alone: its noise is what the inverse of the other blocks makes.

    low: with autoregression over blocks; without it, and without blocks, the noise is the excitation.
    """
    config = run.config.copy_and_resolve_references()
    with config.model.unlocked(), config.model.ignore_type():
        config.model.n_block = blocks
        for name in ("channels", "prior_channels"):
            if blocks and not isinstance(value := config.model[name], int):
                config.model[name] = tuple(value)[:blocks]
        if not low:
            config.model.autoregression.coefficients = 0
    predictor = {"prediction"} | ({"autoregression"} if low else set())
    flow = {f"block_{i}" for i in range(blocks)} | ({"upsample", "encoder"} if blocks else set())
    params = {name: value for name, value in run.params.items() if name in predictor | flow}
    return Vocoder(run._replace(config=config, params=params))


def cuts(run: Run) -> list[tuple[str, int, bool]]:
    """The arguments of `truncated` for each stage before the audio, with its title: noise first."""
    system, n = build(run.config, mel=run.mel), run.config.model.n_block
    found = [("noise", n, True)] + [(f"after {n - left} of {n} blocks", left, True) for left in range(n - 1, 0, -1)]
    if system.past and n:
        found.append((f"after {n} of {n} blocks", 0, True))
    if system.low_temperature is not None:
        found.append(("with the predicted low bands", 0, False))
    return found


def stages(run: Run, audio: np.ndarray, mel: np.ndarray, speaker: Any) -> Iterator[tuple[str, np.ndarray]]:
    """What the inverse makes on its way to `audio`, by title: noise first, audio last, one more than `cuts`."""
    for title, blocks, low in cuts(run):
        yield title, truncated(run, blocks, low).encode(audio, mel, speaker)
    n = run.config.model.n_block
    predicts = build(run.config, mel=run.mel).past
    yield "through the filters of the mel: speech" if predicts else f"after {n} of {n} blocks: speech", audio
