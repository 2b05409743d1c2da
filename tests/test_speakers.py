"""Models that are told who speaks: by number or by a vector, in training, chunks, batches, and other runs."""

import jax
import numpy as np
import pytest
import small
from flax.traverse_util import flatten_dict, unflatten_dict

from fwn import config as configs
from fwn import load
from fwn.audio import audio_file
from fwn.config import Speakers
from fwn.data.corpus import Corpus
from fwn.errors import UserError
from fwn.evaluation.measure import synthetic
from fwn.mel import PRESETS
from fwn.nn.speaker import SpeakerInput
from fwn.shipped import experiment
from fwn.synthesis.vocoder import Vocoder
from fwn.systems import build
from fwn.training import beginning
from fwn.training.checkpoints import Run
from fwn.training.step import noisy

MEL = PRESETS["flowavenet"]
KINDS = {"id": {"names": ("ann", "bob", "cy")}, "embedding": {"size": 4}}
SYSTEMS = {  # experiment, changes of config.model
    "flowavenet, frames": ("tiny", small.MODEL | {"conditioner": "frames", "conditioner_channels": 4}),
    "flowavenet, squeezed": ("tiny", small.MODEL | {"conditioner": "squeezed"}),
    "predictor": ("tiny", small.MODEL | {"n_block": 0}),
    "wavenet": ("tiny_wavenet", {"channels": 4, "n_layer": 2, "n_stack": 1}),
    "clarinet": ("tiny_clarinet", {"channels": 4, "n_layer": 2, "stacks": (1,)}),
}


def told(kind: str, who: int):
    """One of three speakers, as vocoders are given it."""
    return KINDS["id"]["names"][who] if kind == "id" else np.random.default_rng(who).normal(size=4)


def model(name: str, kind: str, rng: np.random.Generator) -> Run:
    """An untrained model with projections of the speakers that are not zero."""
    which, sizes = SYSTEMS[name]
    config = configs.copied(experiment(which))
    config.model.update(sizes)
    if "n_block" in sizes:
        config.model.update({"prediction": small.PREDICTION, "autoregression": small.AUTOREGRESSION})
    if kind != "none":
        config.speakers.update({"kind": kind} | KINDS[kind])
    system = build(config)
    batch = synthetic(2, 6, MEL, 0, system)
    params = jax.jit(lambda batch: system.init(jax.random.key(0), batch, {}))(batch)
    flat = flatten_dict(jax.device_get(params))
    for path, a in flat.items():
        if path[-2:] == ("speaker", "projection"):
            assert not a.any()
            flat[path] = 0.3 * rng.normal(size=a.shape).astype(np.float32)
        elif "log_scale" in path or path[-2] in ("out", "linear_out"):  # zero before training: then nothing is heard
            flat[path] = a + 0.1 * rng.normal(size=a.shape).astype(np.float32)
    return Run(config, MEL, unflatten_dict(flat), 0)


def mels(rng: np.random.Generator, lengths: list[int]) -> list[np.ndarray]:
    return [rng.uniform(0.2, 0.8, (n, MEL.n_mels)).astype(np.float32) for n in lengths]


@pytest.fixture(scope="module", params=[(name, kind) for name in SYSTEMS for kind in KINDS], ids=", ".join)
def vocoder(request):
    name, kind = request.param
    return Vocoder(model(name, kind, np.random.default_rng(3))), kind


def test_who_speaks_is_heard(vocoder, rng):
    """In audio and in likelihood; and the map stays invertible."""
    vocoder, kind = vocoder
    (mel,) = mels(rng, [7])
    audio = [vocoder(mel, key=jax.random.key(1), speaker=told(kind, who)) for who in range(2)]
    assert np.isfinite(audio).all()
    assert np.abs(audio[0] - audio[1]).max() > 1e-4 * np.abs(audio).max()
    nats = [vocoder.log_likelihood(audio[0], mel, told(kind, who)) for who in range(2)]
    assert abs(nats[0] - nats[1]) > 1e-4
    if vocoder.system.roundtrip is not None:
        again = vocoder.roundtrip(audio[0], mel, told(kind, 0))
        np.testing.assert_allclose(again, audio[0], atol=1e-4 * np.abs(audio[0]).max())


