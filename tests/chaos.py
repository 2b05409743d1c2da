"""Attacks on what fwn reads and writes, each counted: `make chaos` runs many, `make test` a few.

    python tests/chaos.py --trials=500

Prints one line per attack: trials, and how each kind of trial ended.
"""

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import small
from absl import app, flags

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


def checkpoint_bits(workdir: Path, step: int, trials: int, rng: np.random.Generator) -> Counter[str]:
    """Single bits of a run's files, read to sample from and to train on. `workdir` is restored."""
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

    whole, ends = both(), Counter[str]()
    for file, bit in flipped(files_of(workdir, step), trials, rng):
        end = attempt(both, whole, workdir)
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


TRIALS = flags.DEFINE_integer("trials", 500, "Trials of each attack.", lower_bound=1)
CKPT = flags.DEFINE_string("ckpt", None, "Workdir to attack, a copy of it; by default a minuscule one is trained.")


def main(args: list[str]) -> None:
    sys.unraisablehook = cli._unraisable  # as in all programs: orbax leaves threads behind after an error
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if CKPT.value is None:
            small.record(folder / "in", [3000 + 700 * i for i in range(2, 9)] + [9000])
            prepared = small.program(
                "data_prep.prepare", "--corpus=folder", f"--input={folder}/in", f"--output={folder}/data"
            )
            assert prepared.code == 0, prepared
            run = folder / "run"
            trained = small.program("fwn.train", *small.config_flags(folder / "data"), f"--workdir={run}")
            assert trained.code == 0, trained
        else:
            run = shutil.copytree(CKPT.value, folder / "run")
        data = shutil.copytree(configs.read(run)[0].data, folder / "copy")
        ends = data_bits(data, TRIALS.value, np.random.default_rng(0))
        print(f"single bits of a data set: {TRIALS.value} trials: {dict(ends)}")
        step = max(int(path.name) for path in (run / checkpoints.FOLDER).iterdir())
        ends = checkpoint_bits(run, step, TRIALS.value, np.random.default_rng(0))
        print(f"single bits of a checkpoint: {TRIALS.value} trials: {dict(ends)}")


if __name__ == "__main__":
    app.run(main)
