"""Workdirs and data sets of earlier versions can be read: tests/golden has one of each format.

workdir_…: small.config after 4 steps (ema_decay 0.9), of 2026-11-28, with results of the first version.
data_0.1: three recordings of small.record, of the same day. These two of version 0.1 have no checksums.
export_1: a folder of fwn.export with the weights of test_portable.drawn, of 2026-11-30, written with jax 0.10.2, and
the audio of its model.

What has been on main, by the first commit that wrote it. The weights and data sets of the first six and of
9cc5911 were read by today's code once; those in golden/ are sampled from and trained on in every run of the tests.

    c247dbb   config has teacher and loss; optimiser has rate and clip, no kind
    1de1998   config.model has conditioner
    c6b07be   config.model has odd and prediction
    d1121d9   config.model has autoregression
    4871787   optimiser.kind, autoregression.taps               golden/workdir_0.1, golden/data_0.1
    5bb2cf0   optimizer with learning_rate and max_grad_norm
    5bb78ec   checksums of arrays, record and config.json
    4c3042f   checksums of data sets
    d3b4855   max_seconds and verify_data in config             golden/workdir_checksums
    281b1bc   the guard in the state of training                golden/workdir_guard
"""

import importlib.util
import json
import zipfile

import jax
import numpy as np
import pytest
import small

import fwn
from experiments import base, parallel_wavenet
from fwn import config as configs
from fwn.data.corpus import Corpus
from fwn.errors import UserError
from fwn.mel import PRESETS

FORMATS = ["workdir_0.1", "workdir_checksums", "workdir_guard"]


@pytest.fixture(params=FORMATS)
def stored(request, tmp_path):
    """(the workdir, results of the version that wrote it)"""
    golden = small.ROOT / "tests" / "golden"
    with zipfile.ZipFile(golden / f"{request.param}.zip") as file:
        file.extractall(tmp_path / "run")
    with np.load(golden / "workdir_0.1.npz") as arrays:  # the same run, so the same results
        return tmp_path / "run", {name: arrays[name] for name in arrays.files}


def test_samples_and_likelihoods_equal_those_of_the_old_version(stored):
    workdir, computed = stored
    vocoder = fwn.load(workdir)
    audio = vocoder(computed["mel"], temperature=1.0, key=jax.random.key(7))
    np.testing.assert_allclose(audio, computed["audio"], rtol=0, atol=1e-5 * np.abs(computed["audio"]).max())
    nats = vocoder.log_likelihood(computed["recording"], computed["recording_mel"])
    assert float(nats) == pytest.approx(float(computed["nats"]), abs=1e-5)


def test_training_can_be_continued(stored, corpus):
    workdir, computed = stored
    result = small.program("fwn.train", *small.config_flags(corpus, num_steps=6, ema_decay=0.9), f"--workdir={workdir}")
    assert "continuing from the checkpoint of step 4" in result.out, result
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    losses = [r["nats_per_sample"] for r in records if r["what"] == "train" and r["step"] > 4]
    np.testing.assert_allclose(losses, computed["losses"], atol=1e-4)


def test_an_export_is_read_by_fwn_and_by_its_own_loader(tmp_path):
    """With jax 0.10.2 and later; after how many versions jax no longer reads its programs, is seen here."""
    golden = small.ROOT / "tests" / "golden"
    with zipfile.ZipFile(golden / "export_1.zip") as file:
        file.extractall(tmp_path)
    with np.load(golden / "export_1.npz") as computed:
        mel, audio = computed["mel"], computed["audio"]
    spec = importlib.util.spec_from_file_location("load_fwn", tmp_path / "load_fwn.py")
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    for made in fwn.load(tmp_path)(mel, key=jax.random.key(7)), loader.load(tmp_path)(mel, seed=7):
        np.testing.assert_allclose(made, audio, rtol=0, atol=1e-5 * np.abs(audio).max())


def test_a_data_set_without_checksums(tmp_path, capsys):
    """It is read and trained on; preparing it again adds checksums and changes no stored sample."""
    with zipfile.ZipFile(small.ROOT / "tests" / "golden" / "data_0.1.zip") as file:
        file.extractall(tmp_path / "data")
    old = Corpus(tmp_path / "data")
    old.verify()
    assert "not verified: version 0.1 stored no checksums" in capsys.readouterr().out
    before = [(old.audio(i), old.mel(i)) for i in range(3)]
    small.record(tmp_path / "in", [3800, 4600, 2300])
    settings = ["--corpus=folder", f"--input={tmp_path / 'in'}", "--test_share=0.34", "--mel_dtype=float16"]
    result = small.program("data_prep.prepare", *settings, f"--output={tmp_path / 'data'}", "--workers=1")
    assert result.code == 0, result
    assert "1 shards are damaged, or of version 0.1, which had no checksums: they are made again" in result.out
    new = Corpus(tmp_path / "data")
    new.verify()
    assert new.utterances[0].audio_crc32
    for (audio, mel), i in zip(before, range(3), strict=True):
        np.testing.assert_array_equal(new.audio(i), audio)
        np.testing.assert_allclose(new.mel(i), mel, atol=1e-3)  # half precision


def test_a_loss_term_that_is_gone(tmp_path):
    """Parallel WaveNets had a term `features`. Of weight 0 it is dropped; else the message says what to do."""
    config, mel = parallel_wavenet.get_config(), PRESETS["flowavenet"]
    record = configs.record(config, mel)
    for weight in (0.0, 0.5):
        record["config"]["loss"]["features"] = weight
        (tmp_path / configs.FILE).write_text(json.dumps(record))
        if weight:
            with pytest.raises(UserError, match=r"loss\.features is 0\.5, a term that fwn no longer has; set it to 0"):
                configs.read(tmp_path)
        else:
            assert configs.read(tmp_path)[0].loss.to_dict() == config.loss.to_dict()


def test_an_experiment_file_of_an_earlier_version_is_completed():
    """One that lists all fields by itself lacks those that came since; they have the values that change nothing."""
    config = base.get_config()
    new = "verify_data", "max_seconds", "max_spike", "max_returns", "freeze", "mel_noise", "speakers"
    whole = configs.copied(config)
    with config.unlocked():
        for name in new:
            del config[name]
    completed = configs.copied(config)
    assert configs.plain(completed) == configs.plain(whole)
    configs.check(completed, configs.mel_of(completed), "--config")
    with pytest.raises(UserError, match="missing verify_data, mel_noise, speakers, max_seconds, freeze"):
        configs.check(config, configs.mel_of(config), "--config")
