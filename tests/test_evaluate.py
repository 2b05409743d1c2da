"""fwn.evaluate: table, files and figures; short and faint recordings do not stop it."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import small
import soundfile

import fwn
from data_prep.prepare import Kind, prepare
from fwn.audio import audio_file
from fwn.data.corpus import Corpus
from fwn.evaluation import bits, measure
from fwn.flows.densities import LSB
from fwn.mel import PRESETS
from fwn.shipped import experiment
from fwn.systems import build

KIND = Kind(PRESETS["flowavenet"], "int16", "float32")


@pytest.fixture(scope="module")
def evaluated(run, corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("evaluated")
    result = small.program(
        "fwn.evaluate",
        f"--ckpt={run}",
        f"--data={corpus}",
        f"--output={output}",
        "--temperature=0",
        "--temperature=0.8",
    )
    assert (result.code, result.err) == (0, "")
    return output, result.out


def test_the_output_files(evaluated, corpus):
    output, printed = evaluated
    names = [Corpus(corpus).utterances[i].name for i in (8, 9)]
    files = {"results.json", "table.txt", "table.md", "loss.png"}
    for name in names:
        files |= {f"{name}.T0.0.wav", f"{name}.T0.8.wav", f"{name}.recording.wav", f"{name}.png"}
    assert {path.name for path in output.iterdir()} == files
    assert (output / "table.txt").read_text() in printed
    for name, i in zip(names, (8, 9), strict=True):
        for kind in ("T0.0", "T0.8", "recording"):
            assert soundfile.info(output / f"{name}.{kind}.wav").frames == len(Corpus(corpus).audio(i))


def test_likelihoods_are_the_vocoders(evaluated, run, corpus):
    utterances = json.loads((evaluated[0] / "results.json").read_text())["utterances"]
    vocoder, prepared = fwn.load(run), Corpus(corpus)
    assert len(utterances["likelihood"]) == 2
    for i in (8, 9):
        row = utterances["likelihood"][prepared.utterances[i].name]
        assert row["nats_per_sample"] == pytest.approx(vocoder.log_likelihood(prepared.audio(i), prepared.mel(i)), 1e-6)
        assert row["nats_per_sample_dequantised"] == pytest.approx(row["nats_per_sample"], abs=0.05)
        assert 0 < row["inverse_error"] < 1e-4


def test_bits_stand_beside_the_likelihood(evaluated, corpus):
    output, printed = evaluated
    found, prepared = json.loads((output / "results.json").read_text()), Corpus(corpus)
    for i in (8, 9):
        row = found["utterances"]["likelihood"][prepared.utterances[i].name]
        assert row["bits_by_model"] == pytest.approx(15 - row["nats_per_sample_dequantised"] / np.log(2), abs=1e-9)
        assert row["bits_by_flac"] == pytest.approx(bits.by_flac(prepared.audio(i), small.RATE))
    assert found["bits"]["by_histogram_of_all"] >= found["summary"]["likelihood"]["bits_by_histogram"]["mean"]
    assert found["bits"]["of_float16_mel"] == 5
    assert "bits/sample, by FLAC: " in printed
    assert "theoretical: no coder, the mel not counted" in printed


def test_the_table_says_how_it_was_measured(evaluated):
    printed = evaluated[1]
    for words in ("2 held-out utterances", "as stored (16 bit)", "with 1-LSB uniform dequantisation", "95% confidence"):
        assert words in printed
    assert "T = 0.0" in printed
    assert "T = 0.8" in printed


def test_the_card_says_what_was_measured(evaluated, run, corpus):
    card = json.loads((evaluated[0] / "results.json").read_text())["card"]
    assert card["parameters"] == fwn.load(run).n_params
    assert (card["trained_on"], card["training"]["steps"]) == (str(corpus), small.REST["num_steps"])
    assert {split: part["utterances"] for split, part in card["parts"].items()} == {"train": 8, "test": 2}
    seconds = sum(len(Corpus(corpus).audio(i)) for i in (8, 9)) / small.RATE
    assert card["parts"]["test"]["seconds"] == pytest.approx(seconds)
    assert card["chapters"] == card["transcripts"] == {}  # the corpus is not LJSpeech


def test_a_page_is_made_of_it(evaluated, tmp_path):
    flags = [f"--systems=Small={evaluated[0]}@0.8", f"--output={tmp_path / 'out'}"]
    result = small.program("fwn.listening", "build", *flags)
    assert (result.code, result.err) == (0, "")
    page = (tmp_path / "out" / "demo" / "index.html").read_text()
    mean = json.loads((evaluated[0] / "results.json").read_text())["summary"]["T = 0.8"]["log_mel_l1"]["mean"]
    assert re.search(rf"Small, T = 0\.8<small>2 held-out clips</small></th><td>{mean:.3f}<", page)
    assert "flowavenet, " in page


def test_chapters_and_transcripts_of_ljspeech_are_kept(run, tmp_path):
    (tmp_path / "in" / "wavs").mkdir(parents=True)
    names = ("LJ001-0001", "LJ001-0002", "LJ002-0001")
    for i, name in enumerate(names):
        audio_file.write(tmp_path / "in" / "wavs" / f"{name}.wav", small.speech(i, 9000), small.RATE)
    (tmp_path / "in" / "metadata.csv").write_text("".join(f"{name}|Of {name}.|\n" for name in names))
    assert prepare("ljspeech", tmp_path / "in", tmp_path / "data", KIND, 0.67, None, 1) == []
    flags = [f"--ckpt={run}", f"--data={tmp_path / 'data'}", "--utterances=1", f"--output={tmp_path / 'out'}"]
    assert small.program("fwn.evaluate", *flags).code == 0
    card = json.loads((tmp_path / "out" / "results.json").read_text())["card"]
    assert card["transcripts"] == {name: f"Of {name}." for name in names[1:]}
    assert card["chapters"] == {
        "LJ001-0002": {"name": "LJ001", "train": 1},
        "LJ002-0001": {"name": "LJ002", "train": 0},
    }


def test_short_and_faint_recordings_do_not_stop_it(run, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    audio_file.write(folder / "a.wav", small.speech(0, 9000), small.RATE)
    audio_file.write(folder / "b_short.wav", small.speech(1, 1100), small.RATE)
    faint = np.zeros(8000, np.float32)
    faint[4000] = 2e-4  # the lowest peak that does not count as silence
    audio_file.write(folder / "c_faint.wav", faint, small.RATE)
    assert prepare("folder", folder, tmp_path / "data", KIND, 0.67, None, 1) == []
    result = small.program("fwn.evaluate", f"--ckpt={run}", f"--data={tmp_path / 'data'}")
    assert (result.code, result.err) == (0, "")
    assert "2 held-out utterances" in result.out


def test_loss_curve_of_a_journal_with_an_incomplete_last_line(run, corpus, tmp_path):
    import shutil

    killed = shutil.copytree(run, tmp_path / "run")
    with (killed / "metrics.jsonl").open("a") as file:
        file.write('{"what": "trai')
    flags = [f"--ckpt={killed}", f"--data={corpus}", "--utterances=1", f"--output={tmp_path / 'out'}"]
    result = small.program("fwn.evaluate", *flags)
    assert (result.code, result.err) == (0, "")
    assert (tmp_path / "out" / "loss.png").is_file()


def test_a_mixture_of_logistics_is_measured_on_integers(rng):
    """A mixture is trained on integers, so noise would be outside its distribution. All other models get noise."""
    recording = (rng.integers(-2000, 2000, 4000) * LSB).astype(np.float32)
    noisy = measure.dequantised(recording, rng)
    for name, expected in (("tiny_wavenet_mol", recording), ("tiny_wavenet", noisy), ("tiny", noisy)):
        vocoder = SimpleNamespace(system=build(experiment(name)))
        np.testing.assert_array_equal(measure.likelihood_input(vocoder, recording, noisy), expected)
