"""The doctor names each defect, with its severity and a remedy, and finds nothing in healthy patients."""

import json
import re
import shutil

import jax
import numpy as np
import pytest
import small

from fwn import cli
from fwn import config as configs
from fwn.data.manifest import FORMAT
from fwn.diagnosis import (
    behaviour,
    checkpoint,
    clips,
    curves,
    data_set,
    environment,
    material,
    parameters,
    reference,
    run,
    scales,
)
from fwn.diagnosis.finding import ERROR, NOTE, WARNING, Finding, guarded, ordered
from fwn.disk import crc32, file_crc32, sealed
from fwn.errors import UserError
from fwn.mel import PRESETS, align, fitted
from fwn.models.flowavenet import FloWaveNet
from fwn.shipped import experiment
from fwn.xla import memory

MEL = PRESETS["flowavenet"]


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Models are measured on crops of eight frames, so that all of them share compiled programs."""
    monkeypatch.setattr(material, "FRAMES", 8)


def doctor(*args):
    return small.program("fwn.doctor", *args)


def findings(examination):
    """All findings; that of a failure too."""
    return [said for said in guarded(examination, "the patient") if isinstance(said, Finding)]


def facts(examination):
    return "\n".join(said for said in examination if isinstance(said, str))


def check(found, severity, pattern):
    """There is one finding of this severity that matches, none that is worse, and a remedy for all."""
    matching = [f for f in found if f.severity == severity and re.search(pattern, f.what)]
    assert len(matching) == 1, found
    assert ordered(found)[0].severity == severity
    assert all(f.remedy and "\n" not in f.what + f.remedy for f in found)


# -- data


def prepared(folder, recordings, contract=PRESETS["tacotron2"]):
    """A data set of one shard as data_prep.prepare makes it, the last two clips held out.

    tacotron2 leaves the level as it is.
    """
    aligned = [align(np.clip(recording, -1, 1).astype(np.float32), contract) for recording in recordings]
    audio = [np.round(32767 * a).astype(np.int16) for a, _ in aligned]
    utterances, start = [], 0
    for i, (stored, (_, mel)) in enumerate(zip(audio, aligned, strict=True)):
        name, split = f"u{i:02d}", "test" if i >= len(aligned) - 2 else "train"
        checksums = {"audio_crc32": crc32([stored.tobytes()]), "mel_crc32": crc32([mel.tobytes()])}
        place = {"frames": len(mel), "samples": len(recordings[i]), "shard": 0, "start": start}
        utterances.append({"name": name, "split": split, "source": f"{name}.wav", "sha256": "0"} | place | checksums)
        start += len(mel)
    np.save(folder / "audio-0.npy", np.concatenate(audio))
    np.save(folder / "mel-0.npy", np.concatenate([mel for _, mel in aligned]))
    shard = {"audio": "audio-0.npy", "mel": "mel-0.npy", "frames": start}
    shard |= {f"{what}_crc32": file_crc32(folder / shard[what]) for what in ("audio", "mel")}
    values = {"format": FORMAT, "mel": contract.to_dict(), "mel_hash": contract.hash(), "sample_rate": small.RATE}
    values |= {"audio_dtype": "int16", "mel_dtype": "float32", "shards": [shard], "utterances": utterances}
    (folder / "manifest.json").write_text(json.dumps(sealed(values | {"left_out": []})))
    return folder


def with_one(other):
    """Ten clips of speech, of which the fourth is `other` of its samples."""

    def make():
        recordings = [small.speech(i, 12000) for i in range(10)]
        recordings[3] = other(recordings)
        return recordings

    return make


def clicks(recordings):
    audio = 1e-5 * np.random.default_rng(0).normal(size=12000)
    audio[-2000:] = recordings[3][-2000:]
    return audio


DEFECTS = [
    (with_one(lambda r: np.clip(4 * r[3], -0.5, 0.5)), WARNING, "1 of 10 clips are clipped .*: u03"),
    (with_one(lambda r: r[3] + 0.1), WARNING, "1 of 10 clips have a DC offset .*: u03"),
    (with_one(lambda r: 1e-3 * r[3]), WARNING, "1 of 10 clips are silent .*: u03"),
    (with_one(clicks), WARNING, "1 of 10 clips are mostly silent .*: u03"),
    (with_one(lambda r: 0.1 * r[3]), WARNING, "1 of 10 clips are over 12 dB louder or quieter .*: u03"),
    (with_one(lambda r: r[5]), WARNING, "1 clips are copies of others: u05"),
    (with_one(lambda r: np.pad(0.3 * r[5], (3000, 0))), WARNING, "1 clips are copies of others: u05"),
    (with_one(lambda r: 0.5 * r[8][500:]), ERROR, "1 held-out clips are also in the training split: u08"),
    (with_one(lambda r: r[9]), ERROR, "1 held-out clips are also in the training split: u09"),
    (lambda: [1e-2 * small.speech(i, 12000) for i in range(10)], WARNING, "the whole data set is low"),
]


@pytest.mark.parametrize(("make", "severity", "pattern"), DEFECTS, ids=[d[2].split(" .")[0] for d in DEFECTS])
def test_clips_with_one_defect(tmp_path, make, severity, pattern):
    check(findings(data_set.examine(prepared(tmp_path, make()))), severity, pattern)


def test_a_healthy_data_set_has_notes_alone(corpus):
    found = findings(data_set.examine(corpus, frames=8))
    assert {f.severity for f in found} == {NOTE}, found
    check(found, NOTE, "1 of 10 utterances are shorter than a crop of 8 frames")
    assert "checksums: 2 of 2 files are as they were saved" in facts(data_set.examine(corpus))


@pytest.mark.parametrize(("frames", "severity"), [(25, WARNING), (1000, ERROR)])
def test_clips_too_short_for_a_crop(corpus, frames, severity):
    found = findings(data_set.examine(corpus, frames=frames))
    assert ordered(found)[0].severity == severity
    assert any("shorter than a crop" in f.what for f in found)


def damage(folder, what, change):
    """Changes the stored audio or mels of a copy of a data set in place."""
    file = next(folder.glob(f"{what}-*.npy"))
    change(np.lib.format.open_memmap(file, mode="r+"))


def forget_checksums(folder):
    """Makes it one of version 0.1."""
    file = folder / "manifest.json"
    values = json.loads(file.read_text())
    for entry in values["shards"] + values["utterances"]:
        entry.pop("audio_crc32"), entry.pop("mel_crc32")
    file.write_text(json.dumps(sealed({k: v for k, v in values.items() if k != "checksum"})))


def flip(array):
    array[len(array) // 2] += 1


def roll(array):
    array[:] = array[::-1].copy()


def no_numbers(array):
    array[:3] = np.nan


@pytest.mark.parametrize(
    ("what", "change", "checked", "severity", "pattern"),
    [
        ("audio", flip, True, ERROR, "1 files are damaged: audio-"),
        ("mel", flip, True, ERROR, "1 utterances do not have their checksums: u"),
        ("mel", roll, False, ERROR, "mels are not those of their audio: u"),
        ("mel", no_numbers, False, ERROR, "1 utterances have NaN or infinite values: u00"),
        ("mel", lambda array: None, False, NOTE, "version 0.1 stored no checksums"),
    ],
)
def test_damaged_data(corpus, tmp_path, what, change, checked, severity, pattern):
    copy = shutil.copytree(corpus, tmp_path / "data")
    if not checked:
        forget_checksums(copy)
    damage(copy, what, change)
    check(findings(data_set.examine(copy)), severity, pattern)


def test_a_missing_shard_is_a_finding(corpus, tmp_path):
    copy = shutil.copytree(corpus, tmp_path / "data")
    next(copy.glob("audio-*.npy")).unlink()
    check(findings(data_set.examine(copy)), ERROR, "listed in the manifest but missing")


def test_flat_tops_are_of_clipping_alone():
    """Not of a sine with its maximum between two samples, of low tones, or of silence."""
    t = np.arange(22050) / 22050
    for pitch in (60.0, 100.0, 440.0, 5512.5):
        audio = (0.9 * np.sin(2 * np.pi * pitch * t)).astype(np.float32)
        assert clips.flat_tops(audio) < data_set.CLIPPED, pitch
        assert clips.flat_tops(np.clip(audio, -0.5, 0.5)) > 0.1 or pitch > 5000
    assert clips.flat_tops(np.zeros(1000, np.float32)) == 0


# -- a run


def journal(n=40, **changes):
    """Records of a healthy run, with other values of some fields: functions of the record's index."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(n):
        record = {"what": "train", "step": 20 * (i + 1), "nats_per_sample": 3 + i / n + 0.2 * rng.normal()}
        record |= {"gradient_norm": 0.4 + 0.05 * rng.normal(), "skipped": 0, "skipped_in_all": 0}
        record |= {"audio_seconds_per_second": 2.0, "training_seconds": 10.0 * (i + 1)}
        records.append(record | {name: change(i) for name, change in changes.items()})
        if i % 5 == 4:
            records.append({"what": "held_out", "step": 20 * (i + 1), "nats_per_sample": 3 + i / n})
    return records


