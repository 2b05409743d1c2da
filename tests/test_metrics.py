"""Metrics of equal signals, noise, tones, silence and clipping; metrics of the published samples."""

import importlib.util
import math
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fwn.audio import spectral
from fwn.evaluation import estimates, metrics
from fwn.mel.filterbank import checked_filterbank, hz_to_mel, mel_to_hz

RATE = 22050


def speechlike(seconds: float = 1.5, seed: int = 0) -> np.ndarray:
    """Harmonics of a gliding 120-180 Hz voice in syllables, with breath: float32, peak 0.5."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(150 + 30 * np.sin(2 * np.pi * 0.7 * t)) / RATE
    voice = sum(np.sin(k * phase + k) / k for k in range(1, 30))
    syllables = np.sin(2 * np.pi * 1.5 * t) ** 2
    audio = voice * syllables + 0.02 * rng.normal(size=t.size)
    return (0.5 * audio / np.abs(audio).max()).astype(np.float32)


REF = speechlike()
NOISE = np.random.default_rng(1).normal(size=REF.size).astype(np.float32)

# each function takes (ref, est)
DISTANCES = {
    "log_mel_l1": lambda r, e: metrics.log_mel_l1(r, e, RATE),
    "multi_resolution_stft": metrics.multi_resolution_stft,
    "mcd": lambda r, e: metrics.mcd(r, e, RATE),
}
EXTRAS = {"pesq_wb": "pesq", "stoi": "pystoi"}
QUALITIES = {
    "pesq_wb": lambda r, e: metrics.pesq_wb(r, e, RATE),
    "stoi": lambda r, e: metrics.stoi(r, e, RATE),
}
BEST = {"pesq_wb": 4.644, "stoi": 1.0}


@pytest.fixture(autouse=True)
def _forget_messages():
    metrics._say_once.cache_clear()


# -- spectra


def test_spectra_and_mel_bands_equal_librosas():
    librosa = pytest.importorskip("librosa")
    for pad_mode, n_fft, hop in [("reflect", 1024, 256), ("constant", 512, 50), ("reflect", 4096, 1000)]:
        theirs = np.abs(librosa.stft(REF.astype(np.float64), n_fft=n_fft, hop_length=hop, pad_mode=pad_mode)).T
        np.testing.assert_allclose(spectral.stft_magnitude(REF, n_fft, hop, pad_mode), theirs, atol=1e-10)
    for rate, n_fft, bands, low, high in [
        (22050, 1024, 80, 0, 8000),
        (22050, 1024, 80, 125, 7600),
        (16000, 512, 40, 0, 8000),
    ]:
        theirs = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=bands, fmin=low, fmax=high, dtype=np.float64).T
        np.testing.assert_allclose(checked_filterbank(rate, n_fft, bands, low, high).T, theirs, atol=1e-12)


def test_mel_scale_has_its_inverse():
    hz = np.linspace(0, 11025, 500)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(hz)), hz, atol=1e-9)
    assert hz_to_mel(1000) == pytest.approx(15)


# -- properties of the metrics


@pytest.mark.parametrize("name", DISTANCES)
def test_distance_is_zero_at_equality_and_grows_with_noise(name):
    distances = [DISTANCES[name](REF, REF + level * NOISE) for level in (0, 1e-3, 1e-2, 1e-1)]
    assert distances[0] == 0
    assert all(a < 0.9 * b for a, b in pairwise(distances))


@pytest.mark.parametrize("name", QUALITIES)
def test_quality_is_best_at_equality_and_falls_with_noise(name):
    pytest.importorskip(EXTRAS[name])
    qualities = [QUALITIES[name](REF, REF + level * NOISE) for level in (0, 1e-1, 1)]
    assert qualities[0] == pytest.approx(BEST[name], abs=1e-3)
    assert all(a > 1.01 * b for a, b in pairwise(qualities))


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 32000, 44100, 48000, 96000])
def test_distances_of_mels_at_every_rate(rate):
    """Of one pair of signals, resampled; up to 16 kHz with fewer frequencies, above nearly the same."""
    import soxr

    noisy = REF + 0.02 * NOISE
    ref, est = (soxr.resample(audio, RATE, rate, "VHQ") for audio in (REF, noisy))
    for metric in (metrics.log_mel_l1, metrics.mcd):
        assert metric(ref, ref, rate) == 0
        expected = metric(REF, noisy, RATE)
        assert metric(ref, est, rate) == pytest.approx(expected, rel=0.5 if rate <= 16000 else 0.15)


def test_effect_of_gain_on_each_metric():
    loud = 2 * REF
    assert metrics.level_ratio_db(REF, loud) == pytest.approx(20 * math.log10(2), abs=1e-5)
    assert metrics.level_ratio_db(loud, REF) == pytest.approx(-20 * math.log10(2), abs=1e-5)
    assert metrics.log_mel_l1(REF, loud, RATE) == pytest.approx(math.log(2), abs=1e-3)
    assert metrics.mcd(REF, loud, RATE) == pytest.approx(0, abs=0.01)  # c_0 is left out
    assert metrics.multi_resolution_stft(REF, loud) == pytest.approx(1 + math.log(2), abs=1e-3)
    assert metrics.line_noise(loud, RATE) == pytest.approx(metrics.line_noise(REF, RATE), abs=1e-3)
    assert metrics.peak(loud) == pytest.approx(1.0)


def test_mcd_is_the_rms_difference_in_db_of_one_cepstral_ripple():
    """A ripple a cos(π 3 (k + 1/2) / 80) nepers over the bands has an RMS of 20 / ln 10 · a / √2 dB."""
    ripple = 0.4 * np.cos(np.pi * 3 * (np.arange(80) + 0.5) / 80)
    mels = iter([np.zeros((7, 80)), np.tile(ripple, (7, 1))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "log_mel", lambda audio, rate: next(mels))
        assert metrics.mcd(REF, REF, RATE) == pytest.approx(20 / math.log(10) * 0.4 / math.sqrt(2))


@pytest.mark.parametrize("sixteenths", [1, 3, 7])
def test_line_noise_finds_a_tone_on_the_grid(sixteenths):
    t = np.arange(NOISE.size)
    tone = np.cos(2 * np.pi * sixteenths / 16 * t)
    powers = [metrics.line_noise(0.01 * NOISE + a * tone, RATE) for a in (0, 0.001, 0.01)]
    assert powers[0] < 1
    assert powers[0] + 0.3 < powers[1] < powers[2] - 1
    # a line of amplitude a rises a² n_fft / (6 v) above white noise of variance v, at one of seven frequencies
    expected = 10 * math.log10(0.01**2 / 4 * 2048**2 / (0.01**2 * 1536)) / 7
    assert powers[2] - powers[0] == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize("cycles", [0.5 / 16, 2.5 / 16, 3 / 16 + 60 / 4096])
def test_line_noise_does_not_find_a_tone_elsewhere(cycles):
    t = np.arange(NOISE.size)
    tone = np.cos(2 * np.pi * cycles * t)
    assert metrics.line_noise(0.01 * NOISE + 0.01 * tone, RATE) == pytest.approx(
        metrics.line_noise(0.01 * NOISE, RATE), abs=0.1
    )


F0_TRACKERS = [
    pytest.param(
        blocked, id=name, marks=pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"no {name}")
    )
    for name, blocked in [("pyworld", []), ("librosa", ["pyworld"])]
]


@pytest.mark.parametrize("blocked", F0_TRACKERS)
def test_f0_of_a_transposed_voice(blocked, monkeypatch):
    for module in blocked:
        monkeypatch.setitem(sys.modules, module, None)
    ref = speechlike(1.0)
    same = metrics.f0_metrics(ref, ref, RATE)
    assert same == (0, 0, 0)
    t = np.arange(ref.size)
    faster = np.interp(t * 1.02 % ref.size, t, ref).astype(np.float32)[: ref.size - 500]
    shifted = metrics.f0_metrics(ref[: ref.size - 500], faster, RATE)
    assert 10 < shifted.rmse_cents < 100  # 34 cents up, plus the shifted glide
    assert 1 < shifted.rmse_hz < 10
    unvoiced = metrics.f0_metrics(ref, 0.05 * NOISE[: ref.size], RATE)
    assert unvoiced.vuv_error > 0.5


# -- metrics that cannot be measured


@pytest.mark.parametrize(
    ("blocked", "metric", "message"),
    [
        (["pesq"], "pesq_wb", "pesq is not installed"),
        (["soxr"], "pesq_wb", "soxr is not installed"),
        (["pystoi"], "stoi", "pystoi is not installed"),
        (["pyworld", "librosa"], "f0_metrics", "neither pyworld nor librosa"),
    ],
)
def test_missing_package_gives_none_and_one_message(blocked, metric, message, monkeypatch, capsys):
    if "pesq" not in blocked and metric == "pesq_wb":
        pytest.importorskip("pesq")
    for module in blocked:
        monkeypatch.setitem(sys.modules, module, None)
    values = [getattr(metrics, metric)(REF, REF, RATE) for _ in range(2)]
    assert values == [None, None] if metric != "f0_metrics" else [(None, None, None)] * 2
    lines = capsys.readouterr().out.splitlines()
    assert [message in line for line in lines] == [True]
    assert "pip install fwn[eval]" in lines[0]


def test_importing_the_metrics_imports_no_optional_package():
    optional = {"librosa", "pyworld", "pesq", "pystoi", "soxr", "matplotlib"}
    code = f"import sys, fwn.evaluation.estimates, fwn.evaluation.plots; print(*{optional} & set(sys.modules))"
    root = Path(__file__).resolve().parents[1]
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
        == "\n"
    )


HARD_ESTIMATES = {
    "silence": np.zeros_like(REF),
    "full-scale clipping": np.sign(REF + 1e-9).astype(np.float32),
    "overshoot": 4 * REF,
    "one click": np.eye(1, REF.size, 20000, dtype=np.float32)[0],
    "white noise": NOISE,
}


@pytest.mark.parametrize("name", HARD_ESTIMATES)
def test_hard_estimates_give_finite_values_or_none_with_a_message(name, capsys):
    values = metrics.copy_synthesis_metrics(REF, HARD_ESTIMATES[name], RATE)
    messages = capsys.readouterr().out
    assert list(values) == list(metrics.METRICS)
    assert all(v is None or math.isfinite(v) for v in values.values())
    assert all(values[m] is not None for m in [*DISTANCES, "level_ratio_db", "line_noise", "peak"])
    for metric, word in {"pesq_wb": "PESQ-WB", "stoi": "STOI", "f0_rmse_hz": "F0"}.items():
        assert values[metric] is not None or word in messages


def test_digital_silence_has_no_lines_and_a_floored_level():
    assert metrics.line_noise(np.zeros(RATE), RATE) == 0
    assert -100 < metrics.level_ratio_db(REF, np.zeros_like(REF)) < -50


@pytest.mark.parametrize("length", [1, 100, 3000])
def test_short_audio_can_be_measured(length):
    values = metrics.copy_synthesis_metrics(REF[3000 : 3000 + length], REF[3001 : 3001 + length], RATE)
    assert all(v is None or math.isfinite(v) for v in values.values())


# -- summaries


def test_intervals_cover_the_mean_in_95_percent_of_cases():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        estimate = estimates.summary([{"mcd": x} for x in rng.normal(3, 1, size=5)])["mcd"]
        hits += abs(estimate.mean - 3) < estimate.ci95
    assert 0.93 < hits / 2000 < 0.97


def test_missing_values_are_counted_and_shown():
    rows = [{"mcd": 2.0, "pesq_wb": None, "stoi": 0.9}, {"mcd": 4.0, "pesq_wb": None, "stoi": None}]
    s = estimates.summary(rows)
    assert s["mcd"] == (3.0, pytest.approx(12.7062, abs=1e-4), 2, 2)
    assert s["pesq_wb"] == (None, None, 0, 2)
    assert s["stoi"] == (0.9, None, 1, 2)
    text = estimates.table({"T = 0.8": s, "other": {"mcd": estimates.Estimate(1.0, 0.5, 9, 9)}})
    assert text.splitlines() == [
        "metric             better         T = 0.8        other",
        "MCD (dB)           lower     3.00 ± 12.71  1.00 ± 0.50",
        "PESQ-WB (MOS-LQO)  higher               -            -",
        "STOI               higher  0.900 (1 of 2)            -",
    ]
    lines = estimates.table({"a": s}, markdown=True).splitlines()
    assert lines[0].startswith("| metric")
    assert set(lines[1]) <= set("|-: ")
    assert len({line.count("|") for line in lines}) == len({len(line) for line in lines}) == 1


# -- the published samples

SAMPLES = os.environ.get("FWN_DEMO_SAMPLES")  # folder samples/ of github.com/ksw0306/flowavenet-demo
PUBLISHED = {  # five utterances each: log-mel L1, M-STFT, PESQ-WB, STOI, line noise dB, level dB
    "Gaussian/{}.wav": (0.332, 1.188, 3.40, 0.967, 0.27, -0.64),
    "MoL/{}.wav": (0.343, 1.217, 3.12, 0.956, 0.74, -0.81),
    "IAF/{}.wav": (0.447, 1.162, 2.81, 0.970, 0.81, -0.41),
    "FWN/{}.wav": (0.338, 1.148, 3.41, 0.973, 2.45, -0.83),
    "FWN/{}_causal.wav": (0.438, 1.278, 2.88, 0.951, 4.11, -1.92),
}


@pytest.mark.skipif(SAMPLES is None, reason="FWN_DEMO_SAMPLES does not name flowavenet-demo's samples/")
@pytest.mark.parametrize("system", PUBLISHED)
def test_metrics_of_the_published_samples(system):
    soundfile = pytest.importorskip("soundfile")
    for module in EXTRAS.values():
        pytest.importorskip(module)
    rows = []
    for i in range(1, 6):
        ref, est = (
            soundfile.read(Path(SAMPLES) / name.format(i), dtype="float32")[0] for name in ("GT/{}.wav", system)
        )
        rows.append(
            {
                "log_mel_l1": metrics.log_mel_l1(ref, est, RATE),
                "multi_resolution_stft": metrics.multi_resolution_stft(ref, est),
                "pesq_wb": metrics.pesq_wb(ref, est, RATE),
                "stoi": metrics.stoi(ref, est, RATE),
                "line_noise": metrics.line_noise(est, RATE),
                "level_ratio_db": metrics.level_ratio_db(ref, est),
            }
        )
    measured = {name: round(e.mean, metrics.METRICS[name].digits) for name, e in estimates.summary(rows).items()}
    assert measured == dict(zip(rows[0], PUBLISHED[system], strict=True))