def test_chunks_streams_and_batches_are_told_too(vocoder, rng):
    """An utterance's audio does not depend on what is computed with it: other speakers, windows, padding."""
    vocoder, kind = vocoder
    lengths = [40, 9] if kind == "id" else [40]  # WaveNets are slow
    given, key = mels(rng, lengths), jax.random.key(2)
    alone = [
        vocoder(mel, key=jax.random.fold_in(key, i), speaker=told(kind, i), chunk=0) for i, mel in enumerate(given)
    ]
    scale = max(np.abs(audio).max() for audio in alone)
    keys = [jax.random.fold_in(key, i) for i in range(len(given))]
    who = [told(kind, i) for i in range(len(given))]
    batch = vocoder.synthesise(given, keys, vocoder.temperature, len(given), least=40, chunk=0, speakers=who)
    for one, other in zip(alone, batch, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-4 * scale)
    streamed = np.concatenate(list(vocoder.stream(iter(given[0]), key=keys[0], chunk=16, speaker=told(kind, 0))))
    np.testing.assert_allclose(streamed, alone[0], atol=1e-4 * scale)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SYSTEMS)
def test_it_begins_as_the_model_that_is_not_told(name, kind, rng):
    """With projections of zero the audio is the same, up to rounding, and so are the shapes of the other weights."""
    run, plain = model(name, kind, np.random.default_rng(3)), model(name, "none", np.random.default_rng(3))
    flat = flatten_dict(run.params)
    own = [path for path in flat if path[-2:] in beginning.SPEAKER]
    without = {path: a for path, a in flat.items() if path not in own}
    assert {path: a.shape for path, a in without.items()} == {
        path: a.shape for path, a in flatten_dict(plain.params).items()
    }
    zero = {path: np.zeros_like(flat[path]) for path in own if path[-1] == "projection"}
    silent = run._replace(params=unflatten_dict(flat | zero))
    (mel,) = mels(rng, [5])
    one = Vocoder(silent)(mel, speaker=told(kind, 1))
    other = Vocoder(plain._replace(params=unflatten_dict(without)))(mel)
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6 * abs(other).max())


def test_a_student_has_the_speakers_of_its_teacher():
    """By name and in order: the upsampling, with the learned vectors, is the teacher's."""
    teacher, config = (configs.copied(experiment(name)) for name in ("tiny_wavenet", "tiny_clarinet"))
    teacher.speakers.update({"kind": "id", "names": ("ann", "bob")})
    assert "those of the teacher" in configs.settle(config, None, teacher)
    assert build(config, teacher).speakers == SpeakerInput("id", 2)
    config.speakers.names = ("bob", "ann")
    with pytest.raises(UserError, match=r"id \['bob', 'ann'\], but the teacher"):
        build(config, teacher)


def test_several_mels_have_one_speaker_or_one_each(rng):
    vocoder = Vocoder(model("flowavenet, frames", "id", np.random.default_rng(3)))
    (mel,) = mels(rng, [5])
    ann, bob = (vocoder([mel], speaker=name)[0] for name in ("ann", "bob"))
    for given in (["ann", "bob"], ("ann", "bob"), np.array(["ann", "bob"])):
        each = vocoder([mel, mel], speaker=given)
        np.testing.assert_array_equal(each[0], ann)
        assert np.abs(each[1] - each[0]).max() > 0
    both = vocoder(np.stack([mel, mel]), speaker="bob")
    np.testing.assert_allclose(both[0], bob, atol=1e-5)
    nats = vocoder.log_likelihood([ann, ann], [mel, mel], ["ann", "bob"])
    assert [float(vocoder.log_likelihood(ann, mel, name)) for name in ("ann", "bob")] == pytest.approx(nats.tolist())
    by_vector = Vocoder(model("flowavenet, frames", "embedding", np.random.default_rng(3)))
    vectors = np.random.default_rng(0).normal(size=(2, 4))
    one, two = by_vector([mel, mel], speaker=vectors)
    np.testing.assert_array_equal(one, by_vector(mel, key=jax.random.fold_in(jax.random.key(0), 0), speaker=vectors[0]))
    assert np.abs(two - one).max() > 0


def test_noise_on_mels_leaves_the_speaker(rng):
    batch = {"mel": rng.normal(size=(3, 5, 7)).astype(np.float32), "index": np.arange(3)}
    found = noisy(batch, jax.random.key(0), 0.5, 2)["mel"]
    np.testing.assert_array_equal(found[..., 5:], batch["mel"][..., 5:])
    assert np.abs(found[..., :5] - batch["mel"][..., :5]).min() > 0


