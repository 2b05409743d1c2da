"""Training batches with NumPy only, for machines without grain. Silent crops are rarer than in fwn.data."""

from typing import Any

import numpy as np

from fwn.data.corpus import Corpus
from fwn.errors import UserError

QUIET = 1e-4  # crops of a lower mean square (-40 dB) are silence


class Batches:
    """Batches of random crops of a split, which depend on (seed, step) only. A crop can start at any frame.

    quiet_kept: only one in so many silent crops is used, since recordings have more silence than needed. past: see
    data.loader.batches.
    """

    def __init__(self, corpus: Corpus, split: str, config: Any, quiet_kept: int = 1, past: int = 0):
        self.past = past
        self.corpus, self.frames, self.size, self.seed = corpus, config.frames, config.batch_size, config.seed
        self.starts = np.array([s for i in corpus.split(split) for s in self._starts(i, quiet_kept)], np.int64)
        if not len(self.starts):
            raise UserError(
                f"{corpus.path}: no {split} utterance has the {config.frames} frames of a crop; lower config.frames"
            )

    def _starts(self, i: int, quiet_kept: int) -> list[tuple[int, int]]:
        """(utterance, first frame) of the crops of utterance i."""
        hop = self.corpus.contract.hop_length
        energy = np.concatenate([[0.0], np.cumsum((self.corpus.audio(i) ** 2).reshape(-1, hop).mean(1, dtype=float))])
        level = (energy[self.frames :] - energy[: -self.frames]) / self.frames
        return [(i, s) for s, value in enumerate(level) if value >= QUIET or s % quiet_kept == 0]

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((self.seed, step))
        chosen = self.starts[rng.integers(len(self.starts), size=self.size)]
        windows = [self.corpus.window(int(i), int(s), self.frames) for i, s in chosen]
        audio, mel = (np.stack(arrays) for arrays in zip(*windows, strict=True))
        index = np.arange(step * self.size, (step + 1) * self.size) % 2**31
        batch = {"audio": audio, "mel": mel, "index": index.astype(np.int32)}
        if self.past:
            batch["past"] = np.stack([self.corpus.past(int(i), int(s), self.past) for i, s in chosen])
        return batch
