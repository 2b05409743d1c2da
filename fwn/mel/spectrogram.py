"""The mels that a contract defines. Uses NumPy only, so that machines without librosa can compute them."""

import functools
from typing import Literal

import numpy as np

from fwn.errors import UserError
from fwn.mel.compression import compress
from fwn.mel.convention import MelContract
from fwn.mel.filterbank import filterbank

BLOCK = 1024  # frames per FFT call, so that memory does not grow with the length of the audio


def mel_spectrogram(audio: np.ndarray, contract: MelContract) -> np.ndarray:
    """Audio float32 [T], scaled to the contract's peak -> mel float32 [frames, n_mels].

    frames = 1 + T // hop (padding "centre") or T // hop ("same"). Raises UserError if T < n_fft.
    """
    n, hop = contract.n_fft, contract.hop_length
    if len(audio) < n:
        raise UserError(f"{len(audio)} samples are too few for a mel: one frame needs {n}")
    padded = np.pad(audio, n // 2 if contract.padding == "centre" else (n - hop) // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, n)[::hop]
    window, bands = _window(contract), band_weights(contract)
    mel = np.empty((len(windows), contract.n_mels), np.float32)
    for i in range(0, len(windows), BLOCK):
        # In float64: a float32 FFT has errors of 1e-3 after the logarithm, in quiet bands beside loud ones.
        stft = np.fft.rfft(windows[i : i + BLOCK] * window)
        power = np.maximum(contract.power_floor, stft.real**2 + stft.imag**2 + contract.power_epsilon)
        mel[i : i + BLOCK] = (power if contract.power == 2 else np.sqrt(power)).astype(np.float32) @ bands.T
    return compress(mel, contract)


def silence(contract: MelContract, frames: int) -> np.ndarray:
    """The mel of digital silence, float32 [frames, n_mels]."""
    of_zeros = mel_spectrogram(np.zeros(4 * contract.n_fft, np.float32), contract)
    return of_zeros[len(of_zeros) // 2][None].repeat(frames, axis=0)


def _window(contract: MelContract) -> np.ndarray:
    """Periodic Hann window centred in n_fft samples: float64 [n_fft], rounded to float32 as in the official codes."""
    window = np.hanning(contract.win_length + 1)[:-1].astype(np.float32).astype(np.float64)
    before = (contract.n_fft - contract.win_length) // 2
    return np.pad(window, (before, contract.n_fft - contract.win_length - before))


@functools.lru_cache(maxsize=8)
def band_weights(contract: MelContract) -> np.ndarray:
    """The mel filters, float32 [n_mels, 1 + n_fft // 2]."""
    c = contract
    scale, norm = c.filter_scale, c.filter_norm
    return filterbank(c.sample_rate, c.n_fft, c.n_mels, c.fmin, c.fmax, scale, norm).astype(np.float32)


def to_peak(audio: np.ndarray, contract: MelContract) -> np.ndarray:
    """Audio float32 [T], scaled to the contract's peak if it has one. Raises UserError if it is silent then."""
    audio = np.asarray(audio, np.float32)
    if contract.peak is None:
        return audio
    loudest = np.abs(audio).max(initial=0.0)
    if not loudest > 0:
        raise UserError(f"silent audio cannot be normalised to a peak of {contract.peak}")
    return audio / loudest * np.float32(contract.peak)


def align(audio: np.ndarray, contract: MelContract) -> tuple[np.ndarray, np.ndarray]:
    """Recorded audio float32 [T] -> (audio [frames · hop], mel [frames, n_mels]) for the model.

    The audio is scaled to the contract's peak, if it has one. Mel frame i belongs to samples i·hop … (i + 1)·hop - 1.
    Official code (alignment "half"): preprocessing._process_utterance. Raises UserError if silent audio must be scaled.
    """
    audio = to_peak(audio, contract)
    mel = mel_spectrogram(audio, contract)
    samples = len(mel) * contract.hop_length
    missing = max(samples - len(audio), 0)
    before = missing // 2 if contract.alignment == "half" else 0
    mode: Literal["edge", "constant"] = "edge" if contract.alignment == "edge" else "constant"
    return np.pad(audio, (before, missing - before), mode=mode)[:samples], mel
