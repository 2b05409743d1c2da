"""Held-out figures during training."""

from typing import Any

import jax
import numpy as np

from fwn.config import Speakers
from fwn.data.corpus import Corpus
from fwn.mel import with_speaker
from fwn.training.journal import Journal, score
from fwn.training.parallel import Parallel
from fwn.training.step import State, held_out

PREVIEW = 256  # mel frames of the held-out utterance in TensorBoard


class Examiner:
    """Computes loss and metrics over fixed held-out crops, and a sample and the inverse error of one utterance."""

    def __init__(self, system: Any, config: Any, parallel: Parallel, corpus: Corpus, tests: Any, frozen: Any):
        self.frozen = frozen
        self.evaluate = parallel.compile(held_out(system, config))
        self.batches, self.parallel = [tests[i] for i in range(config.eval_batches)], parallel
        self.sample, self.temperature = jax.jit(system.sample), system.temperature
        self.roundtrip = None if system.roundtrip is None else jax.jit(system.roundtrip)
        self.key = jax.random.key(config.seed)[None]
        utterance = corpus.split("test")[0]
        self.audio, mel = corpus.window(utterance, 0, min(corpus.utterances[utterance].frames, PREVIEW))
        speakers = Speakers(config)
        self.mel = with_speaker(mel, speakers.numbers(speakers.of(corpus, utterance)))

    def __call__(self, step: int, state: State, journal: Journal) -> float:
        """Logs the figures, of a flow also the largest |inverse(forward(audio)) - audio|. Returns the score."""
        weights = self.parallel.all_gather(state.split()[0])
        results = [self.evaluate(weights, self.frozen, self.parallel.batch(batch)) for batch in self.batches]
        mean = jax.tree.map(lambda *values: float(np.mean(jax.device_get(values))), *results)
        audio = np.asarray(self.sample(weights, self.mel[None], self.key, self.temperature))[0]
        if self.roundtrip is not None:
            again = np.asarray(self.roundtrip(weights, self.audio[None], self.mel[None]))[0]
            mean["inverse_error"] = float(np.abs(again - self.audio).max())
        heard = {"recording": self.audio, f"sample at T={self.temperature}": audio}
        journal.held_out(step, mean, heard)
        return score(mean)
