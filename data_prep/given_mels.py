"""One given mel and its recording as arrays of a data set (pairs.py finds them)."""

from pathlib import Path

import numpy as np

from fwn.errors import UserError
from fwn.mel import MelContract, align, check_mel
from fwn.mel.agreement import agreement
from fwn.mel.inspect import oriented
from fwn.mel.mel_file import stored


def arrays(
    recorded: np.ndarray, file: Path, contract: MelContract, tolerance: int
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(audio, mel, notes) of a recording [T] and the file of its mel, as fwn.mel.align gives them. Raises UserError."""
    mel, notes = mel_of(file, recorded, contract)
    audio, mel, cut = fitted(align(recorded, contract)[0], mel, contract.hop_length, tolerance)
    return audio, check_mel(mel, contract, str(file), bands_last=True), notes + cut


def mel_of(file: Path, recorded: np.ndarray, contract: MelContract) -> tuple[np.ndarray, list[str]]:
    """(the mel float32 [F, M] in a file, notes). Values are not checked.

    Of a mel with as many frames as bands, the axes are those that agree with the recording. Raises UserError if the
    file has no mel, or several.
    """
    found = stored(file, None, [contract.n_mels])
    if len(found) != 1:
        raise UserError(f"{file}: has {len(found)} mels; give a file for each recording")
    ways = oriented(found[0][1], [contract.n_mels], str(file))
    if len(ways) > 1:
        agree = [agreement(mel, recorded, contract) for mel, _ in ways]
        ways = [ways[int(np.argmax([-1.0 if one is None else one.correlation for one in agree]))]]
    mel, axis = ways[0]
    return mel, ["mel given as [bands, frames]"] if axis == "the first" else []


def fitted(audio: np.ndarray, mel: np.ndarray, hop: int, tolerance: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(audio [F · hop], mel [F, M], notes): the longer of the two is cut at its end, by up to `tolerance` frames.

    Raises UserError if they differ by more.
    """
    frames = len(audio) // hop
    if abs(len(mel) - frames) > tolerance:
        raise UserError(
            f"its mel has {len(mel)} frames and it has {frames}, which differ by more than --mels_tolerance={tolerance}"
        )
    least = min(len(mel), frames)
    notes = [] if len(mel) == frames else ["mel cut to its recording" if len(mel) > frames else "cut to its mel"]
    return audio[: least * hop], mel[:least], notes