def test_the_numbers_of_a_speaker():
    by_name = Speakers({"speakers": {"kind": "id", "names": ["103", "bob"], "size": 0}})
    assert [by_name.numbers(who).tolist() for who in ("103", 103, "bob")] == [[0], [0], [1]]
    one = Speakers({"speakers": {"kind": "id", "names": ["ann"], "size": 0}})
    assert one.numbers(None).tolist() == [0]
    assert Speakers({}).numbers(None).shape == (0,)
    assert SpeakerInput("id", 3).channels == 1
    by_vector = Speakers({"speakers": {"kind": "embedding", "names": [], "size": 3}})
    assert by_vector.numbers([[1, 2, 3]]).tolist() == [1, 2, 3]
    assert [len(by_vector.each(given, 2)) for given in ([1, 2, 3], [[1, 2, 3]], np.eye(3)[:2])] == [2, 2, 2]
    for wrong in (["p225"], {"a": 1}, np.ones(3, complex), "p225", None, []):
        with pytest.raises(UserError, match="by a vector of 3 numbers"):
            by_vector.numbers(wrong)
    for wrong in (np.int64(3), 1.5, ["ann"]):
        with pytest.raises(UserError, match="knows 103, bob"):
            by_name.numbers(wrong)
    assert by_name.each(np.int64(3), 2) == [3, 3]


# From recordings to speech, by the programs.

