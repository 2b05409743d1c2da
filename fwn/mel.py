"""The mel contract: every parameter of a mel-spectrogram convention, with a hash, and the mels it defines.

A vocoder hears nothing but its mels, and two conventions of one shape sound like a broken model. So the prepared data
set, the checkpoint and the sampler each carry the contract, and a mel of another one is refused (`check_mel`).
All in NumPy: an accelerator machine may lack librosa.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fwn.errors import UserError, nearest

BLOCK = 1024  # frames transformed at a time: an hour of audio needs no more memory than a minute
CHOICES = {
    "power": (1, 2),
    "filter_scale": ("slaney", "htk"),
    "filter_norm": ("slaney", "none"),
    "padding": ("centre", "same"),
    "compression": ("ln", "db20_normalised"),
    "alignment": ("half", "start"),
}


def _typed(name: str, kind: str, value: Any) -> Any:
    """The value as the field's type, so that 125 and 125.0 hash alike; UserError on another kind of value."""
    if value is None and kind.endswith("| None"):
        return None
    if kind == "str" and isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        if kind.startswith("float"):
            return float(value)
        if kind == "int" and value == int(value):
            return int(value)
    raise UserError(f"mel contract: {name} is {value!r}, but must be {kind.replace('| None', 'or null')}")


@dataclasses.dataclass(frozen=True)
class MelContract:
    """All parameters of one convention; each decides the values, except `name`, which is for people and not hashed.

    Raises UserError on a value that makes no mel.
    """

    name: str
    sample_rate: int  # Hz
    n_fft: int
    win_length: int  # samples of the periodic Hann window
    hop_length: int
    n_mels: int
    fmin: float  # Hz
    fmax: float  # Hz
    power: int  # of the STFT magnitude: 1 amplitude, 2 power
    power_epsilon: float  # added to |STFT|² before the root (HiFi-GAN), else 0
    filter_scale: str  # "slaney" or "htk"
    filter_norm: str  # "slaney": bands of unit area; "none": bands of unit height
    # The signal is reflected on each side: "centre" by n_fft / 2, so that frame i is centred on sample i·hop;
    # "same" by (n_fft - hop) / 2, so that frame i is centred on the samples i·hop ... (i + 1)·hop.
    padding: str
    # "ln": ln max(floor, S);  "db20_normalised": clip((20·log10 max(floor, S) - reference_db - min_db) / -min_db, 0, 1)
    compression: str
    floor: float
    reference_db: float | None  # db20_normalised only
    min_db: float | None  # db20_normalised only, negative
    peak: float | None  # each utterance is scaled to this peak; None: left as recorded
    # The waveform is brought to frames·hop samples: "half" with half of the missing zeros on each side;
    # "start" with sample 0 kept first, zeros (or the cut) at the end.
    alignment: str

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _typed(field.name, str(field.type), getattr(self, field.name)))
        for name, choices in CHOICES.items():
            self._require(getattr(self, name) in choices, name, f"must be one of {', '.join(map(str, choices))}")
        for name in ("sample_rate", "hop_length", "win_length", "n_fft", "n_mels", "floor"):
            self._require(getattr(self, name) > 0, name, "must be positive")
        self._require(
            self.hop_length <= self.win_length <= self.n_fft, "win_length", "must be within hop_length … n_fft"
        )
        self._require(self.n_fft % 2 == 0, "n_fft", "must be even")
        self._require(
            self.padding == "centre" or self.hop_length % 2 == 0, "hop_length", "must be even with padding 'same'"
        )
        self._require(0 <= self.fmin < self.fmax, "fmin", "must be within 0 … fmax")
        self._require(
            self.fmax <= self.sample_rate / 2, "fmax", f"must be at most half of sample_rate {self.sample_rate}"
        )
        self._require(self.power_epsilon >= 0, "power_epsilon", "must be 0 or more")
        self._require(self.peak is None or 0 < self.peak <= 1, "peak", "must be null or within 0 … 1")
        if self.compression == "ln":
            for name in ("reference_db", "min_db"):
                self._require(getattr(self, name) is None, name, "must be null with compression 'ln'")
        else:
            self._require(self.reference_db is not None, "reference_db", "must be a number of decibels")
            self._require(
                self.min_db is not None and self.min_db < 0, "min_db", "must be a negative number of decibels"
            )

    def _require(self, holds: bool, field: str, rule: str) -> None:
        if not holds:
            raise UserError(f"mel contract {self.name!r}: {field} is {getattr(self, field)!r}, but {rule}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is its inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "mel contract") -> MelContract:
        """The contract with exactly these fields. Raises UserError on unknown or missing ones, naming `source`."""
        fields = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in fields:
                raise UserError(f"{source}: unknown field {name!r}{nearest(name, fields)}")
        missing = [name for name in fields if name not in values]
        if missing:
            raise UserError(
                f"{source}: missing {', '.join(missing)} (every field must be given; presets: {', '.join(PRESETS)})"
            )
        return cls(**values)

    def hash(self) -> str:
        """12 hexadecimal digits of the SHA-256 of all parameters but the name."""
        values = {key: value for key, value in self.to_dict().items() if key != "name"}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def value_range(self) -> tuple[float, float]:
        """Lowest and highest value of a mel of audio within ±1 (an upper bound, within discretisation of the bands)."""
        if self.compression == "db20_normalised":
            return 0.0, 1.0
        loudest = ((self.peak or 1.0) * self.win_length / 2) ** self.power  # |STFT| ≤ peak · Σ window
        bandwidth = 1.0 if self.filter_norm == "slaney" else (self.fmax - self.fmin) / 2  # ∫ band dHz
        return math.log(self.floor), max(
            math.log(self.floor) + 1, math.log(loudest * bandwidth * self.n_fft / self.sample_rate)
        )

    @property
    def title(self) -> str:
        return f"{self.name} ({self.hash()})"


_TACOTRON2 = MelContract(
    name="tacotron2",  # NVIDIA tacotron2 and waveglow: layers.TacotronSTFT, mel2samp.Mel2Samp
    sample_rate=22050,
    n_fft=1024,
    win_length=1024,
    hop_length=256,
    n_mels=80,
    fmin=0.0,
    fmax=8000.0,
    power=1,
    power_epsilon=0.0,
    filter_scale="slaney",
    filter_norm="slaney",
    padding="centre",
    compression="ln",
    floor=1e-5,
    reference_db=None,
    min_db=None,
    peak=None,
    alignment="start",
)
PRESETS = {
    "flowavenet": dataclasses.replace(
        _TACOTRON2,
        name="flowavenet",  # ksw0306/FloWaveNet: preprocessing._process_utterance
        fmin=125.0,
        fmax=7600.0,
        power=2,
        compression="db20_normalised",
        floor=1e-4,
        reference_db=20.0,
        min_db=-100.0,
        peak=0.999,
        alignment="half",
    ),
    "tacotron2": _TACOTRON2,
    "hifigan": dataclasses.replace(
        _TACOTRON2,
        name="hifigan",  # jik876/hifi-gan: meldataset.mel_spectrogram, MelDataset
        power_epsilon=1e-9,
        padding="same",
        peak=0.95,
    ),
}


def contract(name_or_dict: str | Mapping[str, Any] | MelContract, source: str = "mel contract") -> MelContract:
    """The preset of that name, or the contract with these fields. Raises UserError naming the nearest valid name."""
    if isinstance(name_or_dict, MelContract):
        return name_or_dict
    if not isinstance(name_or_dict, str):
        return MelContract.from_dict(name_or_dict, source)
    if name_or_dict not in PRESETS:
        near = nearest(name_or_dict, list(PRESETS))
        raise UserError(f"{source}: no preset is called {name_or_dict!r}{near} (presets: {', '.join(PRESETS)})")
    return PRESETS[name_or_dict]


def difference(a: MelContract, b: MelContract) -> str:
    """Both contracts as columns of a table, the differing rows marked, for error messages."""
    left, right = a.to_dict(), b.to_dict()
    rows = [("", a.title, b.title, "")]
    for key in left:
        if key != "name":
            rows.append((key, str(left[key]), str(right[key]), "" if left[key] == right[key] else "<- differs"))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = (
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]).rstrip() for row in rows
    )
    return "\n".join(f"  {line}" for line in lines)


