"""The parameters of a mel convention and their hash."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from fwn.errors import UserError, nearest, short

# Compressions that are a logarithm, with the nats in one unit of their values.
LOGARITHMS = {"ln": 1.0, "log10": math.log(10)}
CHOICES = {
    "power": (1, 2),
    "filter_scale": ("slaney", "htk"),
    "filter_norm": ("slaney", "none"),
    "padding": ("centre", "same"),
    "compression": (*LOGARITHMS, "db20_normalised"),
    "alignment": ("half", "start", "edge"),
}
# Defaults of fields that older contracts do not have. They are neither stored nor hashed.
ADDED_LATER: dict[str, Any] = {"power_floor": 0.0, "mean": None, "scale": None}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _typed(name: str, kind: str, value: Any) -> Any:
    """Converts a value to the field's type, so that 125 and 125.0 have one hash. Raises UserError for other types."""
    if value is None and kind.endswith("| None"):
        return None
    if kind == "str" and isinstance(value, str):
        return value
    if kind.startswith("tuple") and isinstance(value, list | tuple) and all(map(_number, value)):
        return tuple(map(float, value))
    if _number(value):
        if kind.startswith("float"):
            return float(value)
        if kind == "int" and value == int(value):
            return int(value)
    said = kind.replace("| None", "or null").replace("tuple[float, ...]", "a list of numbers")
    raise UserError(f"mel contract: {name} is {short(value)}, but must be {said}")


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
    # "ln": ln max(floor, S);  "log10": log10 max(floor, S);
    # "db20_normalised": clip((20·log10 max(floor, S) - reference_db - min_db) / -min_db, 0, 1)
    compression: str
    floor: float
    reference_db: float | None  # db20_normalised only
    min_db: float | None  # db20_normalised only, negative
    peak: float | None  # each utterance is scaled to this peak; None: not scaled
    # How audio is padded or cut to frames·hop samples. "half": half the zeros on each side; "start": zeros at the end;
    # "edge": its last sample at the end.
    alignment: str
    power_floor: float = 0.0  # |STFT|² is at least this before the square root (ESPnet); else 0
    # Normalisation of each band after the compression, (mel - mean) / scale; None: none. fwn/mel/statistics.py
    mean: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None

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
        for name in ("power_epsilon", "power_floor"):
            self._require(getattr(self, name) >= 0, name, "must be 0 or more")
        self._require(self.peak is None or 0 < self.peak <= 1, "peak", "must be null or within 0 … 1")
        for name, values in (("mean", self.mean), ("scale", self.scale)):
            if (self.mean is None) != (self.scale is None):
                self._require(values is not None, name, "mean and scale go together: both are lists, or both null")
            if values is not None:
                self._require(len(values) == self.n_mels, name, f"must have {self.n_mels} numbers, one for each band")
        self._require(
            self.scale is None or 1e-6 <= min(self.scale) <= max(self.scale) <= 1e6,
            "scale",
            "must be within 1e-6 … 1e6 in every band",
        )
        self._require(self.mean is None or max(map(abs, self.mean)) <= 1e6, "mean", "must be within -1e6 … 1e6")
        self._require(self.floor >= 1e-30, "floor", "must be at least 1e-30")
        if self.compression in LOGARITHMS:
            for name in ("reference_db", "min_db"):
                self._require(getattr(self, name) is None, name, f"must be null with compression {self.compression!r}")
        else:
            self._require(self.reference_db is not None, "reference_db", "must be a number of decibels")
            self._require(
                self.min_db is not None and self.min_db < 0, "min_db", "must be a negative number of decibels"
            )

    def _require(self, holds: bool, field: str, rule: str) -> None:
        if not holds:
            raise UserError(f"mel contract {self.name!r}: {field} is {short(getattr(self, field))}, but {rule}")

    def to_dict(self) -> dict[str, Any]:
        """The fields as values for JSON, those of ADDED_LATER only if they are set. The inverse is `from_dict`."""
        values = {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}
        return {name: v for name, v in values.items() if name not in ADDED_LATER or v != ADDED_LATER[name]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "mel contract") -> MelContract:
        """The contract with these fields. Raises UserError, starting with `source`, on unknown or missing fields."""
        fields = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in fields:
                raise UserError(f"{source}: unknown field {name!r}{nearest(name, fields)}")
        missing = [name for name in fields if name not in values and name not in ADDED_LATER]
        if missing:
            raise UserError(
                f"{source}: missing {', '.join(missing)}; every field must be given, as `python -m fwn.mel contract "
                "hifigan` writes them"
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
    def plain(self) -> MelContract:
        """The contract without normalisation by mean and scale."""
        return self if self.mean is None else dataclasses.replace(self, mean=None, scale=None)

    @property
    def value_range(self) -> tuple[float, float]:
        """Bounds of the mel values of audio in ±1. The upper one ignores the discretisation of the bands."""
        if self.mean is not None and self.scale is not None:
            low, high = self.plain.value_range
            bands = list(zip(self.mean, self.scale, strict=True))
            return min((low - m) / s for m, s in bands), max((high - m) / s for m, s in bands)
        if self.compression == "db20_normalised":
            return 0.0, 1.0
        loudest = ((self.peak or 1.0) * self.win_length / 2) ** self.power  # |STFT| ≤ peak · Σ window
        bandwidth = 1.0 if self.filter_norm == "slaney" else (self.fmax - self.fmin) / 2  # ∫ band dHz
        low = math.log(self.floor)
        high = max(low + 1, math.log(loudest * bandwidth * self.n_fft / self.sample_rate))
        return low / LOGARITHMS[self.compression], high / LOGARITHMS[self.compression]

    @property
    def title(self) -> str:
        return f"{self.name} ({self.hash()})"
