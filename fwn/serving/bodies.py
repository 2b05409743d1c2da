"""Mels and recordings in the bodies of requests: read within the limits, decoded by the readers of files."""

import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import numpy as np
import soundfile

from fwn.audio import audio_file
from fwn.audio.quiet import quiet
from fwn.errors import UserError
from fwn.mel import MelContract, align, read_mels
from fwn.serving.limits import Limits, Refused, check_seconds, one_line

# Content types by the extension of the file that a body is. HDF5 is not among them: its library is not made for data
# of strangers.
MELS = {
    "npy": ("application/x-npy",),
    "npz": ("application/x-npz",),
    "pt": ("application/x-pytorch",),
    "safetensors": ("application/x-safetensors",),
}
RECORDINGS = {
    "wav": ("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"),
    "flac": ("audio/flac", "audio/x-flac"),
    "ogg": ("audio/ogg", "application/ogg"),
    "mp3": ("audio/mpeg", "audio/mp3"),
}
ANY = "application/octet-stream"  # with kind=


def kind_of(content_type: str | None, kind: str | None, kinds: Mapping[str, tuple[str, ...]]) -> str:
    """The extension of the file that a body is: `kind`, or else by its content type. Raises Refused."""
    given = (content_type or "").partition(";")[0].strip().lower()
    found = kind if kind in kinds else next((name for name, types in kinds.items() if given in types), None)
    if found is None:
        known = ", ".join(types[0] for types in kinds.values())
        raise Refused(
            415,
            f"the content type is {given[:100]!r}{f' and kind is {kind!r}' if kind else ''}; give one of {known}, or "
            f"kind={next(iter(kinds))} in the query",
        )
    return found


async def read(stream: AsyncIterator[bytes], length: str | None, limits: Limits) -> bytes:
    """The body. Raises Refused as soon as it is too large: by its Content-Length, or by the bytes that have come."""
    body = bytearray()
    if length is not None and length.isdecimal() and int(length) > limits.bytes:
        raise _too_large(int(length), limits)
    async for piece in stream:
        body += piece
        if len(body) > limits.bytes:
            raise _too_large(len(body), limits)
    return bytes(body)


def _too_large(size: int, limits: Limits) -> Refused:
    return Refused(413, f"the body has {size} bytes or more; this server takes up to {limits.bytes}")


def mel(body: bytes, kind: str, contract: MelContract, limits: Limits, name: str | None = None) -> np.ndarray:
    """The mel [F, M] in a file of arrays. name: of the array, if there are several. Raises UserError, Refused."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"body.{kind}")
        file.write_bytes(body)
        try:
            mels = read_mels(file, contract, name)
        except UserError as error:
            raise _of_body(error, folder) from error
        if len(mels) != 1:
            raise UserError(f"body.{kind}: has {len(mels)} mels; send each in a request of its own")
        check_seconds(len(mels[0]) * contract.hop_length / contract.sample_rate, limits)
        return np.array(mels[0])  # no map of the file


def recording(body: bytes, kind: str, contract: MelContract, limits: Limits) -> tuple[np.ndarray, np.ndarray]:
    """A recording as fwn.mel.align returns it: (audio [F · hop], mel [F, M]). Raises UserError, Refused."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"body.{kind}")
        file.write_bytes(body)
        check_seconds(_stated_seconds(file), limits)  # before it is decoded: a small FLAC can hold hours
        try:
            samples, _ = audio_file.read(file, contract.sample_rate, contract.n_fft)
        except UserError as error:
            raise _of_body(error, folder) from error
    return align(samples, contract)


def _stated_seconds(file: Path) -> float:
    """The length of a recording by its header, which libsndfile does not read beyond. 0 if audio_file refuses it."""
    try:
        with quiet(), file.open("rb") as opened, audio_file.opened(opened) as sound:
            # damaged ones, which claim more than any file has, are told apart from long ones by audio_file
            damaged = sound.frames * sound.channels > file.stat().st_size * audio_file.MOST_SAMPLES
            return 0.0 if damaged else sound.frames / max(1, sound.samplerate)
    except soundfile.LibsndfileError:
        return 0.0


def _of_body(error: UserError, folder: str) -> UserError:
    """The error of a file, as one of a body."""
    return UserError(one_line(error).replace(f"{folder}/", "").replace("--mel_key", "mel_key"))