def check_mel(array: np.ndarray, contract: MelContract, source: str, bands_last: bool | None = None) -> np.ndarray:
    """A mel from outside -> float32 [frames, n_mels], or UserError beginning with `source`.

    Takes [frames, n_mels] or [n_mels, frames], told apart by the band count (or by `bands_last`). Values may leave the
    contract's range by 5% of it, as the output of an acoustic model does, and are returned as they are.
    """
    array, n = np.asarray(array), contract.n_mels
    if array.dtype not in (np.float16, np.float32, np.float64):
        raise UserError(f"{source}: a mel is an array of float16, float32 or float64, this is {array.dtype}")
    if array.ndim != 2:
        raise UserError(f"{source}: a mel has the shape [frames, {n}] or [{n}, frames], this has {list(array.shape)}")
    if array.size == 0:
        raise UserError(f"{source}: the mel is empty, its shape is {list(array.shape)}")
    if n not in array.shape:
        raise UserError(f"{source}: the mel has the shape {list(array.shape)}, but {contract.title} has {n} bands")
    if array.shape == (n, n) and bands_last is None:
        raise UserError(
            f"{source}: {n} frames of {n} bands read both ways; add or drop a frame, to tell the bands from the frames"
        )
    if bands_last is None:
        bands_last = array.shape[1] == n
    mel = np.ascontiguousarray(array if bands_last else array.T, dtype=np.float32)
    if mel.shape[1] != n:
        raise UserError(f"{source}: the mel has {mel.shape[1]} bands, but {contract.title} has {n}")
    wrong = ~np.isfinite(mel)
    if wrong.any():
        frame, band = np.argwhere(wrong)[0]
        raise UserError(
            f"{source}: {wrong.sum()} of {mel.size} values are NaN or infinite, the first in frame {frame}, band {band}"
        )
    reason = _implausible(mel, contract)
    if reason:
        others = [other for other in PRESETS.values() if other.n_mels == n and not _implausible(mel, other)]
        looks = " or ".join(other.name for other in others) or "none of the presets"
        tables = "".join(f"\n{difference(contract, other)}" for other in others[:1])
        raise UserError(
            f"{source}: values {mel.min():.4g} … {mel.max():.4g} are no mel of {contract.title}, {reason}; it looks"
            f" like {looks}. Make the mel with the convention of the model, {contract.name}{tables}"
        )
    return mel


