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
    (edited(lambda m: m["utterances"][0].pop("name")), r"damaged \(utterances\[0\]: name is missing\)"),
    (edited(lambda m: m["utterances"][0].update(frames="5")), r"damaged \(utterances\[0\]: frames is '5'\)"),
    (edited(lambda m: m["utterances"][0].update(samples=True)), r"damaged \(utterances\[0\]: samples is True\)"),
    (edited(lambda m: m["utterances"][2].update(shard=2)), r"damaged \(utterances\[2\]: shard is 2 of 2\)"),
    (edited(lambda m: m["utterances"][2].update(shard=-1)), r"damaged \(utterances\[2\]: shard is -1 of 2\)"),
    (edited(lambda m: m["utterances"][1].update(start=6)), r"utterances\[1\]: frames 6 … 9 are not in shard 0"),
    (edited(lambda m: m["utterances"][1].update(start=-1)), r"utterances\[1\]: frames -1 … 2 are not in shard 0"),
    (edited(lambda m: m["utterances"][1].update(frames=0)), r"utterances\[1\]: frames 5 … 5 are not in shard 0"),
    (edited(lambda m: m["utterances"][1].update(split="dev")), r"utterances\[1\]: split is 'dev'"),
    (edited(lambda m: m["utterances"][1].update(name="u0")), r"2 utterances are named 'u0'"),
    (edited(lambda m: m["shards"][1].update(audio="../audio-1.npy")), r"shards\[1\]: '../audio-1.npy' is no .npy"),
    (edited(lambda m: m["shards"][1].update(mel="/etc/passwd")), r"shards\[1\]: '/etc/passwd' is no .npy file here"),
    (edited(lambda m: m["shards"][1].update(frames=0)), r"shards\[1\]: frames is 0"),
    (edited(lambda m: m["shards"].append(3)), r"damaged \("),
    (edited(lambda m: m.update(audio_dtype="object")), "audio_dtype is 'object'"),
    (edited(lambda m: m.update(sample_rate=8000)), "sample_rate is 8000"),
    (edited(lambda m: m.update(utterances=[])), "it has no utterances"),
    (edited(lambda m: m.update(checksum="0")), r"manifest.json: damaged \(its checksum is \w+, 0 was saved\); restore"),
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


def test_invalid_folders_raise(tmp_path):
    with pytest.raises(UserError, match=r"none: no such folder; give one made by data_prep.prepare$"):
        Corpus(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file: not a folder; give one made by data_prep.prepare$"):
        Corpus(tmp_path / "file")