def of_run(records, **changes):
    config = small.config("data", num_steps=10_000)
    config.optimizer.update(changes)
    return list(run.examine_records(config, records))


def held_out(change):
    return [change(i, record) if record["what"] == "held_out" else record for i, record in enumerate(journal())]


RUNS = [
    (journal(nats_per_sample=lambda i: 3.0 + i / 40 if i < 30 else -5.0), ERROR, "training diverged"),
    (journal(nats_per_sample=lambda i: 3.0 + i / 40 - 6 * (i == 20)), NOTE, "1 spikes of the loss, .* step 420"),
    (journal(nats_per_sample=lambda i: 3.0 + i / 40 - 6 * (i % 9 == 1)), WARNING, "5 spikes of the loss"),
    (journal(gradient_norm=lambda i: 5.0), WARNING, "nearly all gradients are scaled down"),
    (journal(gradient_norm=lambda i: 0.01 * 1.15**i), WARNING, "gradients grow"),
    (journal(gradient_norm=lambda i: 0.4 + 20 * (i == 20)), NOTE, "1 gradients are over 10 times .* steps 420"),
    (journal(skipped_in_all=lambda i: 3.0 * (i > 20)), WARNING, "3 steps were skipped"),
    (journal(skipped_in_all=lambda i: i, skipped=lambda i: i), ERROR, "the last 39 steps were skipped"),
    (journal(waiting_seconds=lambda i: 4.0), WARNING, "waits for data 40% of the time"),
    (journal(memory_bytes=lambda i: 10**15), WARNING, "the run took .* of memory"),
    (held_out(lambda i, r: r | {"nats_per_sample": 3.5 - abs(i - 20) / 40}), WARNING, "has fallen since step"),
    (held_out(lambda i, r: r | {"nats_per_sample": None if i > 30 else 3.5}), ERROR, "are not finite"),
    (held_out(lambda i, r: r | {"inverse_error": 0.05 * (i > 40)}), WARNING, "the inverse no longer undoes the map"),
    (
        [*journal(), {"what": "return", "step": 600, "why": "at step 700, loss not finite"}],
        WARNING,
        r"returned to an earlier checkpoint 1 times, last to step 600 \(at step 700, loss not finite\)",
    ),
]


