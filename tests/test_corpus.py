"""Reading prepared data sets, and errors for invalid folders (test_prepare.py tests how they are made)."""

import json
import pickle
import shutil

import chaos
import numpy as np
import pytest
import small

from fwn.data.corpus import Corpus
from fwn.data.manifest import FORMAT, Utterance
from fwn.errors import UserError
from fwn.mel import PRESETS

MEL = PRESETS["flowavenet"]


@pytest.fixture
def folder(tmp_path):
    """Two shards: utterances of 5 and 3 frames in the first, of 4 frames in the second."""
    rng, utterances, described = np.random.default_rng(0), [], []
    for shard, lengths in enumerate([(5, 3), (4,)]):
        frames, start = sum(lengths), 0
        np.save(tmp_path / f"audio-{shard}.npy", rng.integers(-32768, 32768, frames * 256).astype(np.int16))
        np.save(tmp_path / f"mel-{shard}.npy", rng.uniform(size=(frames, 80)).astype(np.float16))
        described.append({"audio": f"audio-{shard}.npy", "mel": f"mel-{shard}.npy", "frames": frames})
        for n in lengths:
            split = "test" if shard else "train"
            name = f"u{len(utterances)}"
            utterances.append(
                {"name": name, "split": split, "frames": n, "samples": n * 256 - 7, "shard": shard, "start": start}
                | {"source": f"{name}.wav", "sha256": "0"}
            )
            start += n
    manifest = {
        "format": FORMAT,
        "mel": MEL.to_dict(),
        "mel_hash": MEL.hash(),
        "sample_rate": 22050,
        "audio_dtype": "int16",
        "mel_dtype": "float16",
        "shards": described,
        "utterances": utterances,
        "left_out": [],
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def test_utterances_are_views_of_the_shards(folder):
    corpus = Corpus(folder)
    assert len(corpus) == 3
    assert corpus.contract == MEL
    assert corpus.utterances[1] == Utterance("u1", "train", 3, 761, 0, 5, "u1.wav", "0")
    audio, mel = np.load(folder / "audio-0.npy"), np.load(folder / "mel-0.npy")
    np.testing.assert_array_equal(corpus[1]["audio"], audio[5 * 256 :])
    np.testing.assert_array_equal(corpus[1]["mel"], mel[5:])
    assert isinstance(corpus[1]["audio"], np.memmap)
    assert corpus.audio(1).dtype == corpus.mel(1).dtype == np.float32
    np.testing.assert_array_equal(corpus.audio(1), audio[5 * 256 :] / np.float32(32768))
    assert corpus.split("train") == [0, 1]
    assert corpus.split("test") == [2]
    with pytest.raises(ValueError, match="split must be 'train' or 'test', got 'valid'"):
        corpus.split("valid")


def test_transcripts_are_optional(folder):
    """A set that was prepared before transcripts were stored has none."""
    assert [utterance.text for utterance in Corpus(folder).utterances] == ["", "", ""]
    edited(lambda m: m["utterances"][1].update(text="Printing, in the"))(folder)
    assert [utterance.text for utterance in Corpus(folder).utterances] == ["", "Printing, in the", ""]


def test_it_pickles_as_its_path(folder):
    corpus = Corpus(folder)
    stored = pickle.dumps(corpus)
    assert len(stored) < 500
    np.testing.assert_array_equal(pickle.loads(stored)[2]["mel"], corpus[2]["mel"])


def test_the_error_for_another_mel_contract_shows_both(folder):
    corpus = Corpus(folder)
    corpus.check_contract(MEL, "runs/base")
    with pytest.raises(UserError, match=rf"^runs/base has the mel contract hifigan \(\w+\), but {folder} was") as error:
        corpus.check_contract(PRESETS["hifigan"], "runs/base")
    assert "<- differs" in str(error.value)
    assert MEL.title in str(error.value)


def edited(change):
    def edit(folder):
        manifest = json.loads((folder / "manifest.json").read_text())
        change(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return edit


def test_no_flipped_bit_of_a_data_set_is_read(corpus, tmp_path):
    ends = chaos.data_bits(shutil.copytree(corpus, tmp_path / "data"), 200, np.random.default_rng(0))
    assert ends["refused"] > 100
    assert ends.keys() <= {"refused", "equal"}


def test_a_damaged_utterance_is_named_when_training_begins_or_when_it_is_read(corpus, tmp_path):
    """And prepared again; the rest of its shard can still be evaluated."""
    folder = shutil.copytree(corpus, tmp_path / "data")
    data = Corpus(folder)
    file = folder / data._files[0].audio
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    last = data.utterances[-1]
    begun = small.program("fwn.train", *small.config_flags(folder), f"--workdir={tmp_path / 'run'}")
    assert begun.err.startswith(f"python -m fwn.train: {file}: damaged: its checksum is"), begun
    assert f"(damaged utterances: {last.name}); run data_prep.prepare again" in begun.err
    data = Corpus(folder)
    data.audio(0)
    data.mel(len(data) - 1)
    with pytest.raises(UserError, match=f"{file}: damaged: the audio of {last.name} does not have its checksum"):
        data.audio(len(data) - 1)


def test_verification_can_be_left_out(corpus, tmp_path):
    folder = shutil.copytree(corpus, tmp_path / "data")
    file = folder / Corpus(folder)._files[0].mel
    content = bytearray(file.read_bytes())
    content[200] ^= 1
    file.write_bytes(content)
    settings = small.config_flags(folder, num_steps=1, eval_every=9, verify_data=False)
    assert small.program("fwn.train", *settings, f"--workdir={tmp_path / 'run'}").code == 0
