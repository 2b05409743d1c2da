"""A data set prepared by data_prep.prepare: memory-mapped shards of aligned audio and mels.

    manifest.json   {format, mel, mel_hash, sample_rate, audio_dtype, mel_dtype, seed, test_share, …,
                     shards: [{audio, mel, frames, …}], utterances: [Utterance], left_out: [{name, source, reason}]}
    audio-*.npy     [frames · hop] int16 (scaled by 32768) or float16, several utterances concatenated
    mel-*.npy       [frames, n_mels] float16 or float32

Mel frame f of a shard belongs to its audio samples f·hop … (f+1)·hop - 1. Uses NumPy only.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from fwn.errors import UserError
from fwn.mel import MelContract, difference

FORMAT = "fwn-corpus-1"
MANIFEST = "manifest.json"


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


class Corpus:
    """The data set in folder `path`. It pickles as its path, so each process maps the shards itself.

    Raises UserError if the folder has no complete data set of this format.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        manifest = read_manifest(self.path)
        file = self.path / MANIFEST
        try:
            self.contract = MelContract.from_dict(manifest["mel"], f"{file}: mel")
            if self.contract.hash() != manifest["mel_hash"]:
                raise UserError(f"{file}: mel_hash is {manifest['mel_hash']}, but its mel is {self.contract.title}")
            self.utterances = [Utterance(**utterance) for utterance in manifest["utterances"]]
            audio, mel = np.dtype(manifest["audio_dtype"]), np.dtype(manifest["mel_dtype"])
            hop, bands = self.contract.hop_length, self.contract.n_mels
            self._shards = [
                (
                    _map(self.path / shard["audio"], audio, (shard["frames"] * hop,)),
                    _map(self.path / shard["mel"], mel, (shard["frames"], bands)),
                )
                for shard in manifest["shards"]
            ]
            self.left_out: list[dict[str, str]] = manifest["left_out"]
        except (KeyError, TypeError) as error:
            raise UserError(f"{file}: damaged ({error}); prepare the data set again in a new folder") from error

    def __reduce__(self) -> tuple[type["Corpus"], tuple[Path]]:
        return Corpus, (self.path,)

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        """{"audio": [frames · hop], "mel": [frames, n_mels]} as stored. These are views; no data is read yet."""
        utterance = self.utterances[i]
        audio, mel = self._shards[utterance.shard]
        start, end = utterance.start, utterance.start + utterance.frames
        hop = self.contract.hop_length
        return {"audio": audio[start * hop : end * hop], "mel": mel[start:end]}

    def window(self, i: int, start: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """(audio float32 [frames · hop], mel float32 [frames, n_mels]) of utterance i from its frame `start`."""
        stored, hop = self[i], self.contract.hop_length
        audio = stored["audio"][start * hop : (start + frames) * hop]
        return to_float(audio), stored["mel"][start : start + frames].astype(np.float32)

    def past(self, i: int, start: int, samples: int) -> np.ndarray:
        """The last `samples` samples of utterance i before its frame `start`, float32; zeros before the utterance."""
        end = start * self.contract.hop_length
        known = to_float(self[i]["audio"][max(0, end - samples) : end])
        return np.pad(known, (samples - len(known), 0))

    def audio(self, i: int) -> np.ndarray:
        """float32 [frames · hop] in -1 … 1."""
        return to_float(self[i]["audio"])

    def mel(self, i: int) -> np.ndarray:
        """float32 [frames, n_mels]."""
        return np.array(self[i]["mel"], np.float32)

    def split(self, name: str) -> list[int]:
        """Indices of the utterances of split "train" or "test", in order."""
        if name not in ("train", "test"):
            raise ValueError(f"split must be 'train' or 'test', got {name!r}")
        return [i for i, utterance in enumerate(self.utterances) if utterance.split == name]

    def check_contract(self, contract: MelContract, source: str) -> None:
        """Raises UserError, with both contracts, unless the data set has the mel contract of `source`."""
        if contract.hash() != self.contract.hash():
            raise UserError(
                f"{source} has the mel contract {contract.title}, but {self.path} was prepared with"
                f" {self.contract.title}; prepare it again in another folder\n{difference(contract, self.contract)}"
            )


def to_float(audio: np.ndarray) -> np.ndarray:
    """Stored audio, int16 or float16 -> float32 in -1 … 1."""
    return audio.astype(np.float32) / np.float32(32768) if audio.dtype == np.int16 else audio.astype(np.float32)


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the data set in folder `path`. Raises UserError if there is none, or one of another format."""
    file = path / MANIFEST
    if not path.is_dir():
        raise UserError(f"{path}: {'not a' if path.exists() else 'no such'} folder; give one made by data_prep.prepare")
    if not file.is_file():
        raise UserError(
            f"{path}: not a prepared data set, or preparing it did not finish (no {MANIFEST}); run data_prep.prepare"
        )
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: damaged ({error}); prepare the data set again in a new folder") from error
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise UserError(f"{file}: not the manifest of a prepared data set")
    if manifest["format"] != FORMAT:
        raise UserError(
            f"{file}: format {manifest['format']!r}, but this version reads {FORMAT!r};"
            " prepare the data set again in a new folder"
        )
    return manifest


def _map(file: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
    if not file.is_file():
        raise UserError(f"{file}: listed in the manifest but missing; prepare the data set again")
    try:
        array = np.load(file, mmap_mode="r")
    except (ValueError, EOFError) as error:  # NumPy raises these for a truncated file
        raise UserError(f"{file}: damaged ({error}); prepare the data set again") from error
    if array.dtype != dtype or array.shape != shape:
        raise UserError(
            f"{file}: holds {array.dtype} {list(array.shape)}, but the manifest says {dtype} {list(shape)};"
            " prepare the data set again"
        )
    return array