SIZES = small.REST | {"num_steps": 4, "optimizer.learning_rate": 0.02, "optimizer.warmup": 0}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three speakers' folders of recordings, with a vector of each recording's speaker."""
    folder = tmp_path_factory.mktemp("speakers")
    for i in range(9):
        name = f"{['ann', 'bob', 'cy'][i % 3]}/u{i}"
        (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "vectors" / name).parent.mkdir(parents=True, exist_ok=True)
        audio_file.write(folder / "in" / f"{name}.wav", small.speech(i % 3, 12_000 + 700 * i), small.RATE)
        np.save(folder / "vectors" / f"{name}.npy", np.eye(3, dtype=np.float32)[i % 3] + 0.01 * i)
    given = f"--input={folder / 'in'}", "--workers=1", "--speaker_folders"
    vectors = f"--speaker_embeddings={folder / 'vectors'}"
    result = small.program("data_prep.prepare", "--corpus=folder", *given, vectors, f"--output={folder / 'data'}")
    assert result.code == 0, result
    assert "of 3 speakers" in result.out
    return folder


def train(data, run, kind, *more, **changes):
    flags = small.config_flags(data, **SIZES | {"speakers.kind": kind} | changes)
    return small.program("fwn.train", *flags, f"--workdir={run}", *more)


@pytest.fixture(scope="module")
def runs(data):
    for kind in KINDS:
        result = train(data / "data", data / kind, kind)
        assert result.code == 0, result
    return data


def test_a_run_knows_the_speakers_of_its_data(runs):
    assert tuple(configs.read(runs / "id")[0].speakers.names) == ("ann", "bob", "cy")
    assert configs.read(runs / "embedding")[0].speakers.size == 3
    vocoder, corpus = load(runs / "id"), Corpus(runs / "data")
    assert vocoder.speakers.names == ("ann", "bob", "cy")
    assert [vocoder.speakers.of(corpus, i) for i in range(3)] == ["ann"] * 3
    np.testing.assert_allclose(corpus.speaker_embeddings[3], [0.01, 1.01, 0.01], atol=1e-6)  # bob/u1
    again = train(runs / "data", runs / "id", "id")
    assert again.code == 0, again
    assert "trained to step 4 already" in again.out


@pytest.mark.parametrize("kind", KINDS)
def test_speech_of_a_speaker(runs, kind, tmp_path):
    who = "bob" if kind == "id" else runs / "vectors" / "bob" / "u1.npy"
    asked = f"--ckpt={runs / kind}", f"--wav={runs / 'in' / 'ann' / 'u0.wav'}", "--seed=3"
    result = small.program("fwn.sample", *asked, f"--output={tmp_path}", f"--speaker={who}")
    assert result.code == 0, result
    audio, _ = audio_file.read(tmp_path / "u0.wav", small.RATE, min_samples=1)
    vocoder, corpus = load(runs / kind), Corpus(runs / "data")
    speaker = "bob" if kind == "id" else np.load(who)
    key = jax.random.fold_in(jax.random.key(3), 0)
    expected = np.clip(vocoder(corpus.mel(0), key=key, speaker=speaker), -1, 1)  # as files are
    np.testing.assert_allclose(audio, expected, atol=1e-4)


def test_an_unknown_speaker_is_refused_with_the_list(runs, tmp_path):
    asked = f"--ckpt={runs / 'id'}", f"--wav={runs / 'in' / 'ann' / 'u0.wav'}", f"--output={tmp_path / 'out'}"
    for flags, message in (
        (
            ("--speaker=bop",),
            "--speaker is 'bop', whom the model does not know; did you mean 'bob'?; it knows ann, bob, cy",
        ),
        ((), "--speaker: the model must be told who speaks; it knows ann, bob, cy"),
    ):
        result = small.program("fwn.sample", *asked, *flags)
        assert result.code == 1
        assert message in result.err
    assert not (tmp_path / "out").exists()
    asked = f"--ckpt={runs / 'id'}", f"--data={runs / 'data'}", "--speaker=zed"
    result = small.program("fwn.evaluate", *asked)
    assert (result.code, "it knows ann, bob, cy" in result.err) == (1, True)
    with pytest.raises(UserError, match="it knows ann, bob, cy"):
        load(runs / "id")(np.full((4, 80), 0.5, np.float32), speaker="zed")
    with pytest.raises(UserError, match="by a vector of 3 numbers"):
        load(runs / "embedding")(np.full((4, 80), 0.5, np.float32), speaker="ann")


def test_evaluation_by_speaker(runs, tmp_path):
    asked = f"--ckpt={runs / 'id'}", f"--data={runs / 'data'}"
    own = small.program("fwn.evaluate", *asked, f"--output={tmp_path / 'own'}")
    assert own.code == 0, own
    rows = [line.split() for line in own.out.partition("by speaker")[2].splitlines()]
    assert [row[:2] for row in rows if row and row[0] in ("ann", "bob", "cy")] == [
        ["ann", "1"],
        ["bob", "1"],
        ["cy", "1"],
    ]
    told_ann = small.program("fwn.evaluate", *asked, f"--output={tmp_path / 'ann'}", "--speaker=ann")
    assert told_ann.code == 0, told_ann
    import json

    nats = {
        name: {
            speaker: columns["likelihood"]["nats_per_sample"]["mean"]
            for speaker, columns in json.loads((tmp_path / name / "results.json").read_text())["speakers"].items()
        }
        for name in ("own", "ann")
    }
    assert nats["own"]["ann"] == nats["ann"]["ann"]
    assert nats["own"]["bob"] != nats["ann"]["bob"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_keeps_the_speakers(runs, kind, tmp_path):
    voice = tmp_path / "voice"
    flags = f"--output={voice}", f"--data={runs / 'data'}", "--format=voice"
    result = small.program("fwn.export", f"--ckpt={runs / kind}", *flags)
    assert result.code == 0, result
    mel, who = Corpus(runs / "data").mel(0), "bob" if kind == "id" else np.ones(3)
    np.testing.assert_allclose(load(voice)(mel, speaker=who), load(runs / kind)(mel, speaker=who), atol=1e-2)
    result = small.program("fwn.doctor", f"--ckpt={voice}", f"--data={runs / 'data'}")
    assert result.code in (0, 5, 6), result
    assert "nats/sample (higher is better)" in result.out


def test_another_run_keeps_the_speakers_that_it_knows(runs, tmp_path):
    """By name, in another order; a new speaker begins as the mean of those."""
    here = Speakers({"speakers": {"kind": "id", "names": ["cy", "dee", "ann"], "size": 0}})
    run = load(runs / "id")
    own = run.params["prediction"]["speaker"]
    found = beginning._for_speakers({"prediction": {"speaker": own}}, run.speakers, here)["prediction"]["speaker"]
    ann, _, cy = vectors = np.asarray(own["embedding"])
    np.testing.assert_array_equal(found["embedding"], [cy, vectors.mean(axis=0), ann])
    assert found["projection"] is own["projection"]
    other = Speakers({"speakers": {"kind": "embedding", "names": [], "size": 3}})
    assert beginning._for_speakers({"prediction": {"speaker": own, "out": {}}}, run.speakers, other) == {}
    plain = train(runs / "data", tmp_path / "plain", "none")
    assert plain.code == 0, plain
    assert "3 speakers; the model is not told who speaks" in plain.out
    result = train(runs / "data", tmp_path / "told", "id", f"--init_from={tmp_path / 'plain'}", num_steps=4)
    assert result.code == 0, result


def test_data_that_does_not_say_who_speaks_is_refused(runs, corpus, tmp_path):
    result = train(corpus, tmp_path / "a", "id")
    assert (result.code, "does not say who speaks in 10 of 10 utterances" in result.err) == (1, True), result.err
    result = train(corpus, tmp_path / "b", "embedding")
    assert (result.code, "has no vectors of speakers" in result.err) == (1, True), result.err


def test_a_run_is_continued_with_speakers_that_it_knows(runs, tmp_path):
    """With other data; a new speaker is refused, with the list."""
    names = ["ann/u0", "bob/u1", "dee/u2", "ann/u3", "bob/u4"]
    for i, name in enumerate(names):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        audio_file.write(tmp_path / "in" / f"{name}.wav", small.speech(i, 12_000), small.RATE)
    prepare = "--corpus=folder", "--speaker_folders", "--workers=1", f"--output={tmp_path / 'data'}"
    assert small.program("data_prep.prepare", *prepare, f"--input={tmp_path / 'in'}").code == 0
    result = train(tmp_path / "data", runs / "id", "id", num_steps=6)
    assert result.code == 1
    assert "the speaker of dee/u2 is 'dee'" in result.err
    assert "it knows ann, bob, cy" in result.err


def test_vectors_are_verified_kept_and_asked_for(data, tmp_path):
    """A recording without one is left out by name; the shards stay as they are when vectors change."""
    given = f"--input={data / 'in'}", "--workers=1", "--speaker_folders", f"--output={tmp_path / 'data'}"
    assert small.program("data_prep.prepare", "--corpus=folder", *given).code == 0
    shards = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "data").glob("audio-*.npy")}
    vectors = tmp_path / "vectors"
    for file in (data / "vectors").rglob("*.npy"):
        (vectors / file.parent.name).mkdir(parents=True, exist_ok=True)
        np.savez(vectors / file.parent.name / f"{file.stem}.npz", embedding=np.load(file)[None])
    asked = *given, f"--speaker_embeddings={vectors}"
    result = small.program("data_prep.prepare", "--corpus=folder", *asked)
    assert result.code == 0, result
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "data").glob("audio-*.npy")} == shards
    first = Corpus(tmp_path / "data").speaker_embeddings
    assert first.shape == (9, 3)
    np.testing.assert_array_equal(first, Corpus(data / "data").speaker_embeddings)
    (kept,) = (tmp_path / "data").glob("speakers-*.npy")

    refused = small.program("data_prep.prepare", "--corpus=folder", *given)
    assert (refused.code, "give --speaker_embeddings" in refused.err) == (1, True)
    (vectors / "bob" / "u1.npz").unlink()
    result = small.program("data_prep.prepare", "--corpus=folder", *asked)
    assert (result.code, "left out bob/u1 (bob/u1.wav): not in --speaker_embeddings" in result.out) == (3, True), result
    assert len(Corpus(tmp_path / "data")) == 8
    assert not kept.exists()

    (file,) = (tmp_path / "data").glob("speakers-*.npy")
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged: its checksum.*run data_prep.prepare again, which makes"):
        Corpus(tmp_path / "data")
    assert small.program("data_prep.prepare", "--corpus=folder", *asked).code == 3
    assert len(Corpus(tmp_path / "data").speaker_embeddings) == 8
    np.save(vectors / "bob" / "u1.npy", np.array([1, np.nan, 0]))
    result = small.program("data_prep.prepare", "--corpus=folder", *asked)
    assert (result.code, "its vector of 3 numbers is empty, or not finite" in result.out) == (3, True), result


def test_the_right_speaker_is_learned():
    """Two speakers of one mel, one three times as loud: after training each is likelier as itself, by much."""
    import optax

    run = model("flowavenet, frames", "id", np.random.default_rng(0))
    system, tx = build(run.config), optax.adam(1e-2)
    batch = synthetic(8, 6, MEL, 0, system)
    who = np.arange(8) % 2
    batch["mel"][..., :-1] = 0.5
    batch["mel"][..., -1] = who[:, None]
    loud = (0.03 * 3.0**who)[:, None].astype(np.float32)
    loss = jax.value_and_grad(lambda params, batch, key: system.loss(params, (), batch, key)[0])

    @jax.jit
    def step(params, state, key):
        noise = jax.random.normal(key, (8, system.past + 6 * MEL.hop_length)) * loud
        made = batch | {"past": noise[:, : system.past], "audio": noise[:, system.past :]}
        updates, state = tx.update(loss(params, made, key)[1], state, params)
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(np.asarray, run.params)
    state = tx.init(params)
    for i in range(150):
        params, state = step(params, state, jax.random.key(i))
    audio = np.random.default_rng(9).normal(size=(2, 6 * MEL.hop_length)).astype(np.float32) * loud[:2]
    nats = {
        told: np.asarray(system.log_likelihood(params, audio, batch["mel"][list(told)])) for told in ((0, 1), (1, 0))
    }
    assert (nats[0, 1] - nats[1, 0]).min() > 0.2
