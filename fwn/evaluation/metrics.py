"""Objective metrics of synthesised speech `est` against its recording `ref`.

Both are mono float arrays [T] of equal length, full scale 1. They are compared frame by frame: copy synthesis is
aligned with the recording by its mel. Windows are in samples, chosen for 22,050 Hz. Bad input raises UserError.
tests/test_metrics.py lists what the authors' samples (github.com/ksw0306/flowavenet-demo) measure by these definitions.
"""

import math
import warnings
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.fft import dct

from fwn.audio.spectral import Array, line_excess, stft_magnitude
from fwn.errors import UserError
from fwn.mel.filterbank import checked_filterbank
from fwn.terminal import say

Audio = npt.NDArray[np.floating]

RESOLUTIONS = ((512, 50), (1024, 120), (2048, 240))  # (n_fft, hop) of the multi-resolution STFT distance
SILENCE = 1e-5  # RMS, -100 dB of full scale: a third of one 16-bit step


class Metric(NamedTuple):
    """How a metric is printed: label, unit ("" if none), which values are better, decimals."""

    label: str
    unit: str
    better: str
    digits: int


METRICS = {
    "log_mel_l1": Metric("log-mel L1", "", "lower", 3),
    "multi_resolution_stft": Metric("M-STFT", "", "lower", 3),
    "mcd": Metric("MCD", "dB", "lower", 2),
    "f0_rmse_hz": Metric("F0 RMSE", "Hz", "lower", 1),
    "f0_rmse_cents": Metric("F0 RMSE", "cents", "lower", 0),
    "vuv_error": Metric("V/UV error", "share", "lower", 3),
    "pesq_wb": Metric("PESQ-WB", "MOS-LQO", "higher", 2),
    "stoi": Metric("STOI", "", "higher", 3),
    "level_ratio_db": Metric("level", "dB", "near 0", 2),
    "line_noise": Metric("line noise", "dB", "lower", 2),
    "peak": Metric("peak", "full scale", "at most 1", 3),
}


def log_mel_l1(ref: Audio, est: Audio, sample_rate: int) -> float:
    """Mean |log_mel(ref) - log_mel(est)|, in nepers."""
    _check(ref, est)
    return float(np.abs(log_mel(ref, sample_rate) - log_mel(est, sample_rate)).mean())


def log_mel(audio: Audio, sample_rate: int) -> Array:
    """ln max(1e-5, mel of |STFT|) -> [frames, 80]: n_fft 1024, hop 256, Slaney bands 0-8000 Hz.

    It is the same for all models, whatever their mel contract. Above 32 kHz n_fft and hop are twice as long, above 64
    kHz four times, and so on, because bands need bins; below 16 kHz the bands end at half the sample rate.
    """
    longer = 2 ** max(0, math.ceil(math.log2(sample_rate / 32_000)))
    bands = checked_filterbank(sample_rate, longer * 1024, 80, 0, min(8000, sample_rate / 2))
    mel = stft_magnitude(audio, longer * 1024, longer * 256) @ bands.T
    return np.log(np.maximum(mel / longer, 1e-5))


def multi_resolution_stft(ref: Audio, est: Audio) -> float:
    """Mean over RESOLUTIONS of the spectral convergence ‖|R| - |E|‖ / ‖|R|‖ plus the mean |ln|R| - ln|E||.

    Yamamoto et al. 2020 (Parallel WaveGAN), eq. 3-6. Hann windows are n_fft long; magnitudes are floored at 1e-7.
    """
    _check(ref, est)
    if rms(ref) < SILENCE:
        raise UserError(f"the reference is silent (RMS {rms(ref):.1e}); leave this utterance out")
    distances = []
    for n_fft, hop in RESOLUTIONS:
        r, e = (stft_magnitude(audio, n_fft, hop) for audio in (ref, est))
        convergence = np.linalg.norm(r - e) / np.linalg.norm(r)
        logs = np.abs(np.log(np.maximum(r, 1e-7)) - np.log(np.maximum(e, 1e-7))).mean()
        distances.append(convergence + logs)
    return float(np.mean(distances))


