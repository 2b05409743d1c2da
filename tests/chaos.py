"""Attacks on what fwn reads and writes, each counted: `make chaos` runs many, `make test` a few.

    PYTHONPATH=. python tests/chaos.py --trials=500 --kills=100

Prints one line per attack: trials, and how each kind of trial ended. Ends in capitals are faults.
"""

import argparse
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import config_space
import fuzz
import generated
import hypothesis
import jax
import kills
import numpy as np
import small
import writers

from fwn import cli
from fwn import config as configs
from fwn.data import loader
from fwn.data.corpus import Corpus
from fwn.errors import UserError
from fwn.systems import build
from fwn.training import checkpoints
from fwn.training.parallel import Parallel
from fwn.training.step import abstract


def flipped(files: list[Path], trials: int, rng: np.random.Generator) -> Iterator[tuple[Path, int]]:
    """Flips one random bit of each file in turn, yields (file, bit), and restores the file."""
    for trial in range(trials):
        file = files[trial % len(files)]
        content = file.read_bytes()
        bit = int(rng.integers(8 * len(content)))
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(changed)
        yield file, bit
        file.write_bytes(content)


def attempt(action: Callable[[], Any], whole: Any, folder: Path) -> str:
    """How reading ended: "refused" in one line that names a file of the folder, "equal" to `whole`, or "CHANGED".

    "UNCLEAR": refused by another message.
    """
    try:
        found = action()
    except UserError as error:
        return "refused" if "\n" not in str(error) and str(folder) in str(error) else "UNCLEAR"
    same = jax.tree.map(lambda a, b: a.dtype == b.dtype and np.array_equal(a, b), found, whole)
    return "equal" if jax.tree.all(same) else "CHANGED"


def files_of(workdir: Path, step: int) -> list[Path]:
    """config.json and all files of a checkpoint that have a bit to flip."""
    inside = (workdir / checkpoints.FOLDER / str(step)).rglob("*")
    return [workdir / configs.FILE, *sorted(path for path in inside if path.is_file() and path.stat().st_size)]


def reader(workdir: Path, step: int) -> Callable[[], Any]:
    """Reads a run to sample from and to train on: its weights and whole state, as NumPy arrays."""
    config, mel = configs.read(workdir)
    corpus = Corpus(config.data)
    system, parallel = build(config, mel=mel), Parallel("jit", config.batch_size)
    shape = {"frames": config.frames, "batch_size": config.batch_size, "seed": 0, "process": 0, "processes": 1}
    stream = loader.batches(corpus, "train", **shape, past=system.past)
    like = abstract(system, config, parallel, jax.tree.map(np.asarray, stream[0]))

    def both() -> Any:
        run = checkpoints.read(workdir)
        configs.check_same(workdir, config, mel)
        kept = checkpoints.Checkpoints(workdir, config, mel)
        try:
            resumed = kept.load(step, *like.split())
        finally:
            kept.close()
        return jax.device_get((run.params, np.int32(run.step), resumed))

    return both


def checkpoint_bits(workdir: Path, step: int, trials: int, rng: np.random.Generator) -> Counter[str]:
    """Single bits of a run's files, read to sample from and to train on. `workdir` is restored."""
    read, ends = reader(workdir, step), Counter[str]()
    whole = read()
    for file, bit in flipped(files_of(workdir, step), trials, rng):
        end = attempt(read, whole, workdir)
        ends[end] += 1
        if end.isupper():
            print(f"{end}: bit {bit} of {file}")
    return ends


