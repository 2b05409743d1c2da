"""Errors of the Python API, that no program has."""

import sys
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np

import fwn
from fwn.evaluation import estimates, metrics, plots
from fwn.mel import PRESETS, align, check_mel, contract, mel_spectrogram
from fwn.mel.filterbank import checked_filterbank

from . import Place, Row

MEL, NOISE = PRESETS["flowavenet"], np.random.default_rng(0).normal(size=4000).astype(np.float32)
FLAT = np.full((8, 80), 0.5, np.float32)


def vocoder(place: Place) -> Any:
    return fwn.load(place.shelf["plain"])


ROWS = [
    Row(
        lambda place: vocoder(place),
        "",
        f"fwn does not run on this system ({sys.platform}), which has no file locks of POSIX (Python's fcntl); on "
        "Windows run it in WSL 2: `wsl --install`, and install fwn there",
        lambda _: mock.patch.dict("sys.modules", {"fcntl": None}),
    ),
    Row(
        lambda _: replace(MEL, padding="left"),
        "",
        "mel contract 'flowavenet': padding is 'left', but must be one of centre, same",
    ),
    Row(lambda _: replace(MEL, hop_length="x"), "", "mel contract: hop_length is 'x', but must be int"),
    Row(
        lambda _: contract("hifi-gan", "--mel"),
        "",
        f"--mel: no preset is called 'hifi-gan'; did you mean 'hifigan'? (presets: {', '.join(PRESETS)})",
    ),
    Row(lambda _: mel_spectrogram(NOISE[:1000], MEL), "", "1000 samples are too few for a mel: one frame needs 1024"),
    Row(lambda _: align(0 * NOISE, MEL), "", "silent audio cannot be normalised to a peak of 0.999"),
    Row(
        lambda _: check_mel(FLAT, MEL, "a mel", bands_last=False),
        "",
        "a mel: the mel has 8 bands, but flowavenet (a13bd5d9b250) has 80",
    ),
    Row(
        lambda _: checked_filterbank(8000, 1024, 80, 0, 8000),
        "",
        "mel bands up to 8000 Hz need a sample rate of at least 16000 Hz, got 8000 Hz; use recordings "
        "with a higher sample rate",
    ),
    Row(
        lambda _: checked_filterbank(22050, 1024, 400, 0, 8000),
        "",
        "400 mel bands are too narrow for n_fft 1024 at 22050 Hz: no bin of the spectrum is in band 0; "
        "use a larger n_fft, fewer bands or a lower sample rate",
    ),
    Row(
        lambda _: metrics.multi_resolution_stft(0 * NOISE, NOISE),
        "",
        "the reference is silent (RMS 0.0e+00); leave this utterance out",
    ),
    Row(
        lambda _: metrics.multi_resolution_stft(NOISE, NOISE[1:]),
        "",
        "the reference has 4000 samples and the estimate 3999; cut both to equal length first",
    ),
    Row(
        lambda _: metrics.multi_resolution_stft(NOISE, NOISE.astype(int)),
        "",
        "the estimate is int64 of shape (4000,); metrics need mono floats of shape (samples,)",
    ),
    Row(lambda _: metrics.multi_resolution_stft(NOISE[:0], NOISE), "", "the reference has no samples"),
    Row(
        lambda _: metrics.multi_resolution_stft(NOISE, NOISE * np.nan),
        "",
        "the estimate has 4000 samples that are not finite",
    ),
    Row(lambda _: estimates.summary([]), "", "no utterances to average metrics over; give at least one"),
    Row(
        lambda place: plots.mel_pair(place.here / "a.png", {}, 22050, 256),
        "",
        "{here}/a.png: no mels to draw; give at least one",
        needs="matplotlib",
    ),
    Row(
        lambda place: plots.mel_pair(place.here / "a.png", {"x": FLAT[0]}, 22050, 256),
        "",
        "{here}/a.png: the mel 'x' has shape (80,), not (frames, bands)",
    ),
    Row(
        lambda place: plots.mel_pair(place.here / "a.png", {"x": FLAT * np.nan}, 22050, 256),
        "",
        "{here}/a.png: the mel 'x' has 640 values that are not finite",
    ),
    Row(
        lambda place: plots.curve(place.here / "a.png", {"x": ([1], [1, 2])}, "x", "y"),
        "",
        "{here}/a.png: the series 'x' has 2 values for 1 steps",
        needs="matplotlib",
    ),
    Row(
        lambda place: plots.curve(place.here / "a.png", {}, "x", "y"),
        "",
        "plots need matplotlib.figure, which is not installed: pip install matplotlib",
        lambda _: mock.patch.dict("sys.modules", {"matplotlib.figure": None}),
        needs="matplotlib",
    ),
    Row(lambda place: vocoder(place)(FLAT, key=3), "", "key is 3; give jax.random.key(3)"),
    Row(
        lambda place: vocoder(place)([FLAT[0].tolist(), [0.5]]),
        "",
        "mel: its rows differ in length, so it is no array; give rows of one length",
    ),
    Row(
        lambda place: vocoder(place)(np.stack([FLAT[:1]] * 3)),
        "",
        "mel: with the shape [3, 1, 80] it is not clear which axis is the batch; drop the axis of length 1, or give a "
        "list of mels",
    ),
    Row(
        lambda place: vocoder(place)([FLAT, FLAT[:, :40]]),
        "",
        "mel: number 1: the mel has the shape [8, 40], but flowavenet (a13bd5d9b250) has 80 bands",
    ),
    Row(lambda place: vocoder(place)([]), "", "mel: the mel is empty, its shape is [0]"),
    Row(
        lambda place: vocoder(place)(FLAT, chunk=1.5),
        "",
        "chunk is 1.5; it must be a whole number of mel frames, at least 0, 0 for all at once",
    ),
    Row(
        lambda place: list(vocoder(place).stream([FLAT], chunk=0)),
        "",
        "chunk is 0; it must be a whole number of mel frames, at least 1",
    ),
    Row(lambda place: list(vocoder(place).stream([])), "", "mel_frames is empty; give at least one frame"),
    Row(
        lambda place: list(vocoder(place).stream([FLAT, FLAT[:, :3]])),
        "",
        ("mel_frames, from frame 8 on: the mel has the shape [8, 3], but flowavenet (a13bd5d9b250) has 80 bands"),
    ),
    Row(
        lambda place: fwn.load(place.shelf["wavenet"]).roundtrip(NOISE[:2048], FLAT),
        "",
        "wavenet is not a flow, so it has no inverse",
    ),
    Row(
        lambda place: vocoder(place).log_likelihood(NOISE[:2048] * np.nan, FLAT),
        "",
        "audio: 2048 of 2048 samples are not finite",
    ),
    Row(
        lambda place: vocoder(place).log_likelihood(NOISE, FLAT),
        "",
        ("audio of shape [4000] for a mel of 8 frames; it must have 8 · 256 = 2048 samples, as fwn.mel.align gives it"),
    ),
    Row(
        lambda place: vocoder(place).decode(NOISE, FLAT),
        "",
        "noise of shape [4000] for a mel of 8 frames; it must have 8 · 256 = 2048 samples, as encode gives it",
    ),
    Row(
        lambda place: vocoder(place).interpolate(NOISE[:2048], NOISE[:256], 0.5),
        "",
        "noise of shape [2048] and [256]; give two of one length, a multiple of 256",
    ),
    Row(
        lambda place: vocoder(place)(FLAT, temperature=[0.5, 0.6, 0.7]),
        "",
        "temperature is [0.5, 0.6, 0.7]; give a finite number, 0 or more, or 2, one for each level",
    ),
    Row(
        lambda place: fwn.load(place.shelf["plain"], denoise=-1),
        "",
        "denoise is -1: it must be a number from 0 to 1, the share of the tones to remove",
    ),
    Row(
        lambda place: fwn.load(place.shelf["plain"], denoise="1"),
        "",
        "denoise is '1': it must be a number from 0 to 1, the share of the tones to remove",
    ),
    Row(
        lambda place: fwn.load(place.shelf["plain"], level_temperatures=[1, -1]),
        "",
        "level_temperatures is [1, -1]; give a finite number, 0 or more, or 2, one for each level",
    ),
]
