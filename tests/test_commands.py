"""Every line of the pages for users that runs a program of fwn or data_prep really runs, in the order of its page.

Each page gets a folder with what it takes for granted: small data sets, runs, recordings and mels. Its commands run
there word for word, with flags added that shorten training. The experiments in that folder have minuscule models.
"""

import csv
import json
import re
import shutil
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import jax
import numpy as np
import pytest
import small
import soundfile
from test_compare import WAVENET
from test_docs import DOCS, commands, fences, program_and_flags

import fwn
from data_prep.prepare import prepare
from data_prep.recordings import Kind
from fwn import shipped
from fwn.evaluation import typicality
from fwn.evaluation.measure import synthetic
from fwn.listening.answers import COLUMNS
from fwn.mel import PRESETS, align
from fwn.shipped import experiment
from fwn.synthesis import exported
from fwn.systems import build
from fwn.training import checkpoints

# Pages whose commands are not run here, and why. Those of other pages without such commands need no mention.
ELSEWHERE = {name: "tests/test_corpus_recipes.py" for name in DOCS if re.match("docs/recipes/[a-z]", name)}
ELSEWHERE |= {f"docs/{name}.md": "hours of measuring" for name in ("comparison", "performance", "results", "tones")}
ELSEWHERE |= {"docs/serve.md": "tests/test_serve.py", "docs/plan.md": "tests/test_planning.py"}
# Commands that are not run, by a word that no other command has, and why.
LEFT_OUT = {
    "checkpoint_step000700000.pth": "the authors' checkpoint: tests/test_official.py",
    "--distributed": "needs the other hosts of a pod",
    "--coordinator=HOST:1234": "needs the other process: tests/test_parallel.py",
} | dict.fromkeys(
    ("--target=h100:64", "--target=h100:2x4", "--target=v5e:2x4"),
    "needs XLA's compiler for GPUs or TPUs: tests/test_planning.py",
)
SHORT = small.REST | {"num_steps": 2, "eval_every": 2, "eval_batches": 1}
# Added to the commands of a program, so that they are short.
ADDED = {
    "data_prep.prepare": ["--workers=1"],
    "fwn.compare": ["--speed_seconds=0.1"],
    "fwn.train": [f"--config.{field}={value}" for field, value in SHORT.items()],
}
WRITES = {"fwn.train": "--workdir="}  # the flag with the folder that a program fills, if it is not --output
CODES = {"fwn.doctor": (0, 5)}  # so small a data set and so short a run have warnings, but no errors
DATA = "lj-mini", "ljspeech", "mine", "kathleen-5"
RUNS = "base", "lj-mini", "flowavenet", "lite_lj"
# All experiments have this model, and train alike, so that there are few programs to compile. Linear prediction and
# autoregression would sample in loops, which is slow.
SAME = small.config(Path("data"), model={"prediction": {"order": 0}, "autoregression": {"coefficients": 0}})
RECORDINGS, HELD_OUT = 9, 3
LENGTH = 16_000  # samples: 0.5 s without the ends, which fwn.score needs, in 64 frames
EXPERIMENT = """from experiments import {0} as real
from test_commands import minuscule

def get_config(*args):
    return minuscule(real.get_config(*args))
"""


def ours(words: list[str]) -> str | None:
    """The program of fwn or data_prep that a command runs."""
    found = program_and_flags(words)
    return found[0] if found and found[0].startswith(("fwn.", "data_prep.")) else None


COMMANDS = {name: [words for words in commands(text) if ours(words)] for name, text in DOCS.items()}
PAGES = [name for name, found in COMMANDS.items() if found and name not in ELSEWHERE]


def minuscule(config):
    """An experiment with the smallest model of its system."""
    with config.unlocked():
        config.update({name: SAME[name] for name in ("optimizer", "dequantise", "ema_decay")})
        if config.system == "flowavenet":
            config.model = SAME.model.copy_and_resolve_references()
        else:
            config.model.update(WAVENET)
    return config