def mcd(ref: Audio, est: Audio, sample_rate: int) -> float:
    """Mel-cepstral distortion in dB, without warping: 10 / ln 10 · mean over frames of sqrt(2 Σ_{m=1…24} Δc_m²).

    c_m = 2/80 Σ_k L_k cos(π m (k + 1/2) / 80) with L = log_mel(audio), so that L_k = c_0 / 2 + Σ_m c_m cos(…) as in
    Kubichek 1993. It is the RMS over bands of the difference of the smoothed spectra in dB, without their level c_0.
    """
    _check(ref, est)
    difference = log_mel(ref, sample_rate) - log_mel(est, sample_rate)
    cepstra = dct(difference, type=2, axis=-1)[:, 1:25] / difference.shape[-1]
    return float(10 / math.log(10) * np.sqrt(2 * (cepstra**2).sum(axis=-1)).mean())


class F0Error(NamedTuple):
    """RMSE over frames voiced in both (None if there are none); vuv_error: share of frames voiced in only one."""

    rmse_hz: float | None
    rmse_cents: float | None
    vuv_error: float | None


def f0_metrics(ref: Audio, est: Audio, sample_rate: int) -> F0Error:
    """Errors of the fundamental frequency, 60-600 Hz, every 5 ms, by pyworld's DIO and StoneMask.

    On the published samples Harvest takes 17 times as long, and its RMSE in Hz is three to five times as large.
    Without pyworld it is librosa's pYIN, every 256 samples. Figures of the two trackers are not comparable.
    """
    _check(ref, est)
    r, e = (_f0(audio.astype(np.float64), sample_rate) for audio in (ref, est))
    if r is None or e is None:
        return F0Error(None, None, None)
    both = (r > 0) & (e > 0)
    vuv_error = float(((r > 0) != (e > 0)).mean())
    if not both.any():
        _say_once("F0 RMSE: not measured for audio without a frame that is voiced in both recording and synthesis")
        return F0Error(None, None, vuv_error)
    hz, cents = r[both] - e[both], 1200 * np.log2(r[both] / e[both])
    return F0Error(float(np.sqrt((hz**2).mean())), float(np.sqrt((cents**2).mean())), vuv_error)


