"""The recipes of docs/recipes, run in small: their own commands, on a generated corpus of the layout."""

import glob
import json
from collections import Counter
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import small
import soundfile
from layouts_small import corpus
from test_docs import DOCS, commands, program_and_flags

from fwn.audio import audio_file
from fwn.data.corpus import Corpus
from fwn.mel import PRESETS, align
from fwn.training import checkpoints

# The paths among the flags: they are put below a temporary folder. voices/ comes with fwn.
PATHS = "input", "output", "mels", "data", "config.data", "workdir", "ckpt", "init_from", "wav"
# What makes a recipe small. All else, such as mels, speakers and types, is as the recipe says.
SMALL = {f"model.{name}": value for name, value in (small.MODEL | {"channels": "(8, 8)"}).items()}
SMALL |= {f"model.prediction.{name}": value for name, value in small.PREDICTION.items() if name != "subframe"}
SMALL |= small.REST | {"num_steps": 2, "eval_every": 2, "eval_batches": 1}
SECONDS = 0.7


class Recipe(NamedTuple):
    """A corpus, and the data sets that the commands of the page make of it."""

    rate: int
    recordings: list[str]
    texts: dict[str, str]
    data: dict[str, dict[str, int]]  # --output of data_prep.prepare -> utterances of each speaker


def several(pattern: str, *numbers: int) -> list[str]:
    return [pattern.format(number) for number in numbers]


VCTK = "VCTK-Corpus-0.92/wav48_silence_trimmed"
LIBRITTS = "LibriTTS/train-clean-100"
RECIPES = {
    "ljspeech": Recipe(
        22_050,
        several("LJSpeech-1.1/wavs/LJ050-{:04d}.wav", *range(270, 279)),
        {"LJSpeech-1.1/metadata.csv": "".join(f"LJ050-{i:04d}|Of {i}.|Of number.\n" for i in range(270, 279))},
        {"data/ljspeech": {"": 9}},
    ),
    "vctk": Recipe(
        48_000,
        [
            *(f"{VCTK}/p225/p225_{i}_mic{mic}.flac" for i in range(362, 367) for mic in (1, 2)),
            *several(VCTK + "/p315/p315_{:03d}_mic1.flac", 1, 2, 3),
        ],
        {f"VCTK-Corpus-0.92/txt/p225/p225_{i}.txt": f"Sentence {i}.\n" for i in range(362, 367)},
        {"data/vctk": {"p225": 5, "p315": 3}},
    ),
    "libritts": Recipe(
        24_000,
        [
            *several(LIBRITTS + "/103/1240/103_1240_000000_{:06d}.wav", 1, 2, 3),
            *several(LIBRITTS + "/103/1241/103_1241_000000_{:06d}.wav", 1, 2),
            *several("LibriTTS/train-clean-360/100/121669/100_121669_000000_{:06d}.wav", 1, 2, 3),
        ],
        {f"{LIBRITTS}/103/1240/103_1240_000000_000001.normalized.txt": "Chapter one."},
        {"data/libritts": {"103": 5, "100": 3}},
    ),
    "jsut": Recipe(
        48_000,
        [
            *several("jsut_ver1.1/basic5000/wav/BASIC5000_{:04d}.wav", *range(1, 7)),
            *several("jsut_ver1.1/travel1000/wav/TRAVEL1000_{:04d}.wav", 1, 2),
        ],
        {"jsut_ver1.1/basic5000/transcript_utf8.txt": "BASIC5000_0001:水を買わなくてはならないのです。\n"},
        {"data/jsut": {"": 8}},
    ),
    "csmsc": Recipe(
        48_000,
        several("CSMSC/Wave/{:06d}.wav", *range(9_993, 10_001)),
        {"CSMSC/ProsodyLabeling/000001-010000.txt": "009993\t卡尔普#2陪外孙#1玩滑梯#4。\n\tka2 er2 pu3\n"},
        {"data/csmsc": {"": 8}},
    ),
    "folder": Recipe(
        44_100,
        [
            *several("recordings/{:02d}.wav", *range(8)),
            *several("people/ann/{:02d}.flac", *range(5)),
            *several("people/bob/old/{:02d}.wav", *range(3)),
        ],
        {},
        {"data/mine": {"": 8}, "data/people": {"ann": 5, "bob": 3}, "data/gta": {"": 8}},
    ),
}
BEGINS_WITH = {"folder": "ljspeech"}  # whose trained model a recipe begins with


class Command(NamedTuple):
    program: str
    flags: dict[str, str]  # as the page says them, but for paths


def mels(recordings: Path, output: Path) -> None:
    """What an acoustic model would make of the recordings, were it perfect."""
    output.mkdir()
    for file in sorted(recordings.iterdir()):
        audio, _ = audio_file.read(file, PRESETS["tacotron2"].sample_rate)
        np.save(output / f"{file.stem}.npy", align(audio, PRESETS["tacotron2"])[1])


def said(name: str, folder: Path) -> list[Command]:
    """The commands of a page, with their paths in `folder`."""
    found = []
    for words in commands(DOCS[f"docs/recipes/{name}.md"]):
        program = program_and_flags(words)
        assert program, f"not a program of ours: {' '.join(words)}"
        pairs = [word[2:].partition("=") for word in words if word.startswith("--")]
        flags = {flag: value if value or equals else "true" for flag, equals, value in pairs}
        below = {flag: str(folder / value) for flag, value in flags.items() if flag in PATHS}
        found.append(Command(program[0], flags | below))
    return found