def write_mels(folder: Path, preset: str) -> None:
    """The mel of each recording, by its name, as a perfect acoustic model would make it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for i in range(RECORDINGS):
        np.save(folder / f"u{i:02d}.npy", align(small.speech(i, LENGTH), PRESETS[preset])[1])


def write_untrained(workdir: Path, name: str, **speakers) -> None:
    """A run of an experiment with its first weights."""
    config, mel = experiment(name), PRESETS["flowavenet"]
    config.speakers.update(speakers)
    system = build(config)
    batch = synthetic(1, 8, mel, 0, system)
    checkpoints.write(workdir, config, mel, jax.jit(lambda: system.init(jax.random.key(0), batch, {}))(), 5)


def for_mels(place: Path) -> None:
    """Mels of ESPnet's convention, statistics of ParallelWaveGAN's."""
    h5py = pytest.importorskip("h5py")
    write_mels(place / "mels", "espnet_24k_300")
    with h5py.File(place / "stats.h5", "w") as file:
        file["mean"], file["scale"] = np.full(80, -2.0), np.full(80, 0.7)


def for_speakers(place: Path) -> None:
    """Folders of speakers, a vector of each recording, a model that is told the speaker."""
    rng = np.random.default_rng(0)
    for speaker in ("two/lj", "two/kathleen", "people/ann", "people/bob"):
        small.record(place / speaker, [LENGTH] * 4)
    (place / "data" / "mine").unlink()  # the page makes it
    (place / "vectors").mkdir()
    for i in range(RECORDINGS):
        np.save(place / "vectors" / f"u{i:02d}.npy", rng.normal(size=3).astype(np.float32))
    shutil.rmtree(place / "runs" / "lite", ignore_errors=True)
    write_untrained(place / "runs" / "lite", "lite", kind="id", names=("p225", "p226"))


def answer(place: Path) -> None:
    """Two listeners of the test in `mos`, who hear the anchor."""
    key = json.loads((place / "mos" / "key.json").read_text())
    scores = {"reference": 5, "anchor": 1}
    rated = [["mos", clip, "", scores.get(of["system"], 3)] for clip, of in key["clips"].items()]
    trials = [*rated, *(["ab", *pair, "a"] for pair in key["pairs"])]
    (place / "answers").mkdir()
    for name in ("Ana", "Ben"):
        with open(place / "answers" / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            rows = [[key["test"], name, n, *trial, 1, 2.0, "now"] for n, trial in enumerate(trials, 1)]
            csv.writer(file).writerows([COLUMNS, *rows])


# What a page needs more, or other than the rest
NEEDS = {"docs/mels.md": for_mels, "docs/speakers.md": for_speakers}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a user who has done what the pages take for granted."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shipped, "HERE", folder / "fwn")
        patch.setattr(typicality, "LEAST", HELD_OUT)
        (folder / "experiments").mkdir()
        for file in (small.ROOT / "experiments").glob("[a-z]*.py"):
            (folder / "experiments" / file.name).write_text(EXPERIMENT.format(file.stem))
        small.record(folder / "recordings", [LENGTH] * RECORDINGS)
        soundfile.write(folder / "recording.flac", small.speech(20, LENGTH), small.RATE)
        for name in ("my.wav", "utterance.wav"):
            shutil.copy(folder / "recordings" / "u00.wav", folder / name)
        shutil.copytree(folder / "recordings", folder / "LJSpeech-1.1" / "wavs")
        lines = [f"u{i:02d}|Text.|Text.\n" for i in range(RECORDINGS)]
        (folder / "LJSpeech-1.1" / "metadata.csv").write_text("".join(lines))
        write_mels(folder / "mels", "flowavenet")
        write_mels(folder / "gta", "tacotron2")
        for name in ("a", "utterance"):
            shutil.copy(folder / "mels" / "u00.npy", folder / f"{name}.npy")
        kind = Kind(PRESETS["flowavenet"], "int16", "float32")
        share = HELD_OUT / RECORDINGS
        assert prepare("folder", folder / "recordings", folder / "prepared", kind, share, None, 1) == []
        (folder / "data").mkdir()
        for name in DATA:
            (folder / "data" / name).symlink_to(folder / "prepared")
        begin = ["--config=lite", "--workdir=runs/lite", "--config.data=data/mine", *ADDED["fwn.train"]]
        assert small.program("fwn.train", *begin, cwd=folder).code == 0
        run = folder / "runs" / "lite"
        for name in RUNS:
            shutil.copytree(run, folder / "runs" / name)
        write_untrained(folder / "runs" / "wavenet_gaussian", "wavenet_gaussian")
        for name in ("lj-mini", "lj-mini-predictor"):
            exported.write_voice(folder / "voices" / name, checkpoints.read(run))
        shutil.copytree(folder / "mels", folder / "voices" / "lj-mini" / "mels")
        for command in (
            "fwn.score --ckpt=voices/lj-mini --data=data/lj-mini --save_reference",
            "fwn.evaluate --ckpt=runs/base --data=data/ljspeech --output=results/base",
        ):
            result = small.program(*command.split(), cwd=folder)
            assert (result.code, result.err) == (0, ""), result
        shutil.copytree(folder / "results" / "base", folder / "results" / "wavenet")
        yield folder


def arguments(words: list[str], place: Path) -> tuple[list[str], Path | None]:
    """What a program gets from the shell, which knows patterns and `>`; and the file of its output, if it has one."""
    args = words[words.index("-m") + 2 :] if "-m" in words else words[2:]
    file = None
    if ">" in args:
        *args, _, name = args
        file = place / name
    found = [sorted(glob(a, root_dir=place)) if "*" in a and not a.startswith("-") else [a] for a in args]
    return [arg for some in found for arg in some], file


def state(folder: Path) -> set[tuple[Path, int]]:
    """Its files and when they were written."""
    return {(path, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("page", PAGES)
def test_commands_run(page: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "home"
    shutil.copytree(home, place, symlinks=True)
    monkeypatch.setattr(shipped, "HERE", place / "fwn")
    trainings = [words for words in COMMANDS[page] if ours(words) == "fwn.train"]
    for name in [word.partition("=")[2] for words in trainings for word in words if word.startswith("--workdir=")]:
        shutil.rmtree(place / name, ignore_errors=True)  # the run begins in the page
    NEEDS.get(page, lambda place: None)(place)
    failed = []
    for words in COMMANDS[page]:
        if LEFT_OUT.keys() & {*words}:
            continue
        program = str(ours(words))
        if "analyse" in words:
            answer(place)
        args, file = arguments(words, place)
        made = [place / arg.partition("=")[2] for arg in args if arg.startswith(WRITES.get(program, "--output="))]
        before = [state(folder) for folder in made]
        result = small.program(program, *args, *ADDED.get(program, []), cwd=place)
        if file:
            file.write_text(result.out)
        unchanged = [str(path) for path, was in zip(made, before, strict=True) if state(path) == was]
        if result.code not in CODES.get(program, (0,)) or result.err or unchanged:
            line = f"{page}: {' '.join(words)}"
            failed.append(f"{line}\nexit code {result.code}; nothing new in {unchanged}\n{result.err}{result.out}")
    assert not failed, "\n\n".join(failed)


@pytest.mark.parametrize("page", ["README.md", "docs/sampling.md", "docs/speakers.md"])
def test_python_runs(page: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of a page, with a vocoder and a mel as it takes for granted. Other pages' code: test_docs, test_site."""
    place = tmp_path / "home"
    shutil.copytree(home, place, symlinks=True)
    NEEDS.get(page, lambda place: None)(place)
    monkeypatch.chdir(place)
    known = {"fwn": fwn, "vocoder": fwn.load("runs/base"), "mel": np.load("mels/u00.npy")}
    for block in fences(DOCS[page], "python"):
        exec(block, known)
    assert known["audio"].shape == (len(known["mel"]) * small.HOP,)
    if page == "docs/sampling.md":
        np.testing.assert_allclose(known["of_frames"].mean(), known["nats"], rtol=1e-4)
        np.testing.assert_allclose(known["again"], known["audio"], atol=1e-3)


def test_what_is_left_out_is_there() -> None:
    """Each word of LEFT_OUT is in exactly one command, and each page of ELSEWHERE has commands."""
    lines = [words for page in PAGES for words in COMMANDS[page]]
    assert {word: sum(word in words for words in lines) for word in LEFT_OUT} == dict.fromkeys(LEFT_OUT, 1)
    assert [name for name in ELSEWHERE if not COMMANDS[name]] == []
