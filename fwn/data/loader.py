"""Training batches: random crops of a data set. A global batch depends on (seed, step) only."""

from collections.abc import Iterator
from typing import Any

import grain
import numpy as np

from fwn.data.corpus import Corpus
from fwn.errors import UserError
from fwn.mel import with_speaker
from fwn.terminal import say


class Crops:
    """A grain source: the utterances of a split that have at least `frames` frames, the length of a crop.

    past: number of samples before the crop that come with it. who: float32 [utterances, S] of all utterances of the
    corpus: who speaks, in channels after those of the mel; None: the model is not told.
    """

    def __init__(self, corpus: Corpus, split: str, frames: int, past: int = 0, who: np.ndarray | None = None):
        self.corpus, self.frames, self.past, self.who = corpus, frames, past, who
        everything = corpus.split(split)
        if not everything:
            raise UserError(
                f"{corpus.path}: its {split} split is empty; prepare the data set with a --test_share that leaves "
                "utterances for both training and testing"
            )
        self.indices = [i for i in everything if corpus.utterances[i].frames >= frames]
        if not self.indices:
            raise UserError(
                f"{corpus.path}: none of the {len(everything)} utterances of the {split} split has the "
                f"{frames} frames of a crop; lower config.frames, or prepare more data"
            )
        if short := len(everything) - len(self.indices):
            say(f"{corpus.path}: {short} of {len(everything)} {split} utterances are shorter than a crop and left out")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> int:
        return self.indices[i]

    def crop(self, utterance: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """A crop at a random frame: audio [frames · hop] float32 in ±1 and its mel [frames, M + S]."""
        start = int(rng.integers(0, self.corpus.utterances[utterance].frames - self.frames + 1))
        audio, mel = self.corpus.window(utterance, start, self.frames)
        mel = with_speaker(mel, None if self.who is None else self.who[utterance])
        past = {"past": self.corpus.past(utterance, start, self.past)} if self.past else {}
        return {"audio": audio, "mel": mel, **past}


def batches(
    corpus: Corpus,
    split: str,
    *,
    frames: int,
    batch_size: int,
    seed: int,
    process: int = 0,
    processes: int = 1,
    past: int = 0,
    who: np.ndarray | None = None,
) -> grain.MapDataset:
    """`batches(...)[step]` is this process's share of the global batch of that step: {"audio", "mel", "index"}.

    past: if not 0, batches also have "past" [B, past], the samples before each crop (systems.base). who: see Crops.
    """
    source = Crops(corpus, split, frames, past, who)
    stream = grain.MapDataset.source(source).seed(seed).shuffle().repeat().random_map(source.crop)
    stream = stream.map_with_index(lambda i, example: {**example, "index": np.int32(i % 2**31)})
    # Crops are drawn before the stream is split, so the global batch does not depend on the number of processes.
    return stream[process::processes].batch(batch_size // processes, drop_remainder=True)


def iterate(stream: grain.MapDataset, first_step: int, threads: int = 2) -> Iterator[Any]:
    """The batches from `first_step` on, prefetched by threads."""
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4)
    iterator = iter(stream.to_iter_dataset(options))
    grain.experimental.set_next_index(iterator, first_step)
    return iterator
