"""Mels of any hop, from recordings to speech: sizes that follow from the hop, and positions that do not divide it."""

import json
import math

import numpy as np
import pytest
import small

from fwn import config as configs
from fwn import load
from fwn.audio import audio_file
from fwn.data.corpus import Corpus
from fwn.errors import UserError
from fwn.mel import PRESETS, MelContract, fitted
from fwn.mel.hop import divisor, strides
from fwn.shipped import experiment

SIZES = {
    "model.n_block": 3,  # positions of 8 samples
    "model.n_layer": 1,
    "model.n_flow": 1,
    "model.channels": 4,
    "model.prior_channels": 4,
    "model.block_per_split": 2,
    "model.prior_layer": 1,
    "model.prediction.order": 12,
    "model.prediction.first_order": 4,
    "model.prediction.channels": 4,
    "model.autoregression.coefficients": 2,
    "model.autoregression.channels": 4,
    "model.autoregression.n_layer": 1,
}
REST = {
    "frames": 5,
    "batch_size": 4,
    "num_steps": 2,
    "log_every": 1,
    "eval_every": 2,
    "eval_batches": 1,
    "save_every": 2,
}


def mel_json(path, hop: int, rate: int) -> str:
    fields = PRESETS["tacotron2"].to_dict() | {"name": f"hop{hop}", "hop_length": hop, "sample_rate": rate}
    path.write_text(json.dumps(fields | {"fmax": 7000.0}))
    return str(path)


@pytest.mark.parametrize(("hop", "rate", "conditioner"), [(300, 24000, "squeezed"), (275, 22050, "frames")])
def test_from_recordings_to_speech(tmp_path, hop, rate, conditioner):
    """A hop of 75 · 4 and one that is odd; every size that follows from the hop is as in tiny.py."""
    mel = mel_json(tmp_path / "mel.json", hop, rate)
    recordings = small.record(tmp_path / "wavs", [12_000] * 10)
    prepared = f"--input={recordings}", f"--output={tmp_path / 'data'}", f"--mel={mel}", "--workers=1"
    assert small.program("data_prep.prepare", "--corpus=folder", *prepared).code == 0
    changes = SIZES | REST | {"mel": mel, "data": tmp_path / "data", "model.conditioner": conditioner}
    run = tmp_path / "run"
    flags = ["--config=tiny", *(f"--config.{name}={value}" for name, value in changes.items()), f"--workdir={run}"]
    assert (found := small.program("fwn.train", *flags)).code == 0, found.err
    found = small.program("fwn.train", *flags)  # the config is that of the workdir
    assert found.code == 0, found.err

    model = configs.read(run)[0].model
    assert math.prod(model.upsample_strides) == hop
    assert hop % model.prediction.subframe == 0
    assert hop % model.autoregression.block == 0
    vocoder, corpus = load(run), Corpus(tmp_path / "data")
    audio, mel = corpus.audio(0), corpus.mel(0)
    assert len(audio) == len(mel) * hop
    assert np.isfinite(vocoder.log_likelihood(audio, mel))
    np.testing.assert_allclose(vocoder.roundtrip(audio, mel), audio, atol=1e-4)
    found = small.program("fwn.sample", f"--ckpt={run}", f"--wav={recordings / 'u00.wav'}", f"--output={tmp_path}")
    assert found.code == 0, found.err
    copy, _ = audio_file.read(tmp_path / "u00.wav", rate, min_samples=1)
    assert len(copy) == len(mel) * hop


@pytest.mark.parametrize("hop", [1, 7, 80, 160, 200, 240, 256, 257, 275, 300, 320, 441, 480, 512, 600, 1024])
def test_sizes_that_follow_from_the_hop(hop):
    assert math.prod(strides(hop)) == hop
    for near in (16, 64):
        assert hop % divisor(hop, near) == 0
        assert min(hop, 8) <= divisor(hop, near)


def test_sizes_that_are_given_stay():
    """And with the hop of the presets the others are what they always were."""
    config = experiment("base")
    config.model.prediction.subframe = 32
    other = MelContract.from_dict(PRESETS["tacotron2"].to_dict() | {"hop_length": 300})
    found = fitted(config, other).model
    assert (found.upsample_strides, found.prediction.subframe, found.autoregression.block) == ((15, 20), 32, 15)
    assert config.model.upsample_strides == ()
    found = configs.copied(config).model
    assert (found.upsample_strides, found.prediction.subframe, found.autoregression.block) == ((16, 16), 32, 16)
    config.model.upsample_strides = (16, 16)
    with pytest.raises(UserError, match="make 256 samples per mel frame, but the mel contract has a hop of 300"):
        configs.check(configs.copied(config), other, "mine")
