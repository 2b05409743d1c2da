"""Mels of other programs: presets equal to their origins, statistics, what tells conventions apart, and conversion.

The golden arrays are what the origins' own code made of `golden_audio`: ParallelWaveGAN 8674037 (bin/preprocess.py,
bin/normalize.py), ESPnet 202511 (LogMelFbank, GlobalMVN), BigVGAN 7d2b454 (meldataset.mel_spectrogram), Vocos c859e3b
(MelSpectrogramFeatures, with torchaudio 2.11.1).
"""

import dataclasses
import json
import math
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import small

from fwn import config as configs
from fwn.audio import audio_file
from fwn.errors import UserError
from fwn.evaluation.measure import synthetic
from fwn.mel import PRESETS, MelContract, align, check_mel, mel_spectrogram, silence
from fwn.mel.agreement import agreement
from fwn.mel.compression import compress, log_bands, plain_mel
from fwn.mel.convert import converted
from fwn.mel.statistics import normalised
from fwn.shipped import experiment
from fwn.systems import build

GOLDEN = Path(__file__).parent / "golden"
MELS = np.load(GOLDEN / "mel_presets.npz")
STATS = {"pwg_24k_300": ["mel_stats.npy", "mel_stats.h5"], "espnet_24k_300": ["mel_feats_stats.npz"]}


