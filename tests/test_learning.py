"""Training learns, and learns from the mel: by how much is stated."""

import numpy as np
import pytest
import small

import fwn
from data_prep.prepare import Kind, prepare
from fwn.audio import audio_file
from fwn.data.corpus import Corpus
from fwn.evaluation import measure
from fwn.mel import PRESETS

MODEL = {"prediction.order": 0, "autoregression.coefficients": 0, "s_max": 2.0}
OPTIMIZER = {"learning_rate": 1e-2, "warmup": 5, "halve_every": 1000}


@pytest.fixture(scope="module")
def loud_and_quiet(tmp_path_factory):
    """Noise whose level jumps every eight frames, by up to 40 dB: only the mel says beforehand what it will be."""
    folder = tmp_path_factory.mktemp("noise")
    (folder / "in").mkdir()
    for i in range(10):
        rng = np.random.default_rng(i)
        level = np.repeat(10.0 ** rng.uniform(-2.5, -0.5, 8), 8 * small.HOP)
        audio_file.write(folder / "in" / f"n{i}.wav", 0.3 * level * rng.normal(size=level.size), small.RATE)
    kind = Kind(PRESETS["flowavenet"], "int16", "float32")
    assert prepare("folder", folder / "in", folder / "data", kind, 0.2, None, 1) == []
    return folder / "data"


@pytest.mark.parametrize("conditioner", ["squeezed", "frames"])
def test_likelihood_rises_and_is_that_of_this_mel(loud_and_quiet, tmp_path, conditioner):
    """In nats/sample of held-out noise: above the untrained model's by 1, and above that under other mels by 0.3."""
    fields = {f"model.{name}": value for name, value in (MODEL | {"conditioner": conditioner}).items()}
    fields |= {f"optimizer.{name}": value for name, value in OPTIMIZER.items()}
    flags = small.config_flags(loud_and_quiet, **fields, num_steps=120, eval_every=120, save_every=120)
    result = small.program("fwn.train", *flags, f"--workdir={tmp_path}")
    assert result.code == 0, result
    trained, corpus = fwn.load(tmp_path), Corpus(loud_and_quiet)
    batch = measure.synthetic(4, 8, corpus.contract, 0)
    untrained = measure.untrained(trained.config, batch, 0)
    held_out = [(corpus.audio(i), corpus.mel(i)) for i in corpus.split("test")]

    def nats(vocoder, change=lambda mel: mel):
        return np.mean([vocoder.log_likelihood(audio, change(mel)) for audio, mel in held_out])

    assert nats(trained) > nats(untrained) + 1
    assert nats(trained) > nats(trained, lambda mel: mel[::-1]) + 0.3
    assert nats(trained) > nats(trained, lambda mel: np.random.default_rng(0).permutation(mel)) + 0.3
