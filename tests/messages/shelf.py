"""Folders that rows read and do not change, each made when it is first asked for."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pages
import small

from data_prep.prepare import prepare
from data_prep.recordings import Kind
from fwn.audio import audio_file
from fwn.data.corpus import Corpus
from fwn.listening.answers import COLUMNS
from fwn.mel import PRESETS
from fwn.shipped import experiment
from fwn.synthesis import exported
from fwn.systems import build
from fwn.training import checkpoints

Make = Callable[["Shelf", Path], Any]
KEY: dict[str, Any] = {
    "test": "t1",
    "title": "T",
    "half_steps": False,
    "systems": ["a", "b"],
    "clips": {"c0": {"system": "a", "utterance": "u"}, "c1": {"system": "b", "utterance": "u"}},
    "pairs": [["c0", "c1"]],
}
RATING = "t1,Ana,1,mos,c0,,3,1,2.0,now"
PREFERENCE = "t1,Ana,2,ab,c0,c1,a,1,2.0,now"


class Shelf:
    """shelf[name] is the folder of that name."""

    def __init__(self, folder: Path, corpus: Path, run: Path):
        self.folder, self.found = folder, {"corpus": corpus, "run": run, "golden": small.ROOT / "tests" / "golden"}
        self.found["voices"] = small.ROOT / "voices"

    def knows(self, name: str) -> bool:
        return name in MAKERS or name in self.found or name == "here"

    def __getitem__(self, name: str) -> Path:
        if name not in self.found:
            MAKERS[name](self, self.folder / name)
            self.found[name] = self.folder / name
        return self.found[name]

    def state(self) -> dict[Path, tuple[int, int]]:
        """Size and time of each of its files so far, which show a change."""
        stats = ((path, path.stat()) for folder in self.found.values() for path in folder.rglob("*"))
        return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in stats}

    def copy(self, name: str, to: Path) -> None:
        shutil.copytree(self[name], to)


def recordings(_: Shelf, folder: Path) -> None:
    """Three, of which the last is held out."""
    small.record(folder, [3000, 3200, 9000])


def ljspeech(shelf: Shelf, folder: Path) -> None:
    """The layout of LJSpeech."""
    shutil.copytree(shelf["recordings"], folder / "wavs")
    (folder / "metadata.csv").write_text("".join(f"u{i:02d}|Text.|Text.\n" for i in range(3)))


def prepared(preset: str, share: float) -> Make:
    def make(shelf: Shelf, folder: Path) -> None:
        kind = Kind(PRESETS[preset], "int16", "float32")
        prepare("folder", shelf["recordings"], folder, kind, share, None, 1)

    return make


def model(name: str, mel: str = "flowavenet", speakers: Any = None, **model_fields: Any) -> Make:
    """A workdir with weights that are all 0.1."""

    def make(_: Shelf, folder: Path) -> None:
        config = experiment(name)
        if name == "tiny":
            config = small.config(Path("data"))
        config.update({"mel": mel, "frames": 8, "model": model_fields})
        config.speakers.update(speakers or {})
        bands = 80 + build(config).speakers.channels
        batch = {"audio": np.zeros((1, 2048), "float32"), "mel": np.zeros((1, 8, bands), "float32")}
        batch["index"] = np.zeros(1, np.int32)
        shapes = jax.eval_shape(build(config).init, jax.random.key(0), batch, {})
        params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.1, leaf.dtype), shapes)
        checkpoints.write(folder, config, PRESETS[mel], params, 7)

    return make


def mels(shelf: Shelf, folder: Path) -> None:
    folder.mkdir()
    np.save(folder / "a.npy", Corpus(shelf["corpus"]).mel(8))


def weights(shelf: Shelf, folder: Path) -> None:
    """The run without its training state, as fwn.convert writes it."""
    config, mel, params, _ = checkpoints.read(shelf["run"])
    checkpoints.write(folder, config, mel, params, 0)


def clips(name: str) -> Make:
    def make(_: Shelf, folder: Path) -> None:
        folder.mkdir()
        noise = 0.0 if name == "reference" else 0.01
        for i in range(2):
            audio = pages.degraded(small.speech(i, pages.SAMPLES), noise)
            audio_file.write(folder / f"u{i:02d}.wav", audio, small.RATE)

    return make


def answered(_: Shelf, folder: Path) -> None:
    """The key of a listening test, and a listener's answers."""
    folder.mkdir()
    (folder / "key.json").write_text(json.dumps(KEY))
    (folder / "Ana.csv").write_text("\r\n".join([",".join(COLUMNS), RATING, PREFERENCE]) + "\r\n")


MAKERS: dict[str, Make] = {
    "recordings": recordings,
    "ljspeech": ljspeech,
    "hifigan": prepared("hifigan", 0.4),
    "untested": prepared("flowavenet", 0.0),
    "plain": model("tiny", prediction={"order": 0}, autoregression={"coefficients": 0}),
    "foreign": model("tiny", "hifigan"),
    "wavenet": model("tiny_wavenet"),
    "mixture": model("tiny_wavenet_mol"),
    "predicting": model("tiny_wavenet", prediction=small.PREDICTION),
    "told": model("tiny", speakers={"kind": "id", "names": ("ann", "bob")}),
    "by_vector": model("tiny", speakers={"kind": "embedding", "size": 3}),
    "told_wavenet": model("tiny_wavenet", speakers={"kind": "id", "names": ("ann", "bob")}),
    "weights": weights,
    "voice": lambda shelf, folder: exported.write_voice(folder, checkpoints.read(shelf["run"])),
    "mels": mels,
    "reference": clips("reference"),
    "clips": clips("clips"),
    "evaluated": lambda shelf, folder: pages.write_evaluated(folder),
    "answered": answered,
}
