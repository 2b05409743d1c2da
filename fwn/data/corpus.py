"""A data set prepared by data_prep.prepare: memory-mapped shards of aligned audio and mels.

    manifest.json   its mel contract, files and utterances, with checksums (fwn/data/manifest.py)
    audio-*.npy     [frames · hop] int16 (scaled by 32768) or float16, several utterances concatenated
    mel-*.npy       [frames, n_mels] float16 or float32
    speakers-*.npy  [utterances, size] float32, if each utterance comes with a vector of its speaker

Mel frame f of a shard belongs to its audio samples f·hop … (f+1)·hop - 1. Uses NumPy only.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from fwn.data.manifest import Embeddings, read
from fwn.disk import crc32, file_crc32
from fwn.errors import UserError
from fwn.mel import MelContract, difference
from fwn.terminal import progress, say

REPAIR = "run data_prep.prepare again, which makes damaged files again"


class Corpus:
    """The data set in folder `path`. It pickles as its path, so each process maps the shards itself.

    Raises UserError if the folder has no complete data set of this format.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        manifest = read(self.path)
        self.contract, self.utterances, self.left_out = manifest.contract, manifest.utterances, manifest.left_out
        self.given_mels = manifest.given_mels
        self._files = manifest.shards
        hop, bands = self.contract.hop_length, self.contract.n_mels
        self._shards = [
            (
                _map(self.path / shard.audio, np.dtype(manifest.audio_dtype), (shard.frames * hop,)),
                _map(self.path / shard.mel, np.dtype(manifest.mel_dtype), (shard.frames, bands)),
            )
            for shard in manifest.shards
        ]
        self.speaker_embeddings: np.ndarray | None = None  # float32 [utterances, size]
        if (embeddings := manifest.speaker_embeddings) is not None:
            self.speaker_embeddings = self._embeddings(embeddings)

    def _embeddings(self, stored: Embeddings) -> np.ndarray:
        file = self.path / stored.file
        vectors = _map(file, np.dtype(np.float32), (len(self.utterances), stored.size))
        if (found := file_crc32(file)) != stored.crc32:
            raise UserError(f"{file}: damaged: its checksum is {found}, {stored.crc32} was saved; {REPAIR}")
        return vectors

    def __reduce__(self) -> tuple[type["Corpus"], tuple[Path]]:
        return Corpus, (self.path,)

    @property
    def speakers(self) -> list[str]:
        """Names of the speakers, sorted; [] if the corpus does not say."""
        return sorted({utterance.speaker for utterance in self.utterances} - {""})

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
        """float32 [frames · hop] in -1 … 1. Raises UserError unless it has its checksum."""
        return to_float(self._verified(i, "audio"))

    def mel(self, i: int) -> np.ndarray:
        """float32 [frames, n_mels]. Raises UserError unless it has its checksum."""
        return np.array(self._verified(i, "mel"), np.float32)

    def _verified(self, i: int, what: str) -> np.ndarray:
        """The stored "audio" or "mel" of an utterance."""
        stored = self[i][what]
        if not self._whole(i, what):
            file = self.path / getattr(self._files[self.utterances[i].shard], what)
            raise UserError(
                f"{file}: damaged: the {what} of {self.utterances[i].name} does not have its checksum; {REPAIR}"
            )
        return stored

    def _whole(self, i: int, what: str) -> bool:
        """Whether the audio or mel of an utterance has its checksum, or has none (version 0.1)."""
        saved = getattr(self.utterances[i], f"{what}_crc32")
        return not saved or saved == crc32([self[i][what].tobytes()])

    def verify(self) -> None:
        """Reads all files. Raises UserError, with the damaged utterances, unless they have their checksums."""
        files = [(shard, what) for shard in self._files for what in ("audio", "mel")]
        if not all(getattr(shard, f"{what}_crc32") for shard, what in files):
            say(f"{self.path}: not verified: version 0.1 stored no checksums; run data_prep.prepare again to add them")
            return
        with ThreadPoolExecutor() as pool:
            found = pool.map(lambda file: file_crc32(self.path / getattr(*file)), files)
            for (shard, what), value in zip(files, progress(found, "verifying data", len(files)), strict=True):
                if value == (saved := getattr(shard, f"{what}_crc32")):
                    continue
                names = [
                    utterance.name
                    for i, utterance in enumerate(self.utterances)
                    if self._files[utterance.shard] == shard and not self._whole(i, what)
                ]
                pool.shutdown(wait=False, cancel_futures=True)
                within = f"{', '.join(names[:4]) or 'none'}{' …' if len(names) > 4 else ''}"
                raise UserError(
                    f"{self.path / getattr(shard, what)}: damaged: its checksum is {value}, {saved} was saved "
                    f"(damaged utterances: {within}); {REPAIR}"
                )

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