@pytest.mark.parametrize(("records", "severity", "pattern"), RUNS, ids=[pattern[:30] for *_, pattern in RUNS])
def test_runs_with_one_defect(records, severity, pattern):
    check(findings(of_run(records, halve_every=10_000)), severity, pattern)


def test_a_healthy_journal_has_no_findings():
    said = of_run(journal(waiting_seconds=lambda i: 0.1, memory_bytes=lambda i: 10**6), halve_every=10_000)
    assert findings(said) == []
    assert "waiting for data: 1.0% of the training time" in facts(said)
    assert "waiting for data: not in the journal" in facts(of_run(journal()))


def test_a_rate_that_has_fallen_away():
    check(findings(of_run(journal(), halve_every=100, warmup=0)), NOTE, "the rate has fallen to")


def test_short_runs_are_not_judged():
    wild = journal(curves.ENOUGH - 1, nats_per_sample=lambda i: -(3.0**i), gradient_norm=lambda i: 3.0**i)
    assert findings(of_run([r for r in wild if r["what"] == "train"], halve_every=10_000)) == []


def test_every_curve_is_of_the_config_that_it_names():
    entries = json.loads(reference.FILE.read_text(encoding="utf-8"))["curves"]
    for entry in entries:
        config = experiment(entry["experiment"])
        for name, value in entry["changes"].items():
            config[name].update(value) if isinstance(value, dict) else config.update({name: value})
        same = [curve for curve in reference.curves(configs.copied(config)) if not curve.differs]
        assert entry["title"] in [curve.title for curve in same]
        steps = [step for step, _ in entry["held_out"]]
        assert steps == sorted(set(steps))


