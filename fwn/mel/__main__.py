"""Tells mel conventions apart, converts mels between them, and writes mel contracts (docs/mels.md).

    python -m fwn.mel inspect utterance.npy --wav=utterance.wav
    python -m fwn.mel convert mels/*.npy --mel_contract=espnet_24k_300 --to=pwg_24k_300 --output=converted
    python -m fwn.mel contract pwg_24k_300 --stats=stats.h5 > mine.json

Mels are files (.npy, .npz, .pt, .pth, .safetensors, .h5) or folders of them.

inspect prints what the values of a mel show of its convention: which presets it can be of, whether it is normalised.
With the recording it also compares frames, shift, scale and offset with each preset. The exit code is 3 if it agrees
with none, or if a file cannot be read.

convert writes OUTPUT/NAME.npy, float32 [frames, bands], for each mel. It is refused where the values of one convention
do not determine those of the other; values that may not be exact are counted.

contract prints a mel contract as JSON, with the mean and scale of --stats if given. Flags that take a preset take the
path of such a file.
"""

import dataclasses
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from absl import flags

from fwn import cli
from fwn.audio import audio_file
from fwn.disk import atomic
from fwn.errors import UserError, nearest
from fwn.files.arrays import KINDS
from fwn.mel import PRESETS, MelContract, check_mel, read_contract
from fwn.mel import inspect as inspection
from fwn.mel.agreement import LEAST
from fwn.mel.convert import converted
from fwn.mel.mel_file import read_mels, stored
from fwn.mel.statistics import normalised

COMMANDS = "inspect", "convert", "contract"
WAV = flags.DEFINE_string("wav", None, "inspect: recording of the mel, or the folder that has one of the same name.")
MEL_KEY = flags.DEFINE_string(
    "mel_key",
    None,
    "inspect, convert: name of the mel in files that have several arrays by name; a.b is b in a. Not needed where one "
    "array alone has the shape of a mel.",
)
CONTRACT = flags.DEFINE_string(
    "mel_contract",
    None,
    "Mel contract of the files, a preset or a JSON file. convert: required. inspect: compare with it too.",
)
TO = flags.DEFINE_string("to", None, "convert: mel contract to convert to, a preset or a JSON file. Required.")
GAIN = flags.DEFINE_float(
    "gain",
    None,
    "convert: factor from the amplitude of the recordings to that in the other convention; needed where only one of "
    "them scales each recording to a peak.",
)
OUTPUT = flags.DEFINE_string("output", None, "convert: folder for the results. Required.")
STATS = flags.DEFINE_string(
    "stats",
    None,
    "contract: statistics of the normalisation, ParallelWaveGAN's stats.h5 or stats.npy, or ESPnet's feats_stats.npz.",
)
STATS_KEY = flags.DEFINE_string("stats_key", None, "contract: name of a speaker in statistics of several.")


def inspect(files: list[Path]) -> int:
    """Prints the report of each file. Returns the exit code: 3 if one cannot be read, or agrees with no contract."""
    contracts = list(PRESETS.values())
    if CONTRACT.value:
        own = read_contract(CONTRACT.value, "--mel_contract")
        others = [contract for contract in contracts if contract.hash() != own.hash()]
        contracts = [dataclasses.replace(own, name=f"{own.name} (--mel_contract)"), *others]
    bands = sorted({contract.n_mels for contract in contracts})
    agree, refused = True, []
    for file in files:
        try:
            arrays = stored(file, MEL_KEY.value, bands)
            ways = [inspection.oriented(array, bands, f"{file}{place}") for place, array in arrays]
        except UserError as error:
            refused.append(str(error))
            continue
        audio = recording(Path(WAV.value), file) if WAV.value else None
        for (place, array), way in zip(arrays, ways, strict=True):
            cli.say(f"{file}{place}: {list(array.shape)} {array.dtype}")
            agree &= report(way, contracts, audio)
    if len(refused) == len(files):
        raise UserError("\n  ".join(refused))
    for message in refused:
        cli.say(f"left out {message}")
    return 0 if agree and not refused else cli.LEFT_OUT


