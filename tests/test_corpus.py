"""Reading prepared data sets, and errors for invalid folders (test_prepare.py tests how they are made)."""

import json
import pickle

import numpy as np
import pytest

from fwn.data.corpus import FORMAT, Corpus, Utterance
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


def truncate(name, size):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


BROKEN = [
    (lambda folder: (folder / "manifest.json").unlink(), "not a prepared data set, or preparing it did not finish"),
    (truncate("manifest.json", 100), r"manifest.json: damaged \(.*\); prepare the data set again"),
    (truncate("manifest.json", 0), r"manifest.json: damaged \(.*\); prepare the data set again"),
    (lambda folder: (folder / "manifest.json").write_text('{"a": 1}'), "not the manifest of a prepared data set"),
    (edited(lambda m: m.update(format="fwn-corpus-9")), f"format 'fwn-corpus-9', but this version reads '{FORMAT}'"),
    (edited(lambda m: m.pop("utterances")), r"manifest.json: damaged \('utterances'\); prepare the data set again"),
    (edited(lambda m: m["utterances"][0].update(txt="x")), r"manifest.json: damaged \(.*'txt'"),
    (edited(lambda m: m["mel"].pop("fmin")), "manifest.json: mel: missing fmin"),
    (edited(lambda m: m["mel"].update(fmin=0)), "manifest.json: mel_hash is a13bd5d9b250, but its mel is flowavenet"),
    (lambda folder: (folder / "mel-1.npy").unlink(), "mel-1.npy: listed in the manifest but missing"),
    (truncate("audio-0.npy", 1000), r"audio-0.npy: damaged \(.*\); prepare the data set again"),
    (truncate("audio-0.npy", 0), r"audio-0.npy: damaged \(.*\); prepare the data set again"),
    (
        lambda folder: np.save(folder / "mel-1.npy", np.zeros((3, 80), np.float16)),
        r"mel-1.npy: holds float16 \[3, 80\], but the manifest says float16 \[4, 80\]",
    ),
]


@pytest.mark.parametrize(("damage", "message"), BROKEN)
def test_a_damaged_data_set_raises(folder, damage, message):
    damage(folder)
    with pytest.raises(UserError, match=message) as error:
        Corpus(folder)
    assert str(error.value).startswith(str(folder))


def test_invalid_folders_raise(tmp_path):
    with pytest.raises(UserError, match=r"none: no such folder; give one made by data_prep.prepare$"):
        Corpus(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file: not a folder; give one made by data_prep.prepare$"):
        Corpus(tmp_path / "file")
