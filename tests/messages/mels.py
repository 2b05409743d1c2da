"""Errors of mels in files of arrays, and of mel contracts in JSON files."""

import json
import os
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
from array_files import safetensors_bytes, torch_bytes

from fwn.mel import PRESETS

from . import PREPARE, SAMPLE, Place, Row, table, write

NPY, NPZ, PT, TENSORS = (
    f"--ckpt={{run}} --mel={{here}}/a.{kind} --output={{here}}/out" for kind in ("npy", "npz", "pt", "safetensors")
)
MEL = np.random.default_rng(0).uniform(0, 1, (30, 80)).astype(np.float32)
HEADER = b"\x93NUMPY\x01\x00v\x00"


def npy(array: np.ndarray) -> Callable[[Place], None]:
    return lambda place: np.save(place.here / "a.npy", array)


def header(text: str) -> Callable[[Place], None]:
    return write("a.npy", HEADER + text.encode().ljust(117) + b"\n")


class Hostile:
    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


def fails(place: Place) -> Any:
    npy(MEL)(place)
    return mock.patch("fwn.files.numpy_reader._array", side_effect=OSError(5, "Input/output error"))


def preset(**changes: Any) -> Callable[[Place], None]:
    """The contract flowavenet with other values, as a file; a value of ... leaves the field out."""
    fields = PRESETS["flowavenet"].to_dict() | changes
    return write("mel.json", json.dumps({name: value for name, value in fields.items() if value is not ...}))


