"""Mels that an acoustic model made of the recordings' texts (ground-truth aligned), instead of those of the recordings.

A vocoder that is trained on them hears in training what it hears in use. They are paired with the recordings by name,
and compared with the mels of a few recordings before anything is written.
"""

import dataclasses
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from fwn.audio import audio_file
from fwn.errors import UserError
from fwn.files.arrays import KINDS
from fwn.mel import PRESETS, MelContract
from fwn.mel.agreement import Agreement, agreement
from fwn.mel.inspect import remarks

from . import shards
from .given_mels import mel_of
from .recordings import Recording

SUFFIX = "-feats"  # of ParallelWaveGAN's and ESPnet's dumps, after the name
COMPARED = 20  # recordings, evenly spaced
ENOUGH = 0.5  # share of them whose mels must agree


def paired(recordings: list[Recording], folder: Path) -> tuple[list[Recording], list[dict[str, str]]]:
    """(the recordings with their mels, {name, source, reason} of those without one). Raises UserError without a mel."""
    found, missing = by_name(recordings, folder, "mels")
    having = [recording for recording in recordings if recording.name in found]
    return [dataclasses.replace(recording, mel=found[recording.name]) for recording in having], missing


def by_name(recordings: list[Recording], folder: Path, flag: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """({name of a recording: its file of arrays in the folder}, {name, source, reason} of recordings without one).

    The file of a recording has its path in the folder, with another extension; or its name, if no other recording and
    no other file has that. flag: that names the folder. Raises UserError if no recording has one.
    """
    if not folder.is_dir():
        raise UserError(
            f"--{flag}={folder}: {'not a' if folder.exists() else 'no such'} folder; give that of the files"
        )
    files = [file for file in sorted(folder.rglob("*")) if file.suffix.lower() in KINDS and file.is_file()]
    if not files:
        raise UserError(f"--{flag}={folder}: no file of arrays ({', '.join(sorted(KINDS))}) in this folder")
    paths, last_parts = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for file in files:
        source = file.relative_to(folder)
        for name in {source.with_suffix("").as_posix(), source.with_suffix("").as_posix().removesuffix(SUFFIX)}:
            paths[name].append(source.as_posix())
            last_parts[Path(name).name].append(source.as_posix())
    names = Counter(Path(recording.name).name for recording in recordings)
    found, missing = {}, []
    for recording in recordings:
        name = Path(recording.name).name
        own = paths[recording.name] or (last_parts[name] if names[name] == 1 else [])
        if len(own) == 1:
            found[recording.name] = own[0]
        else:
            reason = f"{len(own)} files in --{flag} have its name ({', '.join(own[:3])})" if own else f"not in --{flag}"
            missing.append({"name": recording.name, "source": recording.source, "reason": reason})
    if recordings and not found:
        raise UserError(
            f"--{flag}={folder}: none of its {len(files)} files is that of a recording; the first is "
            f"{files[0].relative_to(folder)}; of the first recording: {missing[0]['name']}: {missing[0]['reason']}"
        )
    return found, missing


def compare(source: Path, recording: Recording, folder: Path, contract: MelContract) -> Agreement | str:
    """How the mel of a recording agrees with the contract, whatever its values; or why that cannot be said."""
    try:
        audio, _ = audio_file.read(source / recording.source, contract.sample_rate, contract.n_fft)
        found = agreement(mel_of(folder / recording.mel, audio, contract)[0], audio, contract)
    except UserError as error:
        return str(error)
    return f"{recording.mel}: too short to be compared" if found is None else found


def compared(
    recordings: list[Recording], source: Path, mels: Path, contract: MelContract, pool: ProcessPoolExecutor
) -> str:
    """What `check` says of some of the recordings, evenly spaced."""
    some = recordings[:: -(-len(recordings) // COMPARED)]
    found = shards.in_order(lambda one: pool.submit(compare, source, one, mels, contract), some, len(some))
    return check(list(zip(some, found, strict=True)), source, mels, contract)


def check(found: list[tuple[Recording, Agreement | str]], source: Path, folder: Path, contract: MelContract) -> str:
    """What the comparison of some mels showed, in a line. Raises UserError if most do not agree with the contract."""
    read = [(recording, one) for recording, one in found if isinstance(one, Agreement)]
    same = [one for _, one in read if one.same]
    if not read:
        return f"none of {len(found)} mels could be compared with its recording: {found[0][1]}"
    typical = sorted((one for _, one in read), key=lambda one: one.correlation)[len(read) // 2]
    figures = f"typical correlation {typical.correlation:.2f}, values {typical.slope:.3g} × those of the recording"
    compared_with = f"{len(read)} mels that were compared with their recordings"
    if len(same) >= ENOUGH * len(read):
        return f"{len(same)} of {compared_with} agree with {contract.title}: {figures}"
    words = Counter(remark for _, one in read for remark in remarks(contract, one)).most_common(2)
    others = _others(read[0][0], source, folder, contract)
    raise UserError(
        f"--mels={folder}: {len(read) - len(same)} of {compared_with} do not agree with {contract.title}: "
        + "; ".join([figures, *(f"{remark} ({count} of {len(read)})" for remark, count in words)])
        + (f"; they agree with {' and '.join(others)}" if others else "")
        + "; state their contract by --mel, or give --mels_unchecked if they are right"
    )


def _others(recording: Recording, source: Path, folder: Path, contract: MelContract) -> list[str]:
    """The presets with which the mel of a recording agrees."""
    alike = [preset for preset in PRESETS.values() if preset.n_mels == contract.n_mels]
    found = [(preset, compare(source, recording, folder, preset)) for preset in alike]
    return [preset.name for preset, one in found if isinstance(one, Agreement) and one.same]