def _f0(audio: Array, sample_rate: int) -> Array | None:
    """F0 in Hz per frame, 0 where unvoiced; None if neither tracker is installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pyworld imports the deprecated pkg_resources
            import pyworld
    except ImportError:
        pass
    else:
        coarse, times = pyworld.dio(audio, sample_rate, f0_floor=60.0, f0_ceil=600.0)
        return pyworld.stonemask(audio, coarse, times, sample_rate)
    try:
        import librosa
    except ImportError:
        _say_once("F0 and V/UV: not measured, neither pyworld nor librosa is installed (pip install fwn[eval])")
        return None
    _say_once("F0 and V/UV: measured by librosa's pYIN, as pyworld is not installed (pip install fwn[eval])")
    f0, voiced, _ = librosa.pyin(audio, fmin=60, fmax=600, sr=sample_rate, frame_length=1024, hop_length=256)
    return np.where(voiced, f0, 0.0)


def pesq_wb(ref: Audio, est: Audio, sample_rate: int) -> float | None:
    """Wide-band PESQ (ITU-T P.862.2), MOS-LQO up to 4.64. None if not measurable, with a note.

    At the standard's 16 kHz, to which audio of other rates is resampled (soxr HQ).
    """
    _check(ref, est)
    try:
        import pesq
        import soxr
    except ImportError as error:
        return _say_once(f"PESQ-WB: not measured, {error.name} is not installed (pip install fwn[eval])")
    if rms(est) < SILENCE:
        return _say_once("PESQ-WB: not measured for a silent estimate")
    r, e = (soxr.resample(audio.astype(np.float32), sample_rate, 16000, "HQ") for audio in (ref, est))
    try:
        return float(pesq.pesq(16000, r, e, "wb"))
    except pesq.PesqError as error:  # no speech found, or shorter than a quarter of a second
        said = error.args[0].decode() if isinstance(error.args[0], bytes) else error
        return _say_once(f"PESQ-WB: not measured, pesq reports: {said}")


def stoi(ref: Audio, est: Audio, sample_rate: int) -> float | None:
    """Short-time objective intelligibility (Taal et al. 2011), at most 1, at 10 kHz, to which pystoi resamples.

    None if not measurable, with a note.
    """
    _check(ref, est)
    try:
        import pystoi
    except ImportError:
        return _say_once("STOI: not measured, pystoi is not installed (pip install fwn[eval])")
    if len(ref) < 0.4 * sample_rate:
        return _say_once("STOI: not measured for audio shorter than its 0.4 s window")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        value = float(pystoi.stoi(ref, est, sample_rate))
    if said:  # pystoi warns and returns 1e-5 if the reference has less than 0.4 s of speech
        return _say_once(f"STOI: not measured, pystoi reports: {said[0].message}")
    return value


def level_ratio_db(ref: Audio, est: Audio) -> float:
    """RMS of est over RMS of ref in dB, both floored at SILENCE."""
    _check(ref, est)
    r, e = (max(rms(audio), SILENCE) for audio in (ref, est))
    return 20 * math.log10(e / r)


def line_noise(audio: Audio, sample_rate: int) -> float:
    """FloWaveNet's tones: how far the long-term spectrum rises at j · sample_rate / 16, mean over j = 1…7, in dB.

    spectral.line_excess takes a maximum over three bins, so recordings measure a little above 0. The lines lie at fixed
    fractions of the sample rate, so the result does not depend on sample_rate.
    """
    _check(audio, audio)
    return float(line_excess(audio.astype(np.float64)).mean())


def peak(audio: Audio) -> float:
    """Largest |sample|; a 16-bit file saturates above 1."""
    _check(audio, audio)
    return float(np.abs(audio).max())


def copy_synthesis_metrics(ref: Audio, est: Audio, sample_rate: int) -> dict[str, float | None]:
    """All METRICS of one utterance. line_noise and peak depend on est only. Raises UserError if ref is silent."""
    f0 = f0_metrics(ref, est, sample_rate)
    return {
        "log_mel_l1": log_mel_l1(ref, est, sample_rate),
        "multi_resolution_stft": multi_resolution_stft(ref, est),
        "mcd": mcd(ref, est, sample_rate),
        "f0_rmse_hz": f0.rmse_hz,
        "f0_rmse_cents": f0.rmse_cents,
        "vuv_error": f0.vuv_error,
        "pesq_wb": pesq_wb(ref, est, sample_rate),
        "stoi": stoi(ref, est, sample_rate),
        "level_ratio_db": level_ratio_db(ref, est),
        "line_noise": line_noise(est, sample_rate),
        "peak": peak(est),
    }


def _check(ref: Audio, est: Audio) -> None:
    for audio, what in ((ref, "the reference"), (est, "the estimate")):
        if audio.ndim != 1 or not np.issubdtype(audio.dtype, np.floating):
            raise UserError(
                f"{what} is {audio.dtype} of shape {audio.shape}; metrics need mono floats of shape (samples,)"
            )
        if not audio.size:
            raise UserError(f"{what} has no samples")
        if not np.isfinite(audio).all():
            raise UserError(f"{what} has {np.count_nonzero(~np.isfinite(audio))} samples that are not finite")
    if len(ref) != len(est):
        raise UserError(
            f"the reference has {len(ref)} samples and the estimate {len(est)}; cut both to equal length first"
        )


def rms(audio: Audio) -> float:
    """Root mean square, in float64."""
    return math.sqrt(np.square(audio, dtype=np.float64).mean())


@cache
def _say_once(reason: str) -> None:
    say(reason)