def data_bits(folder: Path, trials: int, rng: np.random.Generator) -> Counter[str]:
    """Single bits of a data set's files, read as training does and by utterance. `folder` is restored."""

    def everything() -> Any:
        """What a run sees, as arrays: the data is verified once, when it begins."""
        corpus = Corpus(folder)
        corpus.verify()
        described = repr((corpus.contract, corpus.utterances, corpus.left_out))
        return [np.array(described)] + [np.array(a) for i in range(len(corpus)) for a in corpus[i].values()]

    def by_utterance() -> Any:
        """What other programs see."""
        corpus = Corpus(folder)
        return [a for i in range(len(corpus)) for a in (corpus.audio(i), corpus.mel(i))]

    ends = Counter[str]()
    files = sorted(path for path in folder.glob("*.*") if path.is_file())
    for read in (everything, by_utterance):
        whole = read()
        for file, bit in flipped(files, trials // 2, rng):
            end = attempt(read, whole, folder)
            ends[end] += 1
            if end.isupper():
                print(f"{end}: bit {bit} of {file}")
    return ends


def configs_drawn(count: int, folder: Path) -> Counter[str]:
    """Configs of config_space: how each ended; a fault is in capitals, and printed."""
    ends = Counter[str]()

    @hypothesis.seed(0)
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(config_space.drawn())
    def draw(fields: dict[str, Any]) -> None:
        try:
            ends[config_space.end_of(fields, folder / "drawn")] += 1
        except Exception as error:
            ends["FAULT"] += 1
            print(f"FAULT: {error!r}: {fields}", flush=True)

    draw()
    return ends


def main(trials: int, killed: int, only: str, ckpt: str | None, files: int, configs_count: int) -> None:
    sys.unraisablehook = cli._unraisable  # as in all programs: orbax leaves threads behind after an error
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        small.record(folder / "in", [3000 + 700 * i for i in range(2, 9)] + [9000])
        arguments = "--corpus=folder", f"--input={folder}/in", f"--output={folder}/data"
        prepared = small.program("data_prep.prepare", *arguments)
        assert prepared.code == 0, prepared
        run = folder / "run"
        trained = small.program("fwn.train", *small.config_flags(folder / "data"), f"--workdir={run}")
        assert trained.code == 0, trained
        rng = np.random.default_rng(0)
        if killed:
            kills.serve()
            for name, program in writers.programs(folder / "kills", folder / "in", folder / "data", run).items():
                if re.search(only, name):
                    print(f"kill -9, {name}: {killed} kills: {dict(kills.attack(program, killed, rng))}", flush=True)
        if not trials:
            return
        if ckpt is not None:
            run = shutil.copytree(ckpt, folder / "copy_of_run")
        step = max(int(path.name) for path in (run / checkpoints.FOLDER).iterdir())
        data = shutil.copytree(configs.read(run)[0].data, folder / "copy")
        for what, attack in (
            ("a data set", lambda: data_bits(data, trials, rng)),
            ("a checkpoint", lambda: checkpoint_bits(run, step, trials, rng)),
        ):
            print(f"single bits of {what}: {trials} trials: {dict(attack())}", flush=True)
        (folder / "fuzz").mkdir()
        for name, attack in fuzz.attacks(folder / "fuzz", data, run).items():
            ends = fuzz.run({name: attack}, trials, rng)[name]
            print(f"damaged files, {name}: {trials} trials: {dict(ends)}", flush=True)
        made = generated.folder(folder / "generated", files, rng)
        for what, ends in (
            ("prepare", generated.prepared(made, folder / "prepared")),
            ("sample", generated.sampled(made, run, folder / "sampled")),
        ):
            print(f"one run of {what} on {files} generated files: {dict(ends)}", flush=True)
        print(f"drawn configs: {configs_count}: {dict(configs_drawn(configs_count, folder))}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500, help="trials of each attack (500)")
    parser.add_argument("--kills", type=int, default=100, help="kills of each program (100)")
    parser.add_argument("--only", default="", help="kill only the programs whose name has this pattern")
    parser.add_argument("--ckpt", help="workdir to attack, a copy of it; by default a minuscule one is trained")
    parser.add_argument("--files", type=int, default=2000, help="generated files for prepare and sample (2000)")
    parser.add_argument("--configs", type=int, default=200, help="drawn configs, each of which trains a step (200)")
    given = parser.parse_args()
    main(given.trials, given.kills, given.only, given.ckpt, given.files, given.configs)