def test_the_run_of_the_included_voice_has_a_curve():
    """Whose config says the sizes that follow from the hop."""
    config = configs.read(small.ROOT / "voices" / "lj-mini")[0]
    assert any(not curve.differs for curve in reference.curves(config))


@pytest.mark.parametrize(
    ("step", "nats", "severity"),
    [(3000, 4.3, None), (3000, 3.8, None), (3000, 3.5, WARNING), (250, 5.5, NOTE), (10**6, 9.0, None), (99, 1.0, None)],
)
def test_is_this_loss_normal(step, nats, severity):
    """Below the curve by more than the band it is not; beyond the curve's end there is no upper limit."""
    said = list(reference.examine(configs.copied(experiment("lj_mini")), step, nats))
    assert [f.severity for f in findings(said)] == [severity] * (severity is not None)
    assert ("is this loss normal: yes" in facts(said)) == (severity is None and step > 99)


def test_a_config_without_a_curve_is_not_judged():
    config = configs.copied(experiment("lj_mini"))
    config.model.n_flow = 5
    said = list(reference.examine(config, 1000, -50.0))
    assert findings(said) == []
    assert "no curve of this config" in facts(said)
    assert "nearest is lj_mini" in facts(said)
    assert "n_flow" in facts(said)
    said = facts(reference.examine(experiment("clarinet"), 1000, 0.0))
    assert "no curve of this system" in said


@pytest.mark.parametrize(
    ("audio", "pattern"),
    [
        (np.full((2, 64), np.nan), "NaN or infinite values in its audio"),
        (np.zeros((2, 64)), "2 of its 2 crops are silent"),
        (np.full((2, 64), 0.1), "its data are finite"),
    ],
)
def test_batches_of_skipped_steps(run_copy, audio, pattern):
    np.savez(run_copy / "skipped-7-process0.npz", audio=audio.astype(np.float32), mel=np.zeros((2, 1, 80)))
    (run_copy / "nonfinite-8-process0.npz").write_text("no archive")
    found = findings(run.examine(run_copy))
    assert sum(bool(re.search(pattern, f.what)) for f in found) == 1
    assert sum("nonfinite-8" in f.what and "damaged" in f.what for f in found) == 1


# -- a checkpoint


@pytest.fixture
def run_copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "run")


