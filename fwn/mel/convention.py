"""The parameters of a mel convention and their hash. The presets are the conventions of three official codes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fwn.errors import UserError, nearest, short

CHOICES = {
    "power": (1, 2),
    "filter_scale": ("slaney", "htk"),
    "filter_norm": ("slaney", "none"),
    "padding": ("centre", "same"),
    "compression": ("ln", "db20_normalised"),
    "alignment": ("half", "start"),
}


def _typed(name: str, kind: str, value: Any) -> Any:
    """Converts a value to the field's type, so that 125 and 125.0 have one hash. Raises UserError for other types."""
    if value is None and kind.endswith("| None"):
        return None
    if kind == "str" and isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
        if kind.startswith("float"):
            return float(value)
        if kind == "int" and value == int(value):
            return int(value)
    raise UserError(f"mel contract: {name} is {short(value)}, but must be {kind.replace('| None', 'or null')}")


@dataclasses.dataclass(frozen=True)
class MelContract:
    """All parameters of a mel convention. All change the mel or its alignment, except `name`, which is not hashed.

    Raises UserError for invalid values.
    """

    name: str
    sample_rate: int  # Hz
    n_fft: int
    win_length: int  # samples of the periodic Hann window
    hop_length: int
    n_mels: int
    fmin: float  # Hz
    fmax: float  # Hz
    power: int  # exponent of the STFT magnitude: 1 amplitude, 2 power
    power_epsilon: float  # added to |STFT|² before the square root (HiFi-GAN); else 0
    filter_scale: str  # "slaney" or "htk"
    filter_norm: str  # "slaney": filters of unit area; "none": filters of unit height
    # Reflection padding on each side: "centre" by n_fft / 2, which centres frame i on sample i·hop;
    # "same" by (n_fft - hop) / 2, which centres frame i on the samples i·hop … (i + 1)·hop.
    padding: str
    # "ln": ln max(floor, S);  "db20_normalised": clip((20·log10 max(floor, S) - reference_db - min_db) / -min_db, 0, 1)
    compression: str
    floor: float
    reference_db: float | None  # db20_normalised only
    min_db: float | None  # db20_normalised only, negative
    peak: float | None  # each utterance is scaled to this peak; None: not scaled
    # How audio is padded or cut to frames·hop samples. "half": half the zeros on each side; "start": at the end only.
    alignment: str

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _typed(field.name, str(field.type), getattr(self, field.name)))
        for name, choices in CHOICES.items():
            self._require(getattr(self, name) in choices, name, f"must be one of {', '.join(map(str, choices))}")
        for name in ("sample_rate", "hop_length", "win_length", "n_fft", "n_mels", "floor"):
            self._require(getattr(self, name) > 0, name, "must be positive")
        for name in ("n_fft", "n_mels"):
            self._require(getattr(self, name) <= 2**16, name, "must be at most 65536")
        self._require(self.sample_rate <= 384_000, "sample_rate", "must be at most 384000")
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
            raise UserError(f"mel contract {self.name!r}: {field} is {short(getattr(self, field))}, but {rule}")

    def to_dict(self) -> dict[str, Any]:
        """The fields as values for JSON. The inverse is `from_dict`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "mel contract") -> MelContract:
        """The contract with these fields. Raises UserError, starting with `source`, on unknown or missing fields."""
        fields = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in fields:
                raise UserError(f"{source}: unknown field {name!r}{nearest(name, fields)}")
        missing = [name for name in fields if name not in values]
        if missing:
            raise UserError(
                f"{source}: missing {', '.join(missing)} (every field must be given; presets: {', '.join(PRESETS)})"
            )
        try:
            return cls(**values)
        except UserError as error:
            raise UserError(str(error) if str(error).startswith(source) else f"{source}: {error}") from error

    def hash(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of all parameters except the name."""
        values = {key: value for key, value in self.to_dict().items() if key != "name"}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def value_range(self) -> tuple[float, float]:
        """Bounds of the mel values of audio in ±1. The upper one ignores the discretisation of the bands."""
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
    name="tacotron2",  # NVIDIA tacotron2 and waveglow: TacotronSTFT in layers.py, Mel2Samp in mel2samp.py
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
    """The preset of that name, or the contract with these fields. A UserError suggests the most similar preset."""
    if isinstance(name_or_dict, MelContract):
        return name_or_dict
    if not isinstance(name_or_dict, str):
        return MelContract.from_dict(name_or_dict, source)
    if name_or_dict not in PRESETS:
        near = nearest(name_or_dict, list(PRESETS))
        raise UserError(f"{source}: no preset is called {name_or_dict!r}{near} (presets: {', '.join(PRESETS)})")
    return PRESETS[name_or_dict]


def read_contract(value: str, flag: str) -> MelContract:
    """The contract that a flag names: a preset, or a JSON file with all fields. Raises UserError if it is neither."""
    if not value.endswith(".json"):
        return contract(value, flag)
    try:
        fields = json.loads(Path(value).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{flag}={value}: no such file") from error
    except (ValueError, RecursionError) as error:  # which is raised where lists are too deep in each other
        raise UserError(f"{flag}={value}: not JSON ({error})") from error
    if not isinstance(fields, dict):
        raise UserError(f"{flag}={value}: not a JSON object with the fields of a mel contract")
    return contract(fields, f"{flag}={value}")
