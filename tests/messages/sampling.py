"""Errors of fwn.sample and fwn.export, but for those of single files."""

import json
import shutil
from typing import Any
from unittest import mock

import numpy as np
from array_files import torch_bytes

from fwn.config import Speakers
from fwn.data.corpus import Corpus
from fwn.diagnosis import material
from fwn.portable.parity import Parity

from . import DOCTOR, EXPORT, SAMPLE, Place, Row, table, write
from .training import spoilt

MEL = "--ckpt={run} --mel={mels}/a.npy --output={here}/out "
KINDS = ".h5, .npy, .npz, .pt, .pth, .safetensors"


def both(place: Place) -> None:
    """A mel and a recording of one name."""
    shutil.copy(place.shelf["mels"] / "a.npy", place.here / "u00.npy")
    shutil.copy(place.shelf["recordings"] / "u00.wav", place.here)


def batch(name: str) -> Any:
    """Two mels in u00.pt, and one in NAME.npy."""

    def make(place: Place) -> None:
        mel = np.load(place.shelf["mels"] / "a.npy")
        np.save(place.here / f"{name}.npy", mel)
        (place.here / "u00.pt").write_bytes(torch_bytes([mel, mel]))

    return make


def other_weights(content: Any) -> Any:
    """A voice with other contents of weights.npz, of which config.json has the hash."""

    def make(place: Place) -> None:
        import hashlib

        folder = place.copy("voice")
        (folder / "weights.npz").write_bytes(content)
        config = json.loads((folder / "config.json").read_text())
        del config["checksum"]
        config["sha256"] = hashlib.sha256(content).hexdigest()
        (folder / "config.json").write_text(json.dumps(config))

    return make


def huge(place: Place) -> Any:
    """Weights that have diverged."""
    from fwn.training import checkpoints

    config, mel, params, step = checkpoints.read(place.shelf["run"])
    params["prediction"]["conv_0"]["kernel"] = np.full_like(params["prediction"]["conv_0"]["kernel"], 1e5)
    checkpoints.write(place.here / "run", config, mel, params, step)


def shifted(place: Place) -> Any:
    """A shift of 10^7 takes all but the highest bits of what comes after it."""
    from fwn.training import checkpoints

    config, mel, params, step = checkpoints.read(place.shelf["run"])
    normal = params["block_0"]["flows"]["actnorm"]
    normal["loc"] = np.full_like(normal["loc"], 1e7)
    checkpoints.write(place.here / "run", config, mel, params, step)


def shipped(name: str) -> Any:
    return lambda place: mock.patch(f"fwn.shipped.{name}", place.here)


def no_step(place: Place) -> None:
    file = place.copy("voice") / "config.json"
    values = {name: value for name, value in json.loads(file.read_text()).items() if name not in ("step", "checksum")}
    file.write_text(json.dumps(values))


def without_a_file(place: Place) -> None:
    """An export of which config.json states a file that is not there."""
    file = place.copy("voice") / "config.json"
    values = {name: value for name, value in json.loads(file.read_text()).items() if name != "checksum"}
    file.write_text(json.dumps(values | {"sha256": {"weights.npz": values["sha256"], "sample.stablehlo": "x"}}))