def weights(**changes):
    """A few weights in the form of a flow's."""
    rng = np.random.default_rng(0)
    tree = {
        "scale": np.ones((2, 4)),
        "loc": np.zeros((2, 4)),
        "kernel": rng.normal(size=(2, 1, 4, 4)),
    } | changes
    out = {"kernel": tree["kernel"], "log_scale": np.zeros((2, 4))}
    return {"block_0": {"flows": {"actnorm": {n: tree[n] for n in ("scale", "loc")}, "net": {"out": out}}}}


@pytest.mark.parametrize(
    ("changes", "severity", "pattern"),
    [
        ({"kernel": np.full((2, 1, 4, 4), np.nan)}, ERROR, "1 arrays of weights have NaN .*: block_0/flows/net/out"),
        ({"kernel": np.full((2, 1, 4, 4), 7e4)}, ERROR, "weights beyond 65504"),
        ({"scale": np.full((2, 4), 9e5)}, WARNING, "ActNorm scales from 9e"),
        ({"scale": np.full((2, 4), -1e-7)}, WARNING, "ActNorm scales from 1e-07"),
        (
            {"kernel": np.arange(2.0)[:, None, None, None] * np.ones((1, 4, 4))},
            WARNING,
            r"1 of 2 last layers are still zero.*out\[0\]",
        ),
    ],
)
def test_weights_with_one_defect(changes, severity, pattern):
    assert findings(parameters.examine(weights())) == []
    check(findings(parameters.examine(weights(**changes))), severity, pattern)


SOUND = np.random.default_rng(0).normal(0, 0.1, (2, 512)).astype(np.float32)
TIDY = {"block_0": np.array([0.1, 0.3])}
BEHAVIOUR = [
    (behaviour.samples, (SOUND, SOUND, 1.0), None, ""),
    (behaviour.samples, (SOUND * np.nan, SOUND, 1.0), ERROR, "samples at T = 1.0 have NaN"),
    (behaviour.samples, (0.01 * SOUND, SOUND, 1.0), WARNING, "near silence"),
    (behaviour.samples, (50 * SOUND, SOUND, 1.0), WARNING, "explode"),
    (behaviour.tones, (experiment("base"), 0.8), NOTE, "faint tones"),
    (behaviour.tones, (experiment("lj_mini"), 0.8), None, ""),
    (behaviour.tones, (experiment("base"), 1.0), None, ""),
    (behaviour.inverse, (1e-5,), None, ""),
    (behaviour.inverse, (5e-3,), WARNING, "the inverse does not undo"),
    (behaviour.inverse, (np.nan,), ERROR, "the inverse does not undo"),
    (behaviour.couplings, (TIDY, None), None, ""),
    (behaviour.couplings, (TIDY, 0.3), NOTE, "reach their bound"),
    (behaviour.couplings, (TIDY | {"block_1": np.array([12.0])}, None), WARNING, "block_1 scales by e.12"),
    (behaviour.couplings, (TIDY | {"block_1": np.array([np.nan])}, None), ERROR, "block_1 scales by e.nan"),
    (behaviour.likelihoods, (np.array([3.0, 3.2]), np.array([1.0, 1.0]), 1.0, True), None, ""),
    (behaviour.likelihoods, (np.array([1.1, 1.2]), np.array([1.0, 1.0]), 1.0, True), WARNING, "copies are noise"),
    (behaviour.likelihoods, (np.array([3.0, 3.2]), np.array([3.0, 3.2]), 1.0, True), WARNING, "does not use the mel"),
    (behaviour.likelihoods, (np.array([3.0, 3.2]), np.array([3.0, 3.2]), 1.0, False), None, ""),
    (behaviour.likelihoods, (np.array([np.nan, 3.2]), np.array([3.0, 3.2]), 1.0, True), ERROR, "likelihood is nan"),
]


@pytest.mark.parametrize(("examine", "args", "severity", "pattern"), BEHAVIOUR)
def test_behaviour_with_one_defect(examine, args, severity, pattern):
    found = findings(examine(*args))
    if severity is None:
        assert found == []
    else:
        check(found, severity, pattern)