def follow(name: str, folder: Path) -> None:
    """Makes the corpus of a page in `folder` and runs all of its commands there."""
    recipe = RECIPES[name]
    corpus(folder, recipe.recordings, recipe.texts, SECONDS, recipe.rate)
    if (folder / "recordings").is_dir() and not (folder / "gta").is_dir():
        mels(folder / "recordings", folder / "gta")
    more = {
        "data_prep.prepare": {"workers": 1},
        "fwn.train": {f"config.{field}": value for field, value in SMALL.items()},
    }
    for command in said(name, folder):
        flags = command.flags | more.get(command.program, {})
        result = small.program(command.program, *(f"--{flag}={value}" for flag, value in flags.items()))
        assert (result.code, result.err) == (0, ""), (command, result)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """The folder of all recipes, and which were run already."""
    return tmp_path_factory.mktemp("recipes"), set()


@pytest.fixture(params=RECIPES)
def run(request: pytest.FixtureRequest, done: tuple[Path, set[str]]) -> tuple[str, Path]:
    """A recipe and the folder in which all of its commands were run, after those of the one it begins with."""
    folder, names = done
    for name in (BEGINS_WITH.get(request.param), request.param):
        if name and name not in names:
            follow(name, folder)
            names.add(name)
    return request.param, folder


def of(run: tuple[str, Path], program: str) -> list[dict[str, str]]:
    """The flags of each command for this program; every page has one."""
    found = [command.flags for command in said(*run) if command.program == program]
    assert found
    return found


def test_every_page_is_run_and_listed():
    pages = {Path(name).stem for name in DOCS if name.startswith("docs/recipes/")} - {"README"}
    assert pages == RECIPES.keys()
    assert all(f"]({name}.md)" in DOCS["docs/recipes/README.md"] for name in pages)


def test_data(run):
    """Every recording is in, resampled, with its speaker, and some of each speaker are held out."""
    name, folder = run
    prepared = of(run, "data_prep.prepare")
    assert {str(Path(flags["output"]).relative_to(folder)) for flags in prepared} == RECIPES[name].data.keys()
    for flags in prepared:
        data = Corpus(flags["output"])
        assert data.contract == PRESETS[flags.get("mel", "flowavenet")]
        expected = RECIPES[name].data[str(Path(flags["output"]).relative_to(folder))]
        assert Counter(u.speaker for u in data.utterances) == expected
        assert {data.utterances[i].speaker for i in data.split("test")} == expected.keys()
        assert all(abs(u.samples / data.contract.sample_rate - SECONDS) < 0.01 for u in data.utterances)
        listed = sum(file.startswith(flags["input"]) for file in map(str, map(folder.joinpath, RECIPES[name].texts)))
        assert bool(listed) == any(u.text for u in data.utterances)


def test_training(run):
    """Two steps of the recipe's system, for the mels of its data set, which change the weights to finite ones."""
    prepared = {flags["output"]: flags.get("mel", "flowavenet") for flags in of(run, "data_prep.prepare")}
    for flags in of(run, "fwn.train"):
        trained = checkpoints.read(Path(flags["workdir"]))
        assert trained.step == 2
        assert trained.mel == PRESETS[prepared[flags["config.data"]]]
        for flag, value in flags.items():
            field = flag.removeprefix("config.")
            if flag in ("config.model.dtype", "config.optimizer.halve_every", "config.mel", "config.speakers.kind"):
                assert str(at(trained.config, field)) == value, flag
        records = [json.loads(line) for line in (Path(flags["workdir"]) / "metrics.jsonl").read_text().splitlines()]
        losses = [record["loss"] for record in records]
        assert len(losses) == 3
        assert np.isfinite(losses).all()
        assert losses[0] != losses[1]


def at(config: Any, field: str) -> Any:
    return reduce(getitem, field.split("."), config)


def test_results(run):
    """Likelihood and copies of held-out utterances, as many as asked for."""
    for flags in of(run, "fwn.evaluate"):
        data = Corpus(flags["data"])
        held_out = {data.utterances[i].name for i in data.split("test")}
        found = json.loads((Path(flags["output"]) / "results.json").read_text())["utterances"]
        assert found["likelihood"].keys() == held_out
        assert np.isfinite([row["nats_per_sample_dequantised"] for row in found["likelihood"].values()]).all()
        for copies in found["copies"].values():
            assert copies.keys() == held_out
            assert all(np.isfinite(row["log_mel_l1"]) for row in copies.values())


def test_audio(run):
    """Of each recording, at the rate of the mels and of its length."""
    for flags in of(run, "fwn.sample"):
        contract = checkpoints.read(Path(flags["ckpt"])).mel
        recordings = [*Path(flags["wav"]).glob("*")] if Path(flags["wav"]).is_dir() else glob.glob(flags["wav"])
        written = {file.stem: file for file in Path(flags["output"]).glob("*.wav")}
        assert written.keys() == {Path(file).stem for file in recordings} != set()
        for file in written.values():
            audio, rate = soundfile.read(file, dtype="float32")
            assert rate == contract.sample_rate
            assert len(audio) % contract.hop_length == 0
            assert abs(len(audio) / rate - SECONDS) < 0.01 + contract.hop_length / rate
            assert np.isfinite(audio).all()
            assert audio.std() > 1e-4