ROWS = [
    Row(SAMPLE, NPY, "{here}/a.npy: no such file"),
    Row(
        SAMPLE,
        NPY,
        "--mel={here}/a.npy: no mel (.h5, .npy, .npz, .pt, .pth, .safetensors) in this folder",
        write("a.npy/b.txt", "x"),
    ),
    Row(SAMPLE, NPY, "{here}/a.npy: cannot be read (Input/output error)", fails),
    Row(
        SAMPLE,
        NPY,
        "{here}/a.npy: not a .npy array (the magic string is not correct; expected b'\\x93NUMPY', got "
        "b'hello '); write it with numpy.save",
        write("a.npy", "hello there"),
    ),
    Row(
        SAMPLE,
        NPY,
        "{here}/a.npy: not a .npy array (the magic string is not correct; expected b'\\x93NUMPY', got "
        "b'PK\\x03\\x04 i'); write it with numpy.save",
        write("a.npy", b"PK\x03\x04 is no archive"),
    ),
    Row(
        SAMPLE,
        NPY,
        "{here}/a.npy: not a .npy array (format 9.0); write it with numpy.save",
        write("a.npy", HEADER[:6] + b"\x09\x00"),
    ),
    Row(
        SAMPLE,
        NPY,
        "{here}/a.npy: not a .npy array (its header states float32 [90000000000, 80], 28800000000000 "
        "bytes, and 0 bytes follow); write it with numpy.save",
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (90000000000, 80)}"),
    ),
    Row(
        SAMPLE,
        NPY,
        "{here}/a.npy: not a .npy array (its header states object [1, 80], 640 bytes, and 0 bytes "
        "follow); write it with numpy.save",
        header("{'descr': '|O', 'fortran_order': False, 'shape': (1, 80)}"),
    ),
    Row(
        SAMPLE,
        NPY,
        "{here}/a.npy: a mel is an array of float16, float32 or float64, this is int64",
        npy(MEL.astype(int)),
    ),
    Row(
        SAMPLE,
        NPY,
        "{here}/a.npy: a mel has the shape [frames, 80] or [80, frames], this has [1, 1, 30, 80]",
        npy(MEL[None, None]),
    ),
    Row(SAMPLE, NPY, "{here}/a.npy: the mel is empty, its shape is [0, 80]", npy(MEL[:0])),
    Row(
        SAMPLE,
        NPY,
        "{here}/a.npy: with the shape [30, 1, 80] it is not clear which axis is the batch; drop the axis of length 1, "
        "or give a list of mels",
        npy(MEL[:, None]),
    ),
    Row(
        SAMPLE,
        NPY,
        "{here}/a.npy: number 1: 1 of 2400 values are NaN or infinite, the first in frame 2, band 3",
        npy(np.stack([MEL, np.where(np.arange(2400).reshape(30, 80) == 163, np.inf, MEL)])),
    ),
    Row(
        SAMPLE,
        NPZ,
        "{here}/a.npz: not a .npz archive (File is not a zip file); write it with numpy.savez",
        write("a.npz", "x"),
    ),
    Row(
        SAMPLE,
        NPZ,
        "{here}/a.npz: not a .npz archive (its <number> bytes unpack to 33554560, over 16 times as many); write it "
        "with numpy.savez",
        lambda place: np.savez_compressed(place.here / "a.npz", np.zeros(2**23, np.float32)),
    ),
    Row(
        SAMPLE,
        NPZ,
        "{here}/a.npz: 2 of its arrays can be mels of flowavenet (a13bd5d9b250); name one by --mel_key, of "
        "'mel' [30, 80], 'other' [20, 80], 'n' [3]",
        lambda place: np.savez(place.here / "a.npz", mel=MEL, other=MEL[:20], n=np.arange(3)),
    ),
    Row(
        SAMPLE,
        NPZ + " --mel_key=mell",
        "{here}/a.npz: 0 of its arrays are called 'mell'; name one by --mel_key, of 'mel' [30, 80]",
        lambda place: np.savez(place.here / "a.npz", mel=MEL),
    ),
    Row(
        SAMPLE,
        PT + " --mel_key=a.c",
        "{here}/a.pt: 0 of its arrays are called 'a.c'; name one by --mel_key, of 'a.b' (2 arrays), 'n' [3]",
        write("a.pt", torch_bytes({"a": {"b": [MEL, MEL[:20]]}, "n": np.arange(3)})),
    ),
    Row(
        SAMPLE,
        PT,
        "{here}/a.pt: no array is in it; save the mel as an array or tensor",
        write("a.pt", torch_bytes({"text": "hello"})),
    ),
    Row(
        SAMPLE,
        PT,
        "{here}/a.pt: refers to posix.system; only tensors and plain containers are read; save those alone, of a model "
        "its state_dict()",
        write("a.pt", torch_bytes([MEL, Hostile()])),
    ),
    Row(
        SAMPLE,
        PT,
        "{here}/a.pt: its list of 1000 arrays is over 16 times as large as the file; save each once",
        write("a.pt", torch_bytes([MEL] * 1000)),
    ),
    Row(
        SAMPLE,
        TENSORS,
        "{here}/a.safetensors: not a safetensors file ('mel', F32 [40, 80], has 12800 bytes from 0 on, but states 0 to "
        "9600 of 9600); write it with safetensors.numpy.save_file",
        write("a.safetensors", safetensors_bytes({"mel": MEL}, shape=[40, 80])),
    ),
    Row(
        SAMPLE,
        NPY,
        "{here}/a.npy: the mel has the shape [30, 100], but flowavenet (a13bd5d9b250) has 80 bands",
        npy(np.zeros((30, 100), np.float32)),
    ),
    Row(
        SAMPLE,
        NPY,
        ("{here}/a.npy: with 80 frames and 80 bands it is not clear which axis is which; add or drop a frame"),
        npy(np.zeros((80, 80), np.float32)),
    ),
    Row(
        SAMPLE,
        NPY,
        "{here}/a.npy: 1 of 2400 values are NaN or infinite, the first in frame 0, band 0",
        npy(np.where(np.arange(2400).reshape(30, 80) == 0, np.nan, MEL)),
    ),
    Row(
        SAMPLE,
        NPY,
        (
            (
                "{here}/a.npy: values -11 … 0.9947 are not a mel of flowavenet (a13bd5d9b250), whose values are "
                "within 0 … 1; it looks like tacotron2 or hifigan. Compute the mel with the convention of the "
                "model, flowavenet\n"
            )
            + table("flowavenet", "tacotron2")
        ),
        npy(12 * MEL - 11),
    ),
    Row(
        SAMPLE,
        NPY,
        "{here}/a.npy: values 0.19 … 999.6 are not a mel of flowavenet (a13bd5d9b250), whose values are "
        "within 0 … 1; it looks like none of the presets. Compute the mel with the convention of the "
        "model, flowavenet",
        npy(1000 * MEL),
    ),
    *(
        Row(PREPARE, "--corpus=folder --input={recordings} --output={here}/out --mel={here}/mel.json", message, make)
        for make, message in [
            (write("none", ""), "--mel={here}/mel.json: no such file"),
            (
                write("mel.json", "{"),
                "--mel={here}/mel.json: not JSON (Expecting property name enclosed in double quotes: line 1 "
                "column 2 (char 1))",
            ),
            (
                write("mel.json", "[" * 100_000),
                "--mel={here}/mel.json: not JSON (maximum recursion depth exceeded while decoding a JSON array "
                "from a unicode string)",
            ),
            (
                write("mel.json", b'{"name": "\xff"}'),
                "--mel={here}/mel.json: not JSON ('utf-8' codec can't decode byte 0xff in position 10: invalid "
                "start byte)",
            ),
            (write("mel.json", "[1]"), "--mel={here}/mel.json: not a JSON object with the fields of a mel contract"),
            (preset(hopp=1), "--mel={here}/mel.json: unknown field 'hopp'; did you mean 'hop_length'?"),
            (
                preset(fmin=..., peak=...),
                "--mel={here}/mel.json: missing fmin, peak; every field must be given, as `python -m fwn.mel contract "
                "hifigan` writes them",
            ),
            (preset(hop_length="x"), "--mel={here}/mel.json: mel contract: hop_length is 'x', but must be int"),
            (preset(hop_length=2.5), "--mel={here}/mel.json: mel contract: hop_length is 2.5, but must be int"),
            (preset(name=1), "--mel={here}/mel.json: mel contract: name is 1, but must be str"),
            (preset(fmin=None), "--mel={here}/mel.json: mel contract: fmin is None, but must be float"),
            (preset(peak=float("nan")), "--mel={here}/mel.json: mel contract: peak is nan, but must be float or null"),
            (
                preset(padding="left"),
                "--mel={here}/mel.json: mel contract 'flowavenet': padding is 'left', but must be one of centre, same",
            ),
            (preset(n_mels=0), "--mel={here}/mel.json: mel contract 'flowavenet': n_mels is 0, but must be positive"),
            (
                preset(n_fft=2**40),
                ("--mel={here}/mel.json: mel contract 'flowavenet': n_fft is 1099511627776, but must be at most 65536"),
            ),
            (
                preset(sample_rate=10**6),
                (
                    "--mel={here}/mel.json: mel contract 'flowavenet': sample_rate is 1000000, but must be at most "
                    "384000"
                ),
            ),
            (
                preset(win_length=2048),
                "--mel={here}/mel.json: mel contract 'flowavenet': win_length is 2048, but must be within "
                "hop_length … n_fft",
            ),
            (preset(n_fft=1025), "--mel={here}/mel.json: mel contract 'flowavenet': n_fft is 1025, but must be even"),
            (
                preset(padding="same", hop_length=255),
                "--mel={here}/mel.json: mel contract 'flowavenet': hop_length is 255, but must be even with "
                "padding 'same'",
            ),
            (
                preset(fmin=-1.0),
                "--mel={here}/mel.json: mel contract 'flowavenet': fmin is -1.0, but must be within 0 … fmax",
            ),
            (
                preset(fmax=12000.0),
                "--mel={here}/mel.json: mel contract 'flowavenet': fmax is 12000.0, but must be at most half of "
                "sample_rate 22050",
            ),
            (
                preset(power_epsilon=-1.0),
                "--mel={here}/mel.json: mel contract 'flowavenet': power_epsilon is -1.0, but must be 0 or more",
            ),
            (
                preset(peak=2.0),
                "--mel={here}/mel.json: mel contract 'flowavenet': peak is 2.0, but must be null or within 0 … 1",
            ),
            (
                preset(compression="ln"),
                "--mel={here}/mel.json: mel contract 'flowavenet': reference_db is 20.0, but must be null with "
                "compression 'ln'",
            ),
            (
                preset(reference_db=None),
                "--mel={here}/mel.json: mel contract 'flowavenet': reference_db is None, but must be a number "
                "of decibels",
            ),
            (
                preset(min_db=3.0),
                "--mel={here}/mel.json: mel contract 'flowavenet': min_db is 3.0, but must be a negative number "
                "of decibels",
            ),
        ]
    ),
    Row(
        PREPARE,
        "--corpus=folder --input={recordings} --output={here}/out --mel=hifigam",
        f"--mel: no preset is called 'hifigam'; did you mean 'hifigan'? (presets: {', '.join(PRESETS)})",
    ),
]