def test_white_noise_has_its_likelihood():
    audio = np.random.default_rng(0).normal(0, 0.1, 100_000)
    density = -0.5 * np.log(2 * np.pi * 0.01) - audio**2 / 0.02
    np.testing.assert_allclose(behaviour.white_noise(audio), density.mean(), rtol=1e-6)


@pytest.mark.parametrize("conditioner", ["squeezed", "frames"])
def test_largest_log_s_of_every_flow(conditioner, rng):
    """As it was set by a bias, flow by flow; and the walk ends where the model does."""
    config = fitted(small.config("data"))
    config.model.prediction.order = config.model.autoregression.coefficients = 0
    config.model.update({"n_flow": 2, "conditioner": conditioner})
    sizes = {n: config.model[n] for n in FloWaveNet.__dataclass_fields__ if n in config.model}
    model = FloWaveNet(**sizes | {"upsample_strides": tuple(config.model.upsample_strides)})
    audio, mel = rng.normal(0, 0.1, (2, 1024)).astype("float32"), rng.uniform(size=(2, 4, 80)).astype("float32")
    params = model.init(jax.random.key(0), audio[..., None], mel, method="forward")["params"]
    expected = {}
    for i, block in enumerate(model.blocks):
        out = params[f"block_{i}"]["flows"]["net"]["out"]
        size = out["bias"].shape[-1] // 2  # log_s first
        values = rng.normal(size=(2, size)).astype("float32")
        out["bias"] = np.concatenate([values, np.zeros_like(values)], axis=1)
        expected[f"block_{i}"] = np.abs(values).max(axis=1)
        if block.prior is not None:
            bias = params[f"block_{i}"]["prior"]["net"]["out"]["bias"]
            params[f"block_{i}"]["prior"]["net"]["out"]["bias"] = np.full_like(bias, -0.25)
            expected[f"block_{i}"] = np.append(expected[f"block_{i}"], 0.25)
    found = scales.largest(config, MEL, params, audio, mel)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6)


def test_a_model_without_a_flow_has_no_scales(corpus):
    config = fitted(small.config(corpus))
    config.model.n_block = 0
    assert scales.largest(config, MEL, {}, SOUND, np.zeros((2, 2, 80))) == {}


def described(path, change):
    """Changes the record of a checkpoint, and seals it again."""
    for file in (path / "_CHECKPOINT_METADATA", path / "metrics" / "metrics"):
        values = json.loads(file.read_text())
        inner = values.get("custom_metadata", values)
        change(inner)
        if "checksum" in inner:
            inner |= sealed({name: value for name, value in inner.items() if name != "checksum"})
        file.write_text(json.dumps(values))


@pytest.mark.parametrize(("part", "use"), [("params", "sampled"), ("train", "trained on")])
def test_arrays_without_their_checksums(run_copy, part, use):
    def change(record):
        for name, value in record.get("checksums", {}).items():
            if name.startswith(f"{part}/") and name.endswith("kernel"):
                record["checksums"][name] = value[:-4] + ("0000" if value[-4:] != "0000" else "1111")

    described(run_copy / "checkpoints" / "8", change)
    sound = []
    check(findings(checkpoint.files(run_copy, sound)), ERROR, f"arrays do not have their checksums, it cannot be {use}")
    assert sound == ([8] if part == "train" else [])


def test_the_best_checkpoint_is_far_older_than_the_newest(run_copy):
    folder = run_copy / "checkpoints"
    shutil.copytree(folder / "8", folder / "80")
    described(folder / "80", lambda record: record.update(score=record["score"] - 1))
    sound = []
    check(findings(checkpoint.files(run_copy, sound)), WARNING, "best checkpoint, of step 8, is far older .* of 80")
    assert sound == [8, 80]