def _implausible(mel: np.ndarray, contract: MelContract) -> str:
    """Why no audio has this mel under the contract, or ''."""
    low, high = contract.value_range
    slack = 0.05 * (high - low)
    if mel.min() < low - slack or mel.max() > high + slack:
        return f"whose values are within {low:.4g} … {high:.4g}"
    # By Parseval the mean |STFT|² of audio within ±1 is at most Σ window², which bands of unit area turn into about 1:
    # no sound reaches ln S = 0 in all bands of all frames. A mel that does is normalised, as flowavenet's to 0 … 1.
    if contract.compression == "ln" and mel.min() >= 0:
        return "whose values are natural logarithms, mostly negative"
    return ""


def mel_spectrogram(audio: np.ndarray, contract: MelContract) -> np.ndarray:
    """Audio float32 [T], peak-normalised already if the contract says so -> mel float32 [frames, n_mels].

    frames = 1 + T // hop ("centre") or T // hop ("same"); T must be at least n_fft.
    """
    n, hop = contract.n_fft, contract.hop_length
    if len(audio) < n:
        raise UserError(f"{len(audio)} samples are too short for a mel: one frame has {n}")
    padded = np.pad(audio, n // 2 if contract.padding == "centre" else (n - hop) // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, n)[::hop]
    window, bands = _window(contract), _bands(contract)
    mel = np.empty((len(windows), contract.n_mels), np.float32)
    for i in range(0, len(windows), BLOCK):
        # In float64, because next to loud bands a float32 transform is 1e-3 off in quiet ones after the logarithm.
        stft = np.fft.rfft(windows[i : i + BLOCK] * window)
        power = stft.real**2 + stft.imag**2 + contract.power_epsilon
        mel[i : i + BLOCK] = (power if contract.power == 2 else np.sqrt(power)).astype(np.float32) @ bands.T
    return _compress(mel, contract)


def _window(contract: MelContract) -> np.ndarray:
    """Periodic Hann window amid n_fft samples: float64 [n_fft], rounded to float32 as in the official codes."""
    window = np.hanning(contract.win_length + 1)[:-1].astype(np.float32).astype(np.float64)
    before = (contract.n_fft - contract.win_length) // 2
    return np.pad(window, (before, contract.n_fft - contract.win_length - before))


@functools.lru_cache(maxsize=8)
def _bands(contract: MelContract) -> np.ndarray:
    """Triangular bands float32 [n_mels, 1 + n_fft // 2], those of librosa.filters.mel (a second's import)."""
    lowest, highest = _to_mel(np.array([contract.fmin, contract.fmax]), contract.filter_scale)
    edges = _to_hz(np.linspace(lowest, highest, contract.n_mels + 2), contract.filter_scale)[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    hz = np.linspace(0, contract.sample_rate / 2, 1 + contract.n_fft // 2)
    bands = np.maximum(0, np.minimum((hz - low) / (centre - low), (high - hz) / (high - centre)))
    if contract.filter_norm == "slaney":
        bands *= 2 / (high - low)
    return bands.astype(np.float32)


# Slaney's scale (Auditory Toolbox): linear below 1 kHz with 3 mel per 200 Hz, above it 27 mel per factor of 6.4.
def _to_mel(hz: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 2595 * np.log10(1 + hz / 700)
    return np.where(hz < 1000, hz * 3 / 200, 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4))


def _to_hz(mel: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


def _compress(mel: np.ndarray, contract: MelContract) -> np.ndarray:
    mel = np.maximum(np.float32(contract.floor), mel)
    if contract.reference_db is None or contract.min_db is None:
        return np.log(mel)
    db = 20 * np.log10(mel) - contract.reference_db
    return np.clip((db - contract.min_db) / -contract.min_db, 0, 1).astype(np.float32)


def align(audio: np.ndarray, contract: MelContract) -> tuple[np.ndarray, np.ndarray]:
    """Audio float32 [T] as recorded -> (audio [frames · hop], mel [frames, n_mels]), both as the model sees them.

    Peak-normalised if the contract says so; mel frame i belongs to the samples [i·hop, (i + 1)·hop).
    "half" is that of the official code: preprocessing._process_utterance.
    """
    audio = np.asarray(audio, np.float32)
    if contract.peak is not None:
        loudest = np.abs(audio).max(initial=0.0)
        if not loudest > 0:
            raise UserError(f"silent audio cannot be normalised to a peak of {contract.peak}")
        audio = audio / loudest * np.float32(contract.peak)
    mel = mel_spectrogram(audio, contract)
    samples = len(mel) * contract.hop_length
    missing = max(samples - len(audio), 0)
    before = missing // 2 if contract.alignment == "half" else 0
    return np.pad(audio, (before, missing - before))[:samples], mel
