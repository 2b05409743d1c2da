"""The log of a training run: a progress line, metrics.jsonl, TensorBoard events."""

import contextlib
import json
import math
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fwn.disk import write_text
from fwn.mel import MelContract, mel_spectrogram
from fwn.terminal import say
from fwn.training.events import Events
from fwn.xla import memory

FILE = "metrics.jsonl"
KINDS = "train", "held_out", "return"


def headline(metrics: Collection[str]) -> str:
    """The main metric of a system: "nats_per_sample" if it has a likelihood, else (students) "loss"."""
    return "nats_per_sample" if "nats_per_sample" in metrics else "loss"


def score(metrics: Mapping[str, float]) -> float:
    """The score of a checkpoint, higher is better: held-out nats per sample, or minus the loss of a student."""
    name = headline(metrics)
    return -metrics[name] if name == "loss" else metrics[name]


class Journal:
    """Continues the log of a run after step `first`. Records of later steps are removed from metrics.jsonl.

    Train records have training_seconds: the wall time of all training steps, over all starts of the run. It excludes
    compilation (the first step of each start) and evaluation. waiting_seconds: how long the loop waited for batches
    since the record before. memory_bytes: memory.most.
    main: whether this process writes. Of several processes only one does.
    """

    def __init__(self, workdir: Path, first: int, config: Any, mel: MelContract, main: bool = True):
        self.first, self.steps, self.every, self.mel, self.main = first, config.num_steps, config.log_every, mel, main
        self.workdir = workdir
        self.audio_per_step = config.batch_size * config.frames * mel.hop_length / mel.sample_rate
        self.mark = (time.monotonic(), first)
        self.rate = self.waiting = 0.0
        if not main:
            return
        file = _truncated(workdir, first)
        self.training_seconds = training_seconds(read(workdir), self.audio_per_step)
        self.before = self.mark[0]
        self.bar = tqdm(
            total=self.steps, initial=first, desc="training", dynamic_ncols=True, disable=not sys.stderr.isatty()
        )
        self.file = open(file, "a", encoding="utf-8")  # noqa: SIM115 (closed by close)
        with _named(workdir / "events"):
            self.events = Events(workdir / "events", first + 1)

    def timed(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches. The wait for each is added up, except for the first, with which reading starts."""
        iterator = iter(batches)
        yield next(iterator)
        while True:
            start = time.monotonic()
            batch = next(iterator)
            self.waiting += time.monotonic() - start
            yield batch

    def step(self, step: int, metrics: dict[str, float]) -> None:
        """Takes the metrics of one training step, and writes them every `log_every` steps."""
        if not self.main:
            return
        self.bar.update(1)
        now = time.monotonic()
        seconds = (now - self.mark[0]) / (step - self.mark[1])
        if step > self.first + 1:
            self.training_seconds += now - self.before
        self.before = now
        if step % self.every == 0 or step == self.steps or step == self.first + 1:
            self.mark = (now, step)  # also after the first step, because compilation is not training time
        if step % self.every and step != self.steps:
            return
        self.rate = self.audio_per_step / seconds
        clock = {"audio_seconds_per_second": self.rate, "training_seconds": self.training_seconds}
        clock |= {"waiting_seconds": self.waiting, "memory_bytes": float(memory.most())}
        self.waiting = 0.0
        self._write("train", step, metrics | clock)
        shown = {
            headline(metrics).replace("_per_", "/"): f"{metrics[headline(metrics)]:.4f}",
            "gradient": f"{metrics['gradient_norm']:.3g}",
            "audio s/s": f"{self.rate:.3g}",
        }
        if metrics["skipped_in_all"]:
            shown["skipped"] = f"{metrics['skipped_in_all']:.0f}"
        self.bar.set_postfix(shown)
        if self.bar.disable:
            values = ", ".join(f"{name} {value}" for name, value in shown.items())
            left = "compiled" if step == self.first + 1 else f"{(self.steps - step) * seconds:.0f} s left"
            say(f"step {step}/{self.steps}: {values}, {left}")

    def returned(self, step: int, why: str, returns: int) -> None:
        """Notes that the run went back to this step. returns: how often it did so, this one included."""
        record = {"what": "return", "step": step, "why": why, "returns": returns}
        if self.main and record not in read(self.workdir):  # a run that was killed after its return does it again
            self._line(record)

    def held_out(self, step: int, metrics: dict[str, float], audio: dict[str, np.ndarray]) -> None:
        """Writes metrics, which are means over held-out crops, and examples of audio in ±1."""
        if not self.main:
            return
        self._write("held_out", step, metrics)
        name = headline(metrics)
        say(f"step {step}: held-out {name.replace('_per_', '/')} {metrics[name]:.4f}")
        with _named(self.workdir / "events"):
            for name, samples in audio.items():
                clipped = np.clip(samples, -1, 1)  # only for listening; fwn.sample counts clipped samples
                self.events.audio(f"held_out/{name}", clipped, self.mel.sample_rate, step)
                self.events.image(f"held_out/{name}", _image(samples, self.mel), step)
            self.events.flush()
        self.before = time.monotonic()
        self.mark = (self.before, step)  # evaluation is not training time

    def _write(self, what: str, step: int, metrics: dict[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}  # JSON has no NaN
        self._line({"what": what, "step": step, **finite})
        with _named(self.workdir / "events"):
            for name, value in metrics.items():
                self.events.scalar(f"{what}/{name}", value, step)
            self.events.flush()

    def _line(self, record: dict[str, Any]) -> None:
        with _named(self.workdir / FILE):
            self.file.write(json.dumps(record) + "\n")
            self.file.flush()

    def close(self) -> None:
        if self.main:
            self.bar.close()
            for file in (self.file, self.events):
                with contextlib.suppress(OSError):  # of what could not be flushed before, which was raised then
                    file.close()


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of the disk name the path: those of an open file do not."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def read(workdir: Path) -> list[dict[str, Any]]:
    """The records of metrics.jsonl, [] if there is no file. Damaged lines are left out (`_parsed`)."""
    return _parsed(workdir)[0]


def _parsed(workdir: Path) -> tuple[list[dict[str, Any]], list[bytes]]:
    """(records, damaged lines) of metrics.jsonl. An incomplete last line, after a kill, is in neither."""
    file = workdir / FILE
    records, damaged = [], []
    *lines, _ = file.read_bytes().split(b"\n") if file.is_file() else [b""]
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if _is_record(record):
            records.append(record)
        else:
            damaged.append(line + b"\n")
    return records, damaged


def _is_record(record: Any) -> bool:
    """Whether it has all that is read from a record."""
    if not isinstance(record, dict) or type(record.get("step")) is not int or record.get("what") not in KINDS:
        return False
    values = [value for name, value in record.items() if name not in ("what", "step", "why")]
    clocked = record.get("training_seconds") is not None or record.get("audio_seconds_per_second")
    return all(value is None or type(value) in (int, float) for value in values) and (
        record["what"] != "train" or bool(clocked)
    )


def training_seconds(records: list[dict[str, Any]], audio_per_step: float) -> float:
    """The total training time of a run. Older records have no training_seconds: theirs is computed from their rates.

    audio_per_step: seconds of audio per step, batch_size · frames · hop / sample_rate.
    """
    total, before = 0.0, 0
    for record in (r for r in records if r["what"] == "train"):
        if record.get("training_seconds") is not None:
            total = record["training_seconds"]
        else:
            total += (record["step"] - before) * audio_per_step / record["audio_seconds_per_second"]
        before = record["step"]
    return total


def _truncated(workdir: Path, first: int) -> Path:
    """Removes from metrics.jsonl the records of steps after `first`, and incomplete or damaged lines; returns its path.

    Damaged lines are kept in the file damaged.jsonl.
    """
    records, damaged = _parsed(workdir)
    kept = [record for record in records if record["step"] <= first or record["what"] == "return"]
    if damaged:
        aside = workdir / "damaged.jsonl"
        with aside.open("ab") as file:
            file.writelines(damaged)
        say(f"{workdir / FILE}: {len(damaged)} damaged lines, moved to {aside}; the other {len(records)} are kept")
    write_text(workdir / FILE, "".join(json.dumps(record) + "\n" for record in kept))
    return workdir / FILE


def _image(audio: np.ndarray, mel: MelContract) -> np.ndarray:
    """The mel as a grey image, low bands at the bottom, uint8 [bands, frames]."""
    values = mel_spectrogram(np.asarray(audio, np.float32), mel).T[::-1]
    low, high = values.min(), values.max()
    return (255 * (values - low) / max(high - low, 1e-9)).astype(np.uint8)