ROWS = [
    Row(
        SAMPLE,
        "--ckpt={here}/voice --mel={mels}/a.npy --output={here}/out",
        "{here}/voice/config.json: its step is None; get it again, or run fwn.export again if it was interrupted",
        no_step,
    ),
    Row(SAMPLE, "--ckpt={run} --output={here}/out", "nothing to sample: give --mel=FILE or --wav=FILE"),
    Row(
        SAMPLE,
        "--mel={mels}/a.npy",
        "--output is missing; give it (--help lists the flags)",
        code=2,
    ),
    Row(
        SAMPLE,
        MEL + "--temperature=-1",
        "flag --temperature=-1: -1.0 is not a non-negative number (--help lists the flags)",
        code=2,
    ),
    Row(SAMPLE, MEL + "--temperature=inf", "--temperature=inf: must be a finite number, 0 or more"),
    Row(
        SAMPLE,
        MEL + "--batch_size=0",
        "flag --batch_size=0: 0 is not a positive integer (--help lists the flags)",
        code=2,
    ),
    Row(SAMPLE, MEL + "--low_temperature=nan", "low_temperature is nan: it must be a finite number, 0 or more"),
    Row(
        SAMPLE,
        "--ckpt={plain} --mel={mels}/a.npy --output={here}/out --low_temperature=0.5",
        "{plain}: low_temperature is 0.5, but the model has no autoregression over blocks "
        "(config.model.autoregression); leave low_temperature out",
    ),
    Row(
        SAMPLE,
        MEL + "--level_temperatures=1",
        "level_temperatures is [1.0]; give a finite number, 0 or more, or 2, one for each level",
    ),
    Row(
        SAMPLE,
        MEL + "--level_temperatures=1,high",
        "--level_temperatures: 'high' is not a number; give numbers, as in 0.9,1",
    ),
    Row(
        SAMPLE,
        MEL + "--denoise=2",
        "flag --denoise=2: 2.0 is not a number in the range [0.0, 1.0] (--help lists the flags)",
        code=2,
    ),
    Row(
        SAMPLE,
        MEL + "--wav={mels}/a.npy",
        f"--wav={{mels}}/a.npy: give mels ({KINDS}) by --mel and recordings by --wav",
    ),
    Row(
        SAMPLE,
        MEL + "--mel={recordings}/u00.wav",
        f"--mel={{recordings}}/u00.wav: give mels ({KINDS}) by --mel and recordings by --wav",
    ),
    Row(SAMPLE, "--ckpt={run} --mel={here}/none*.npy --output={here}/out", "--mel={here}/none*.npy: no such file"),
    Row(
        SAMPLE,
        "--ckpt={run} --mel={recordings} --output={here}/out",
        f"--mel={{recordings}}: no mel ({KINDS}) in this folder",
    ),
    Row(SAMPLE, "--ckpt={run} --wav={mels} --output={here}/out", "--wav={mels}: no recording in this folder"),
    Row(
        SAMPLE,
        "--ckpt={run} --wav={here}/u00.wav --mel={here}/u00.npy --output={here}/out",
        "{here}/u00.npy and {here}/u00.wav would all be written to u00.wav; sample them in separate runs",
        both,
    ),
    Row(
        SAMPLE,
        "--ckpt={run} --mel={here} --output={here}/out",
        "{here}/u00.npy and {here}/u00.pt would all be written to u00.wav; sample them in separate runs",
        batch("u00"),
    ),
    Row(
        SAMPLE,
        "--ckpt={run} --mel={here} --mel={mels}/a.npy --output={here}/out",
        "{here}/u00-001.npy and {here}/u00.pt would all be written to u00-001.wav; sample them in separate runs",
        batch("u00-001"),
    ),
    Row(
        SAMPLE,
        "--ckpt={run} --wav={here}/u00.wav --output={here}",
        "--output={here}: {here}/u00.wav would be overwritten by its own copy; give another folder",
        both,
    ),
    Row(SAMPLE, "--ckpt={run} --mel='new\nline\x1b.npy' --output={here}/out", "new\\nline\\x1b.npy: no such file"),
    Row(
        SAMPLE,
        "--ckpt={run} --mel={here}/x.npy --mel={here}/y.npy --output={here}/out",
        "{here}/x.npy: no such file\n  {here}/y.npy: no such file",
    ),
    Row(
        SAMPLE,
        "--ckpt={run} --mel={mels} --mel={here}/y.npy --output={here}/out",
        "left out {here}/y.npy: no such file",
        code=3,
        creates=("out", "out/a.wav"),
    ),
    Row(
        SAMPLE,
        "--mel={mels}/a.npy --output={here}/out",
        "{voices}/lj-mini: the voice that comes with fwn is missing; give --ckpt=DIR",
        lambda _: mock.patch("pathlib.Path.is_dir", return_value=False),
    ),
    Row(
        SAMPLE,
        MEL + "--mel_contract=hifigan",
        (
            (
                "--mel_contract=hifigan is hifigan (3c96768fd3c8), but {run} was trained on mels of flowavenet "
                "(a13bd5d9b250); compute the mels by that\n"
            )
            + table("flowavenet", "hifigan")
        ),
    ),
    Row(SAMPLE, MEL + "--step=5", "{run}: no checkpoint of step 5; there are: 8"),
    Row(SAMPLE, "--ckpt={run} --mel={mels}/a.npy --output={here}/file", "File exists: {here}/file", write("file", "x")),
    Row(
        SAMPLE,
        "--ckpt={run} --mel={mels}/a.npy --output={here}/file/out",
        "Not a directory: {here}/file/out",
        write("file", "x"),
    ),
    Row(
        SAMPLE,
        "--ckpt={voice} --step=5 --mel={mels}/a.npy --output={here}/out",
        "{voice}: no checkpoint of step 5; this export is of step 8 alone",
    ),
    Row(
        SAMPLE,
        "--ckpt={here}/voice --mel={mels}/a.npy --output={here}/out",
        "{here}/voice/weights.npz: damaged (its sha256 is not the one in {here}/voice/config.json); get "
        "it again, or run fwn.export again if it was interrupted",
        lambda place: (place.copy("voice") / "weights.npz").write_bytes(b"x"),
    ),
    Row(
        SAMPLE,
        "--ckpt={here}/voice --mel={mels}/a.npy --output={here}/out",
        "{here}/voice/weights.npz: damaged (BadZipFile('File is not a zip file')); get it again, or run "
        "fwn.export again if it was interrupted",
        other_weights(b"PK\x03\x04"),
    ),
    Row(
        EXPORT,
        "--ckpt={run}",
        "--output is missing; give it (--help lists the flags)",
        code=2,
    ),
    Row(
        EXPORT,
        "--ckpt={run} --output={here}/out more",
        "unexpected argument 'more': all settings are flags (--help lists them)",
    ),
    Row(
        EXPORT,
        "--ckpt={run} --output={here}",
        "--output={here}: exists and is not an export; give another folder",
        write("kept.txt", "mine"),
    ),
    Row(
        EXPORT,
        "--ckpt={run} --output={voice}",
        "--output={voice}: has another format (weights.npz); replace it with --format=voice, or give another folder",
    ),
    Row(
        EXPORT,
        "--ckpt={run} --output={here}",
        "--output={here}: README.md was not written by fwn.export, or was changed; move it, or give another folder",
        lambda place: (write("weights.safetensors", "")(place), write("README.md", "mine")(place)),
    ),
    Row(
        EXPORT,
        "--ckpt={weights} --output={here}/out",
        "the exported programs differ from the model by 0.001 of full scale, more than 1e-05, on cpu; take another "
        "--step, or --format=voice, which has no programs",
        lambda _: mock.patch("fwn.portable.parity.measure", return_value=Parity(0.001, [48], "cpu")),
    ),
    Row(
        EXPORT,
        "--ckpt={weights} --output={here}/out --results={here}",
        "{here}/results.json: not the results of fwn.evaluate (KeyError('step')); give its --output",
        write("results.json", "{}"),
    ),
    Row(
        EXPORT,
        "--ckpt={weights} --output={here}/out --results={here}",
        "{here}/results.json: of another model (step, parameters, mel contract: (9, 9, 'hifigan') there, <reason> "
        "here); evaluate this one",
        write("results.json", '{"step": 9, "card": {"parameters": 9, "mel": "hifigan"}}'),
    ),
    Row(
        SAMPLE,
        "--ckpt={here}/voice --mel={mels}/a.npy --output={here}/out",
        "{here}/voice/sample.stablehlo: missing; get it again, or run fwn.export again if it was interrupted",
        without_a_file,
    ),
    Row(
        EXPORT,
        "--ckpt={here}/run --output={here}/out --format=voice",
        "prediction/conv_0/kernel: a weight of 1e+05 is too large for float16: it diverged; take another step",
        huge,
    ),
    Row(
        EXPORT,
        "--ckpt={run} --output={here}/out --data={hifigan}",
        (
            (
                "{run} has the mel contract flowavenet (a13bd5d9b250), but {hifigan} was prepared with hifigan "
                "(3c96768fd3c8); prepare it again in another folder\n"
            )
            + table("flowavenet", "hifigan")
        ),
    ),
    Row(
        EXPORT,
        "--ckpt={run} --output={here}/out --data={corpus} --format=voice",
        "{run}: float16 loses 0.5000 nats/sample, more than 0.01; use the workdir",
        lambda _: mock.patch("fwn.synthesis.vocoder.Vocoder.log_likelihood", side_effect=[4.5] * 2 + [4.0] * 2),
    ),
    Row(
        EXPORT,
        "--ckpt={here}/run --output={here}/out",
        "{here}/run: its inverse errs by <number> of full scale, more than 0.01: samples would be noise; take another "
        "--step, or train with config.model.s_max=2",
        shifted,
    ),
    Row(
        DOCTOR,
        "--workdir={weights}",
        "{weights}: no metrics.jsonl in it, so it is no run; give a model alone as --ckpt",
    ),
    Row(
        lambda place: material.held_out(Corpus(place.here / "corpus"), Speakers({})),
        "",
        "{here}/corpus: no held-out utterance can be read; run data_prep.prepare again",
        spoilt,
    ),
]