def golden_audio(rate: int) -> np.ndarray:
    """A chirp, a harmonic tone and noise, with a tenth of a second of noise of one 16-bit step and one of zeros."""
    n = rate * 9 // 10 + 37
    t = np.arange(n) / rate
    noise = np.random.RandomState(0).standard_normal(n)
    x = 0.25 * np.sin(2 * np.pi * (100 * t + (0.45 * rate - 100) / 1.8 * t**2))
    tone = sum(np.sin(2 * np.pi * 190 * k * t + 0.3 * k) / k for k in range(1, 17))
    x += 0.18 * tone * (0.6 + 0.4 * np.sin(2 * np.pi * 5 * t)) + 0.004 * noise
    x[rate // 2 : rate * 6 // 10] = 3e-5 * noise[rate // 2 : rate * 6 // 10]
    x[rate * 6 // 10 : rate * 7 // 10] = 0
    return (np.round(32767 * x).astype(np.int16) / 32768).astype(np.float32)


def mel_by(contract: MelContract) -> np.ndarray:
    return align(golden_audio(contract.sample_rate), contract)[1]


def with_stats(name: str, file: str) -> MelContract:
    return normalised(PRESETS[name], GOLDEN / file)


@pytest.mark.parametrize("name", [name for name in MELS.files if name in PRESETS])
def test_presets_equal_their_origins(name):
    np.testing.assert_allclose(mel_by(PRESETS[name]), MELS[name], rtol=0, atol=1e-4)


def test_every_other_preset_is_golden():
    assert PRESETS.keys() - set(MELS.files) == {"flowavenet", "tacotron2", "hifigan"}  # tests/test_mel.py


@pytest.mark.parametrize(("name", "file"), [(name, file) for name, files in STATS.items() for file in files])
def test_normalised_mels_equal_their_origins(name, file):
    if file.endswith(".h5"):
        pytest.importorskip("h5py")
    contract = with_stats(name, file)
    mel = mel_by(contract)
    np.testing.assert_allclose(mel, MELS[f"{name}_normalised"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(plain_mel(mel, contract), MELS[name], rtol=0, atol=1e-5)
    again = MelContract.from_dict(json.loads(json.dumps(contract.to_dict())))
    assert again == contract
    assert again.hash() == contract.hash() != PRESETS[name].hash()
    assert contract.plain == dataclasses.replace(PRESETS[name], name=contract.name)
    low, high = contract.value_range
    assert low - 1e-5 <= mel.min() < mel.max() <= high
    check_mel(mel, contract, "m")


def test_statistics_of_kaldi(tmp_path):
    """[2, M + 1]: sums with the count last, sums of squares. The same as those in a .npz."""
    with np.load(GOLDEN / "mel_feats_stats.npz") as stats:
        sums = np.append(stats["sum"], stats["count"])
        kaldi = np.stack([sums, np.append(stats["sum_square"], 0)])
    np.save(tmp_path / "cmvn.npy", kaldi)
    one, other = (
        normalised(PRESETS["espnet_24k_300"], path) for path in (tmp_path / "cmvn.npy", GOLDEN / "mel_feats_stats.npz")
    )
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-6)
    np.testing.assert_allclose(one.scale, other.scale, rtol=1e-4)


def test_statistics_of_several_speakers(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "stats.h5", "w") as file:
        for speaker, scale in (("p225", 2.0), ("p226", 3.0)):
            file[f"{speaker}/mean"], file[f"{speaker}/scale"] = np.zeros(80, "float32"), np.full(80, scale, "float32")
    assert normalised(PRESETS["pwg_24k_300"], tmp_path / "stats.h5", "p226").scale == (3.0,) * 80
    with pytest.raises(UserError, match=r"stats.h5: has no 'p227'; it has 'p225', 'p226'"):
        normalised(PRESETS["pwg_24k_300"], tmp_path / "stats.h5", "p227")


@pytest.mark.parametrize("name", PRESETS)
def test_the_energy_of_bands_comes_back(name):
    contract = PRESETS[name]
    rng = np.random.default_rng(0)
    contract = dataclasses.replace(contract, mean=(0.3,) * contract.n_mels, scale=(1.7,) * contract.n_mels)
    low, high = (4 * math.log(10) / 20 * -20, 0.0) if contract.min_db else (math.log(contract.floor), 0.0)
    log = rng.uniform(low, high, (30, contract.n_mels)).astype(np.float32)
    np.testing.assert_allclose(log_bands(compress(np.exp(log), contract), contract), log, atol=1e-4)


def both(origin: MelContract, target: MelContract, **how) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(the converted mel, that of the recording, notes)."""
    found, notes = converted(mel_by(origin), origin, target, **how)
    return found, mel_by(target), notes


def test_conversion_is_the_mel_of_the_recording():
    pwg = PRESETS["pwg_24k_300"]
    natural = dataclasses.replace(pwg, name="natural", compression="ln")
    decibels = dataclasses.replace(
        pwg, name="decibels", compression="db20_normalised", floor=1e-5, reference_db=20.0, min_db=-120.0
    )
    for target in (natural, decibels, with_stats("pwg_24k_300", "mel_stats.npy")):
        found, expected, notes = both(pwg, target)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert notes == []
    found, expected, notes = both(with_stats("pwg_24k_300", "mel_stats.npy"), natural)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert notes == []


def test_conversion_counts_what_is_not_exact():
    espnet, pwg = PRESETS["espnet_24k_300"], PRESETS["pwg_24k_300"]
    found, expected, notes = both(espnet, pwg)
    wrong = abs(found - expected) > 0.01 / math.log(10) + 1e-4
    (note,) = notes
    counted = int(note.split()[0])
    assert 0 < wrong.sum() <= counted < 0.2 * found.size
    assert "power_floor" in note
    higher = dataclasses.replace(pwg, name="higher", floor=1e-3)
    found, expected, notes = both(higher, pwg)
    wrong = abs(found - expected) > 1e-4
    at_floor = int((mel_by(higher) <= -3 + 4e-5).sum())
    assert notes == [
        f"{at_floor} of {found.size} values are at the floor of higher, 0.001; they stay there, where pwg_24k_300 goes "
        "down to 1e-10"
    ]
    assert 0 < wrong.sum() <= int(notes[0].split()[0])


def test_values_at_a_floor_are_counted_whatever_the_gain_and_the_compression():
    silence = np.full((3, 80), math.log(1e-5), np.float32)
    natural = PRESETS["tacotron2"]
    assert "240 of 240 values are at the floor" in converted(silence, natural, natural, 10.0)[1][0]
    assert converted(silence, natural, natural, 0.1)[1] == []
    low = dataclasses.replace(PRESETS["flowavenet"], name="low", floor=1e-6)
    deep = dataclasses.replace(low, name="deep", compression="ln", reference_db=None, min_db=None)
    assert (
        "at the floor of low, 0.0001; they stay there, where deep goes down to 1e-06"
        in (converted(np.zeros((3, 80), np.float32), low, deep)[1][0])
    )


def test_conversion_with_a_gain():
    pwg = PRESETS["pwg_24k_300"]
    scaled = dataclasses.replace(pwg, name="scaled", peak=0.9)
    with pytest.raises(UserError, match="give --gain"):
        both(pwg, scaled)
    found, expected, _ = both(pwg, scaled, gain=0.9 / abs(golden_audio(24000)).max())
    loud = expected > -8  # a larger gain lifts the quietest values from the floor
    np.testing.assert_allclose(found[loud], expected[loud], atol=1e-4)


@pytest.mark.parametrize(
    ("origin", "target", "why"),
    [
        ("tacotron2", "hifigan", "the frames are centred half a hop apart"),
        ("pwg_24k_300", "pwg_24k_240", "the frames are at other times"),
        ("vocos_24k_100", "bigvgan_24k_100", "the bands are others"),
        ("tacotron2", "flowavenet", "sums of magnitudes do not determine sums of powers"),
    ],
)
def test_conversion_is_refused_where_values_do_not_determine_values(origin, target, why):
    with pytest.raises(UserError, match=why):
        converted(mel_by(PRESETS[origin]), PRESETS[origin], PRESETS[target])


@pytest.mark.parametrize("name", PRESETS)
def test_a_mel_agrees_with_its_recording(name):
    contract = PRESETS[name]
    audio = small.speech(3, contract.sample_rate)
    found = agreement(align(audio, contract)[1], audio, contract)
    assert found.same
    assert (found.shift, round(found.correlation, 4), round(found.slope, 4)) == (0, 1, 1)
    assert abs(found.error) < 1e-4


def test_a_mel_that_is_shifted_by_half_a_frame_does_not_agree():
    audio = small.speech(3, 24000)
    contract = dataclasses.replace(PRESETS["tacotron2"], sample_rate=24000)
    same_padding = dataclasses.replace(contract, padding="same")
    for made, shift in ((align(audio, same_padding)[1], 0.5), (align(audio, contract)[1][1:], 1)):
        found = agreement(made, audio, contract)
        assert not found.same
        assert found.shift == shift


DAMAGES = {  # what others do to a tacotron2 mel, and what is said of it
    "decimal logarithms": (lambda mel: mel / math.log(10), "it has decimal logarithms instead of natural ones"),
    "power": (lambda mel: 2 * mel, "it has power instead of magnitude"),
    "decibels": (lambda mel: 20 / math.log(10) * mel, "it has decibels instead of natural logarithms"),
    "one frame": (lambda mel: mel[1:], "it is 1 frame early"),
    "gain": (lambda mel: mel + math.log(2), "it is 2 times as large: another gain or window"),
}


@pytest.fixture
def recorded(tmp_path) -> Path:
    audio_file.write(tmp_path / "u.wav", small.speech(3, 30_000), small.RATE)
    return tmp_path


@pytest.mark.parametrize("damage", DAMAGES)
def test_inspection_says_what_was_done(recorded, damage):
    change, said = DAMAGES[damage]
    audio, _ = audio_file.read(recorded / "u.wav", small.RATE)
    np.save(recorded / "u.npy", change(align(audio, PRESETS["tacotron2"])[1]).T)
    found = small.program("fwn.mel", "inspect", recorded / "u.npy", f"--wav={recorded}")
    (line,) = [line for line in found.out.splitlines() if "recording, tacotron2: differs" in line]
    assert said in line
    assert found.code == 3
    assert "it agrees with no contract; tacotron2 is nearest" in found.out or damage == "one frame"


def test_inspection_finds_the_convention(recorded):
    audio, _ = audio_file.read(recorded / "u.wav", 24000)
    np.save(recorded / "u.npy", align(audio, PRESETS["pwg_24k_300"])[1])
    found = small.program("fwn.mel", "inspect", recorded / "u.npy", f"--wav={recorded / 'u.wav'}")
    assert found.code == 0
    assert found.out.splitlines()[-1].startswith("it agrees with pwg_24k_300")
    alone = small.program("fwn.mel", "inspect", recorded / "u.npy")
    assert alone.code == 0
    assert "  pwg_24k_300: can be" in alone.out
    assert "  flowavenet: cannot be, whose values are within 0 … 1" in alone.out


def test_conversion_and_contracts_on_the_command_line(recorded):
    stats = small.program("fwn.mel", "contract", "pwg_24k_300", f"--stats={GOLDEN / 'mel_stats.npy'}")
    (recorded / "mine.json").write_text(stats.out)
    contract = with_stats("pwg_24k_300", "mel_stats.npy")
    assert MelContract.from_dict(json.loads(stats.out)) == contract
    np.save(recorded / "u.npy", MELS["pwg_24k_300"])
    flags = "--mel_contract=pwg_24k_300", f"--to={recorded / 'mine.json'}", f"--output={recorded / 'out'}"
    found = small.program("fwn.mel", "convert", recorded, *flags)
    assert found.code == 0, found.err
    np.testing.assert_allclose(np.load(recorded / "out/u.npy"), MELS["pwg_24k_300_normalised"], atol=1e-5)


@pytest.mark.parametrize("file", sorted((small.ROOT / "experiments").glob("[a-z]*.py")), ids=lambda file: file.stem)
def test_every_experiment_is_one_of_any_mel(file):
    """Its sizes follow from the hop of every preset."""
    for name, contract in PRESETS.items():
        config = experiment(str(file))
        config.mel = name
        config = configs.copied(config)
        configs.check(config, contract, file.name)
        assert build(config, mel=contract).unit >= 1


@pytest.mark.parametrize("name", sorted(PRESETS.keys() - {"flowavenet", "tacotron2", "pwg_24k_240", "espnet_16k_256"}))
def test_a_preset_can_be_trained_on(name):
    """The likelihood of a crop and its gradient are finite, and so is speech, of its experiment at a small width."""
    config, contract = configs.copied(experiment(f"other_mel:{name}")), PRESETS[name]
    config.model.update({"n_block": 3, "n_flow": 1, "n_layer": 1, "prior_channels": 4})
    with config.model.ignore_type():
        config.model.channels = 4
    config.model.prediction.update({"order": 12, "first_order": 4, "channels": 4})
    config.frames = 6
    system = build(config, mel=contract)
    batch = synthetic(2, config.frames, contract, 0, system)
    params = system.init(jax.random.key(0), batch, {})

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def step(params, batch):
        loss, gradient = jax.value_and_grad(lambda p: system.loss(p, (), batch, jax.random.key(0))[0])(params)
        audio = system.sample(params, batch["mel"], jax.random.split(jax.random.key(0), 2), 1.0)
        return loss, gradient, audio

    loss, gradient, audio = step(params, batch)
    assert audio.shape == (2, config.frames * contract.hop_length)
    assert all(bool(np.isfinite(leaf).all()) for leaf in jax.tree.leaves((loss, gradient, audio)))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_an_experiment(name):
    """Of about the paper's crop in seconds, in whole positions of the last block."""
    config = configs.copied(experiment(f"other_mel:{name}"))
    contract = configs.mel_of(config)
    configs.check(config, contract, "other_mel")
    assert contract is PRESETS[name]
    crop = config.frames * contract.hop_length
    assert crop % 2**config.model.n_block == 0
    assert 0.6 < crop / contract.sample_rate < 0.9


@pytest.mark.parametrize("name", PRESETS)
def test_silence_is_the_mel_of_zeros(name):
    """Within a recording of zeros, to the last bit or so: where in a vector a value lies changes how it is rounded.

    It is not the lowest value where powers have a floor.
    """
    contract = PRESETS[name]
    frames = mel_spectrogram(np.zeros(20 * contract.n_fft, np.float32), contract)
    found = silence(contract, 3)
    assert (found.shape, found.dtype) == ((3, contract.n_mels), np.float32)
    np.testing.assert_allclose(found, frames[len(frames) // 2 :][:3], rtol=1e-6)
    check_mel(found, contract, "mel")
