"""Errors of `python -m fwn.mel`, and of contracts with statistics."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from fwn.mel import PRESETS
from fwn.mel.convert import converted
from fwn.mel.inspect import oriented
from fwn.mel.statistics import normalised

from . import PREPARE, Place, Row, table, write

MEL = "fwn.mel"
PWG = PRESETS["pwg_24k_300"]
NOISE = np.random.default_rng(0).uniform(-5, 0, (30, 80)).astype(np.float32)
NAMES = ", ".join(PRESETS)
CONTRACT = "contract pwg_24k_300 --stats={here}/stats.npy"
CONVERT = "convert {here}/a.npy --mel_contract=pwg_24k_300 --to=espnet_24k_300 --output={here}/out"


def save(name: str, array: np.ndarray) -> Callable[[Place], None]:
    return lambda place: np.save(place.here / name, array)


def sums(place: Place) -> None:
    np.savez(place.here / "stats.npz", count=np.array(0), sum=np.zeros(80), sum_square=np.zeros(80))


def several(place: Place) -> None:
    np.savez(place.here / "stats.npz", p225=np.zeros((2, 80)), p226=np.zeros((2, 80)))


def twice(place: Place) -> None:
    for folder in ("one", "two"):
        (place.here / folder).mkdir()
        np.save(place.here / folder / "a.npy", NOISE)


def hdf5(place: Place) -> Any:
    (place.here / "stats.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    return mock.patch.dict("sys.modules", {"h5py": None})


def contract(**changes: Any) -> Callable[[Place], None]:
    return write("mel.json", json.dumps(PWG.to_dict() | changes))


ROWS = [
    Row(MEL, "", "no command; give inspect, convert or contract"),
    Row(MEL, "inspekt a.npy", "unknown command 'inspekt'; did you mean 'inspect'?; give inspect, convert or contract"),
    Row(MEL, "inspect", "inspect: name the files of mels"),
    Row(
        MEL,
        "inspect {here}",
        "{here}: no mel (.h5, .npy, .npz, .pt, .pth, .safetensors) in this folder",
    ),
    Row(
        MEL,
        "inspect {here}/a.txt",
        "{here}/a.txt: not a file of arrays by its name; its extension is one of .h5, .npy, .npz, .pt, .pth, "
        ".safetensors",
        write("a.txt", "x"),
    ),
    Row(MEL, "contract", f"contract: give one preset ({NAMES}) or JSON file"),
    Row(
        MEL,
        "contract pwg_24k_301",
        f"contract: no preset is called 'pwg_24k_301'; did you mean 'pwg_24k_300'? (presets: {NAMES})",
    ),
    Row(MEL, "contract pwg_24k_300 --stats_key=p225", "--stats_key=p225: needs --stats, the file that has it"),
    Row(MEL, CONTRACT, "{here}/stats.npy: no such file"),
    Row(
        MEL,
        CONTRACT,
        "{here}/stats.npy: not the statistics of 80 bands: it is float64 [2, 100]; give ParallelWaveGAN's stats.h5 "
        "or stats.npy [2, 80], or ESPnet's feats_stats.npz",
        save("stats.npy", np.ones((2, 100))),
    ),
    Row(
        MEL,
        CONTRACT,
        "{here}/stats.npy: its scale is -1.0 in some band; it must be positive",
        save("stats.npy", np.stack([np.zeros(80), -np.ones(80)])),
    ),
    Row(
        MEL,
        "contract pwg_24k_300 --stats={here}/stats.npz",
        "{here}/stats.npz: its mean is nan in some band; it must be finite",
        sums,
    ),
    Row(
        MEL,
        "contract pwg_24k_300 --stats={here}/stats.npz --stats_key=p227",
        "{here}/stats.npz: has no 'p227'; it has 'p225', 'p226'",
        several,
    ),
    Row(
        MEL,
        "contract pwg_24k_300 --stats={here}/stats.npz",
        "{here}/stats.npz: not the statistics of 80 bands: it has the arrays 'p225', 'p226'; give "
        "ParallelWaveGAN's stats.h5 or stats.npy [2, 80], or ESPnet's feats_stats.npz",
        several,
    ),
    Row(
        MEL,
        "contract pwg_24k_300 --stats={here}/stats.h5",
        "{here}/stats.h5: reading HDF5 needs h5py; pip install h5py, or give a .npy or .npz file",
        hdf5,
    ),
    Row(
        lambda place: normalised(replace(PWG, mean=(0.0,) * 80, scale=(1.0,) * 80), Path("stats.npy")),
        "",
        "stats.npy: the mel contract pwg_24k_300 (<hash>) has a mean and scale already",
    ),
    Row(
        lambda place: normalised(PWG, place.here / "stats.npz"),
        "",
        "{here}/stats.npz: its mean is float64 [3]; the statistics of 80 bands have numbers [80] there",
        lambda place: np.savez(place.here / "stats.npz", mean=np.zeros(3), scale=np.ones(3)),
    ),
    *(
        Row(PREPARE, "--corpus=folder --input={recordings} --output={here}/out --mel={here}/mel.json", message, make)
        for make, message in [
            (
                contract(mean=[0.0] * 80),
                "--mel={here}/mel.json: mel contract 'pwg_24k_300': scale is None, but mean and scale go together: "
                "both are lists, or both null",
            ),
            (
                contract(mean=[0.0], scale=[1.0]),
                "--mel={here}/mel.json: mel contract 'pwg_24k_300': mean is (0.0,), but must have 80 numbers, one for "
                "each band",
            ),
            (
                contract(mean="0", scale=[1.0]),
                "--mel={here}/mel.json: mel contract: mean is '0', but must be a list of numbers or null",
            ),
            (
                contract(mean=[0.0] * 80, scale=[1e-60] * 80),
                "--mel={here}/mel.json: mel contract 'pwg_24k_300': scale is <reason>, but must be within 1e-6 … 1e6 "
                "in every band",
            ),
            (
                contract(mean=[1e60] * 80, scale=[1.0] * 80),
                "--mel={here}/mel.json: mel contract 'pwg_24k_300': mean is <reason>, but must be within -1e6 … 1e6",
            ),
            (
                contract(floor=1e-60),
                "--mel={here}/mel.json: mel contract 'pwg_24k_300': floor is 1e-60, but must be at least 1e-30",
            ),
            (
                contract(power_floor=-1),
                "--mel={here}/mel.json: mel contract 'pwg_24k_300': power_floor is -1.0, but must be 0 or more",
            ),
        ]
    ),
    Row(MEL, "convert {here}/a.npy --to=hifigan --output={here}/out", "convert: --mel_contract is missing; give it"),
    Row(
        MEL,
        "convert {here}/a.npy --mel_contract=tacotron2 --to=hifigan --output={here}/out",
        "a mel of tacotron2 (<hash>) does not determine that of hifigan (<hash>): padding is centre there and same "
        "here: the frames are centred half a hop apart; compute it from the recording\n"
        + table("tacotron2", "hifigan"),
        save("a.npy", NOISE),
    ),
    Row(
        lambda place: converted(NOISE, PWG, replace(PWG, name="scaled", peak=0.9)),
        "",
        "pwg_24k_300 (<hash>) has peak None and scaled (<hash>) has peak 0.9, and a mel does not say how loud its "
        "recording was; give --gain, the factor from the origin's amplitude to the target's",
    ),
    Row(MEL, CONVERT + " --gain=-1", "--gain=-1.0: must be a positive number", save("a.npy", NOISE)),
    Row(
        MEL,
        "convert {here}/one/a.npy {here}/two/a.npy --mel_contract=pwg_24k_300 --to=espnet_24k_300 --output={here}/out",
        "--output={here}/out: {here}/two/a.npy would be written to {here}/out/a.npy, which is taken; give another",
        twice,
    ),
    Row(
        MEL,
        "inspect {here}/a.npy --wav={here}",
        "--wav={here}: 0 recordings in this folder are called a; give the file",
        save("a.npy", NOISE),
    ),
    Row(
        lambda place: oriented(NOISE[:, :70], [80, 100], "a.npy"),
        "",
        "a.npy: neither axis of [30, 70] has the bands of a known contract (80, 100); give its contract by "
        "--mel_contract",
    ),
    Row(
        lambda place: oriented(NOISE * np.nan, [80, 100], "a.npy"),
        "",
        "a.npy: 2400 of 2400 values are NaN, infinite or too large for float32",
    ),
    Row(
        MEL,
        "inspect {here}/a.npy",
        "{here}/a.npy: the mel is empty, its shape is [0, 3, 80]",
        save("a.npy", np.zeros((0, 3, 80))),
    ),
    Row(
        MEL,
        CONVERT,
        "--output={here}/out: is a file; give a folder",
        write("out", "x"),
    ),
    Row(
        MEL,
        "contract {here}/mel.json",
        "contract={here}/mel.json: cannot be read (Is a directory); give a JSON file",
        lambda place: (place.here / "mel.json").mkdir(),
    ),
    Row(
        lambda place: oriented(NOISE[0], [80, 100], "a.npy"),
        "",
        "a.npy: float32 [80] is not a mel; give floats [frames, bands] or [bands, frames]",
    ),
]