def report(
    ways: list[tuple[np.ndarray, str]], contracts: list[MelContract], audio: Callable[[int], np.ndarray] | None
) -> bool:
    """Prints what is known of a mel, given as inspection.oriented gives it.

    audio: rate -> the recording. Returns whether the mel agrees with a contract, or there is no recording.
    """
    of = [[contract for contract in contracts if contract.n_mels == mel.shape[1]] for mel, _ in ways]
    found = [inspection.compared(mel, some, audio) if audio else [] for (mel, _), some in zip(ways, of, strict=True)]
    best = max(range(len(ways)), key=lambda i: max([a.correlation for _, a in found[i]], default=0.0))
    (mel, axis), comparisons = ways[best], found[best]
    if len(ways) > 1:
        by = "the recording" if comparisons else "its smoothness, which is a guess"
        cli.say(f"  both axes could be the bands; they are {axis}, by {by}")
    for line in inspection.values(mel, of[best]):
        cli.say(f"  {line}")
    for contract, agreement in comparisons:
        cli.say(f"  with the recording, {inspection.said(contract, agreement, len(mel))}")
    same = [contract.name for contract, agreement in comparisons if agreement.same]
    if same:
        cli.say(f"it agrees with {' and '.join(same)}" + (", with the first most closely" if len(same) > 1 else ""))
    elif audio:
        near = f"it has fewer than {LEAST} frames, or none of them makes {len(mel)} frames of the recording"
        near = f"{comparisons[0][0].name} is nearest" if comparisons else near
        cli.say(f"it agrees with no contract; {near}")
    return bool(same) or audio is None


def recording(wav: Path, mel: Path) -> Callable[[int], np.ndarray]:
    """rate -> the recording at that rate; the file `wav`, or the one in that folder that is called like the mel."""
    if wav.is_dir():
        named = [
            file for file in wav.iterdir() if file.stem == mel.stem and file.suffix.lower() in audio_file.EXTENSIONS
        ]
        if len(named) != 1:
            raise UserError(f"--wav={wav}: {len(named)} recordings in this folder are called {mel.stem}; give the file")
        wav = named[0]
    return cache(lambda rate: audio_file.read(wav, rate)[0])


def convert(files: list[Path]) -> int:
    """Writes the converted mels. Returns the exit code."""
    origin = read_contract(_required("mel_contract", CONTRACT.value), "--mel_contract")
    target = read_contract(_required("to", TO.value), "--to")
    output, made = Path(_required("output", OUTPUT.value)), {}
    if output.exists() and not output.is_dir():
        raise UserError(f"--output={output}: is a file; give a folder")
    for file in files:
        mels = read_mels(file, origin, MEL_KEY.value)
        for i, mel in enumerate(mels):
            path = output / (f"{file.stem}.npy" if len(mels) == 1 else f"{file.stem}-{i:03d}.npy")
            if path in made or path.resolve() == file.resolve():
                raise UserError(f"--output={output}: {file} would be written to {path}, which is taken; give another")
            made[path], notes = converted(mel, origin, target, GAIN.value)
            check_mel(made[path], target, f"{file}, converted", bands_last=True)
            for note in notes:
                cli.say(f"{file}: {note}")
    output.mkdir(parents=True, exist_ok=True)
    for path, mel in made.items():
        with atomic(path) as opened:
            np.save(opened, mel)
    cli.say(f"{len(made)} mel(s) of {origin.title} -> {target.title} in {output}")
    return 0


def _of(path: Path) -> list[Path]:
    """The file, or all mels of a folder."""
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in KINDS and file.is_file())
    if not found:
        raise UserError(f"{path}: no mel ({', '.join(sorted(KINDS))}) in this folder")
    return found


def _required(flag: str, value: str | None) -> str:
    if value is None:
        raise UserError(f"convert: --{flag} is missing; give it")
    return value


def contract(names: list[str]) -> int:
    """Prints the contract. Returns the exit code."""
    if len(names) != 1:
        raise UserError(f"contract: give one preset ({', '.join(PRESETS)}) or JSON file")
    found = read_contract(names[0], "contract")
    if STATS_KEY.value and not STATS.value:
        raise UserError(f"--stats_key={STATS_KEY.value}: needs --stats, the file that has it")
    if STATS.value:
        found = normalised(found, Path(STATS.value), STATS_KEY.value)
    print(json.dumps(found.to_dict(), indent=2))
    return 0


def main(args: list[str]) -> int:
    command, files = (args[0], args[1:]) if args else ("", [])
    if command not in COMMANDS:
        what = f"unknown command {command!r}{nearest(command, COMMANDS)}" if command else "no command"
        raise UserError(f"{what}; give inspect, convert or contract")
    if command == "contract":
        return contract(files)
    if not files:
        raise UserError(f"{command}: name the files of mels")
    return {"inspect": inspect, "convert": convert}[command]([path for name in files for path in _of(Path(name))])


if __name__ == "__main__":
    cli.run(main)