def test_where_the_best_is_damaged_another_is_examined(run_copy, monkeypatch):
    monkeypatch.setattr(behaviour, "examine", lambda *_: iter(()))
    folder = run_copy / "checkpoints"
    shutil.copytree(folder / "8", folder / "80")
    (folder / "8" / "_CHECKPOINT_METADATA").write_text("{")
    said = list(checkpoint.examine(run_copy))
    check(findings(said), ERROR, "checkpoints/8: damaged")
    assert "step 80, as the best cannot be read" in facts(said)


def test_data_of_another_contract_are_a_finding_and_not_used(run, tmp_path, monkeypatch):
    monkeypatch.setattr(behaviour, "examine", lambda run, params, material: iter([f"on {material.what}"]))
    said = list(checkpoint.examine(run, prepared(tmp_path, with_one(lambda r: r[3])())))
    check(findings(said), ERROR, "was prepared with tacotron2")
    assert "on a synthetic signal" in facts(said)


def test_mels_beside_a_voice(tmp_path):
    """Damaged ones and those of other contracts are not used."""
    found = material.mels(small.ROOT / "voices" / "lj-mini" / "mels", MEL, configs.Speakers({}))
    assert found.audio is None
    assert found.mel.shape == (2, 8, 80)
    (tmp_path / "a.npy").write_text("no mel")
    assert material.mels(tmp_path, MEL, configs.Speakers({})) is None


def test_systems_that_are_no_flow(tmp_path):
    """Official ones, converted: what does not apply is said, and nothing is found."""
    golden, teacher, student = small.ROOT / "tests" / "golden", tmp_path / "teacher", tmp_path / "student"
    assert small.program("fwn.convert", golden / "clarinet_tiny_teacher.pth", f"--output={teacher}").code == 0
    of = [golden / "clarinet_tiny_student.pth", f"--teacher={teacher}", f"--output={student}"]
    assert small.program("fwn.convert", *of).code == 0
    for folder, fact in ((teacher, "it is no flow"), (student, "likelihood: not measured; that of a student")):
        result = doctor(f"--ckpt={folder}")
        assert (result.code, result.err) == (0, ""), result
        assert fact in result.out


# -- the program


def test_a_healthy_run_is_found_healthy(run):
    result = doctor(f"--workdir={run}")
    assert (result.code, result.err) == (0, ""), result
    assert "-- findings: 0 errors, 0 warnings" in result.out
    for fact in (
        "checkpoints: steps 8,",
        "1 of 1 whole",
        "2 held-out utterances of",
        "largest |x - inverse(forward(x))|",
        "largest |log_s| of block_1, by flow:",
        "with the mels of other utterances",
        "skipped steps (loss or gradient not finite, or a spike): 0 of 8",
    ):
        assert fact in result.out, fact


def test_an_exported_voice_without_data_is_measured_on_a_synthetic_signal(run, tmp_path):
    flags = f"--ckpt={run}", f"--output={tmp_path / 'voice'}", "--format=voice"
    assert small.program("fwn.export", *flags).code == 0
    result = doctor(f"--ckpt={tmp_path / 'voice'}")
    assert (result.code, result.err) == (0, ""), result
    assert "measured on a synthetic signal, which is not speech" in result.out


def overwrite(file, at, content):
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(content)


