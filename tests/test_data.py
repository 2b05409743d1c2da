"""Batches depend on (seed, step) only, not on the number of processes, and their audio and mels are aligned."""

import json

import numpy as np
import pytest

from fwn.data import loader
from fwn.data.corpus import Corpus
from fwn.mel import PRESETS, align

FRAMES = 8


def batches(corpus, split="train", **changes):
    return loader.batches(Corpus(corpus), split, **({"frames": FRAMES, "batch_size": 4, "seed": 1} | changes))


def examples(*batches):
    """The examples of batches by index."""
    return {
        int(index): (audio, mel)
        for batch in batches
        for index, audio, mel in zip(batch["index"], batch["audio"], batch["mel"], strict=True)
    }


def assert_same(a, b):
    assert a.keys() == b.keys()
    for index in a:
        np.testing.assert_array_equal(a[index][0], b[index][0])
        np.testing.assert_array_equal(a[index][1], b[index][1])


def test_a_batch_depends_on_seed_and_step_only(corpus):
    first, again, other = batches(corpus), batches(corpus), batches(corpus, seed=2)
    for step in (5, 0, 3):
        assert_same(examples(first[step]), examples(again[step]))
    assert not np.array_equal(first[0]["audio"], other[0]["audio"])
    assert not np.array_equal(first[0]["audio"], first[7]["audio"])


def test_iterating_from_a_step_equals_indexing(corpus):
    stream, iterator = batches(corpus), loader.iterate(batches(corpus), 3)
    for step in (3, 4, 5):
        assert_same(examples(next(iterator)), examples(stream[step]))


@pytest.mark.parametrize("processes", [2, 4])
def test_the_global_batch_does_not_depend_on_the_number_of_processes(corpus, processes):
    whole = batches(corpus)
    parts = [batches(corpus, process=p, processes=processes) for p in range(processes)]
    for step in (0, 1, 9):
        assert_same(examples(whole[step]), examples(*(part[step] for part in parts)))


def test_examples_have_consecutive_indices(corpus):
    stream = batches(corpus)
    assert [stream[s]["index"].tolist() for s in (0, 1, 5)] == [[0, 1, 2, 3], [4, 5, 6, 7], [20, 21, 22, 23]]


def test_types_and_shapes(corpus):
    batch = batches(corpus)[0]
    assert {name: (a.shape, a.dtype) for name, a in batch.items()} == {
        "audio": ((4, FRAMES * 256), np.float32),
        "mel": ((4, FRAMES, 80), np.float32),
        "index": ((4,), np.int32),
    }


def test_every_epoch_is_a_permutation_of_the_utterances_that_are_long_enough(corpus, capsys):
    stream = batches(corpus, batch_size=1)
    assert capsys.readouterr().out == f"{corpus}: 1 of 8 train utterances are shorter than a crop and left out\n"
    prepared = Corpus(corpus)
    long = [prepared.mel(i) for i in prepared.split("train") if prepared.utterances[i].frames >= FRAMES]

    def which(mel):
        """Index of the utterance that has the frames of a crop."""
        found = [i for i, whole in enumerate(long) if any((whole == frame).all(1).any() for frame in mel[:1])]
        assert len(found) == 1
        return found[0]

    epochs = [[which(stream[e * 7 + i]["mel"][0]) for i in range(7)] for e in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(7))] * 3
    assert len(set(map(tuple, epochs))) > 1


@pytest.fixture
def impulses(tmp_path):
    """Utterances of 40 frames with one nonzero sample each."""
    contract, utterances, audio, mels = PRESETS["flowavenet"], [], [], []
    for i, at in enumerate([1000, 3333, 5120, 7777]):
        samples = np.zeros(40 * 256, np.float32)
        samples[at] = 0.9
        aligned, mel = align(samples, contract)
        audio.append(np.rint(aligned * 32767).astype(np.int16))
        mels.append(mel)
        utterances.append(
            {"name": f"u{i}", "split": "train", "frames": len(mel), "samples": 40 * 256}
            | {"shard": 0, "start": len(mel) * i}
            | {"source": f"u{i}.wav", "sha256": "0"}
        )
    np.save(tmp_path / "audio.npy", np.concatenate(audio))
    np.save(tmp_path / "mel.npy", np.concatenate(mels))
    manifest = {
        "format": "fwn-corpus-1",
        "mel": contract.to_dict(),
        "mel_hash": contract.hash(),
        "sample_rate": 22050,
        "audio_dtype": "int16",
        "mel_dtype": "float32",
        "shards": [{"audio": "audio.npy", "mel": "mel.npy", "frames": sum(map(len, mels))}],
        "utterances": utterances,
        "left_out": [],
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def test_an_impulse_in_the_audio_lies_in_the_same_frame_of_the_mel(impulses):
    stream, off = batches(impulses, frames=16), []
    for step in range(20):
        for audio, mel in examples(stream[step]).values():
            at = int(np.abs(audio).argmax())
            if not 2 * 256 < at < 14 * 256 or audio[at] == 0:
                continue
            loud = mel.sum(1)
            off.append((loud * np.arange(16)).sum() / loud.sum() - at / 256)
    # In frames. Three or four loud frames are centred on the impulse; a crop that is off by one frame fails.
    assert len(off) > 10
    assert abs(np.array(off)).max() < 0.75
