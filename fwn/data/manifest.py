"""manifest.json of a prepared data set: what it must hold, checked when it is read.

{format, mel, mel_hash, sample_rate, audio_dtype, mel_dtype, seed, test_share, …, shards: [Shard],
 utterances: [Utterance], left_out: [{name, source, reason}], checksum, speaker_embeddings: Embeddings or missing}
"""

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from fwn.disk import check_seal
from fwn.errors import UserError, short
from fwn.mel import MelContract

FORMAT = "fwn-corpus-1"
FILE = "manifest.json"
SPLITS = "train", "test"
DTYPES = {"audio_dtype": ("int16", "float16"), "mel_dtype": ("float16", "float32")}
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Shard:
    """Two files in the folder of the data set. Checksums are CRC-32, in hexadecimal; version 0.1 had none."""

    audio: str
    mel: str
    frames: int
    audio_crc32: str = ""  # of the file
    mel_crc32: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Utterance:
    """One recording of `samples` samples at the contract's sample rate, stored padded or cut to `frames · hop`."""

    name: str
    split: str  # "train" or "test"
    frames: int
    samples: int
    shard: int
    start: int  # first frame within the shard
    source: str  # path relative to the folder it was prepared from
    sha256: str  # of the source file
    text: str = ""  # transcript; empty if the corpus has none
    speaker: str = ""  # empty if the corpus does not say
    audio_crc32: str = ""  # of its stored samples
    mel_crc32: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Embeddings:
    """A file in the folder of the data set with a vector of `size` numbers for each utterance, float32."""

    file: str
    size: int
    crc32: str


class Manifest(NamedTuple):
    contract: MelContract
    audio_dtype: str
    mel_dtype: str
    shards: list[Shard]
    utterances: list[Utterance]
    left_out: list[dict[str, str]]
    given_mels: bool  # made by an acoustic model (data_prep.prepare --mels), not computed from the recordings
    speaker_embeddings: Embeddings | None


def read(path: Path) -> Manifest:
    """The manifest of the data set in folder `path`. Raises UserError if there is none, or if it cannot be right."""
    values, file = read_values(path), path / FILE
    try:
        contract = MelContract.from_dict(values["mel"], f"{file}: mel")
        if contract.hash() != values["mel_hash"]:
            raise UserError(
                f"{file}: mel_hash is {short(values['mel_hash'])}, but its mel is {contract.title}; restore it"
            )
        _check(values["sample_rate"] == contract.sample_rate, f"sample_rate is {values['sample_rate']!r}")
        for name, known in DTYPES.items():
            _check(values[name] in known, f"{name} is {values[name]!r}")
        shards = [_entry(Shard, value, f"shards[{i}]") for i, value in enumerate(values["shards"])]
        for i, shard in enumerate(shards):
            _check(shard.frames >= 1, f"shards[{i}]: frames is {shard.frames}")
            for name in (shard.audio, shard.mel):
                _check(Path(name).name == name and name.endswith(".npy"), f"shards[{i}]: {name!r} is no .npy file here")
        utterances = [_entry(Utterance, value, f"utterances[{i}]") for i, value in enumerate(values["utterances"])]
        for i, utterance in enumerate(utterances):
            place, end = f"utterances[{i}]", utterance.start + utterance.frames
            _check(utterance.split in SPLITS, f"{place}: split is {utterance.split!r}")
            _check(0 <= utterance.shard < len(shards), f"{place}: shard is {utterance.shard} of {len(shards)}")
            inside = 0 <= utterance.start < end <= shards[utterance.shard].frames
            _check(inside, f"{place}: frames {utterance.start} … {end} are not in shard {utterance.shard}")
            _check(utterance.samples >= 1, f"{place}: samples is {utterance.samples}")
        _check(bool(utterances), "it has no utterances")
        name, count = Counter(utterance.name for utterance in utterances).most_common(1)[0]
        _check(count == 1, f"{count} utterances are named {name!r}")
        embeddings = values.get("speaker_embeddings")
        embeddings = None if embeddings is None else _entry(Embeddings, embeddings, "speaker_embeddings")
        if embeddings is not None:
            _check(
                Path(embeddings.file).name == embeddings.file,
                f"speaker_embeddings: {embeddings.file!r} is no file here",
            )
            _check(embeddings.size >= 1, f"speaker_embeddings: size is {embeddings.size}")
        dtypes, given = (values["audio_dtype"], values["mel_dtype"]), values.get("mels") == "given"
        return Manifest(contract, *dtypes, shards, utterances, values["left_out"], given, embeddings)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(f"{file}: damaged ({error}); prepare the data set again in a new folder") from error


def read_values(path: Path) -> dict[str, Any]:
    """What manifest.json says. Raises UserError if there is none, if it is damaged, or of another format."""
    file = path / FILE
    if not path.is_dir():
        raise UserError(f"{path}: {'not a' if path.exists() else 'no such'} folder; give one made by data_prep.prepare")
    if not file.is_file():
        raise UserError(
            f"{path}: not a prepared data set, or preparing it did not finish (no {FILE}); run data_prep.prepare"
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: damaged ({error}); prepare the data set again in a new folder") from error
    if not isinstance(values, dict) or "format" not in values:
        raise UserError(f"{file}: not the manifest of a prepared data set")
    if values["format"] != FORMAT:
        raise UserError(
            f"{file}: format {short(values['format'])}, but this version reads {FORMAT!r};"
            " prepare the data set again in a new folder"
        )
    check_seal(values, file)
    return values


def _entry(kind: type[T], values: Any, place: str) -> T:
    """An entry of a list. Raises ValueError or TypeError unless it has the fields of `kind`, of their types."""
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        _check(field.name in values or field.default == "", f"{place}: {field.name} is missing")
        value = values.get(field.name, field.default)
        _check(type(value) is field.type, f"{place}: {field.name} is {value!r}")
    return kind(**values)


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)