def test_damaged_files_are_findings_and_the_rest_is_examined(run_copy, corpus, tmp_path):
    """A checkpoint of which all arrays are damaged, a journal with a damaged line, and damaged data."""
    data = shutil.copytree(corpus, tmp_path / "data")
    overwrite(next(data.glob("audio-*.npy")), 3000, b"damage")
    for file in (run_copy / "checkpoints" / "8").rglob("d/*"):
        overwrite(file, file.stat().st_size // 2, b"damage")
    with (run_copy / "metrics.jsonl").open("ab") as file:
        file.write(b"damage\n")
    result = doctor(f"--workdir={run_copy}", f"--data={data}")
    assert (result.code, result.err) == (cli.ERRORS, ""), result
    assert re.search(r"error: .*checkpoints/8: .*\n   remedy: ", result.out)
    assert re.search(r"error: .*1 files are damaged: audio-", result.out)
    assert re.search(r"warning: .*1 of 11 lines are damaged", result.out)
    assert "learning rate" in result.out


def test_a_damaged_config_or_manifest_is_a_finding(run_copy, corpus, tmp_path):
    data = shutil.copytree(corpus, tmp_path / "data")
    for file in (data / "manifest.json", run_copy / "config.json"):
        file.write_text(file.read_text()[:-20])
    result = doctor(f"--workdir={run_copy}", f"--data={data}", f"--ckpt={run_copy}")
    assert (result.code, result.err) == (cli.ERRORS, "")
    assert "config.json: damaged" in result.out
    assert "manifest.json: damaged" in result.out


def test_warnings_have_an_exit_code_of_their_own(corpus, tmp_path):
    result = doctor(f"--data={prepared(tmp_path, with_one(lambda r: r[3] + 0.1)())}")
    assert (result.code, result.err) == (cli.WARNINGS, "")
    assert re.search(r"warning: 1 of 10 clips have a DC offset .*: u03\n   remedy: high-pass", result.out)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("data", "not a prepared data set, or preparing it did not finish (no manifest.json); run data_prep.prepare"),
        ("workdir", "no config.json in it; give a workdir of fwn.train or an output folder of fwn.convert"),
        ("ckpt", "no config.json in it; give a workdir of fwn.train or an output folder of fwn.convert"),
    ],
)
def test_mistakes_are_one_line(tmp_path, flag, message):
    assert doctor(f"--{flag}={tmp_path}") == small.Result(1, "", f"python -m fwn.doctor: {tmp_path}: {message}\n")
    assert doctor(f"--{flag}={tmp_path / 'no'}").err.startswith(
        f"python -m fwn.doctor: {tmp_path / 'no'}: no such folder"
    )
    assert doctor("more").code == 1


def test_a_failure_is_a_finding():
    def failing():
        yield "a fact"
        raise ValueError("of two\nlines")

    said = list(guarded(failing(), "x"))
    assert said[0] == "a fact"
    check(said[1:], ERROR, r"^x: could not be examined further \(ValueError: of two lines\)$")

    def refusing():
        yield from ()
        raise UserError("x: damaged (why); restore it")

    assert list(guarded(refusing(), "x")) == [Finding(ERROR, "x: damaged (why)", "restore it")]


# -- the environment


def test_the_environment_by_itself():
    result = doctor()
    assert result.err == ""
    assert result.code in (0, cli.WARNINGS)
    for fact in ("jax ", "backend: ", "disk of ", "memory: ", "cores: "):
        assert fact in result.out


def test_a_gpu_that_is_not_used(tmp_path, monkeypatch):
    """An nvidia-smi that knows one, while JAX computes on the CPU."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'Some GPU, 580.1, 81920 MiB'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    if jax.default_backend() == "cpu":
        check(findings(environment.examine()), WARNING, r"there is a GPU \(Some GPU, 580.1, 81920 MiB\)")


def test_little_disk_and_memory(monkeypatch, small_disk):
    found = findings(environment.examine(small_disk))
    check([f for f in found if "disk" in f.what], WARNING, f"the disk of {small_disk} has 0 MiB free")
    monkeypatch.setattr(memory, "machine", lambda: memory.Memory(2**34, 2**20))
    assert any("only 1 MiB of memory are free" in f.what for f in findings(environment.examine()))


def test_versions_of_constraints():
    assert environment.pinned('# a\na-b==1.0; python_version < "3.12"\na-b==2.0\nc==3\n') == {
        "a-b": {"1.0", "2.0"},
        "c": {"3"},
    }
