"""A run of fwn.train, by its journal: loss, gradients, skipped steps, waiting for data, memory, returns."""

from pathlib import Path
from typing import Any

import numpy as np

from fwn import config as configs
from fwn.data import manifest
from fwn.diagnosis import curves, reference
from fwn.diagnosis.behaviour import INVERSE_ERROR
from fwn.diagnosis.curves import Records
from fwn.diagnosis.finding import ERROR, NOTE, WARNING, Examination, Finding, size
from fwn.training import checkpoints, journal
from fwn.training.optimizer import schedule
from fwn.xla import memory

FALLEN = 0.05  # nats/sample of held-out likelihood below its best
WAITING = 0.2  # share of the training time
ALMOST_STILL = 0.01  # of the highest rate
MEMORY = 0.9  # share of the device's memory


def examine(workdir: Path) -> Examination:
    """Raises UserError if the folder has no config, or it is damaged."""
    config, mel = configs.read(workdir)
    file = workdir / journal.FILE
    records = journal.read(workdir)
    trained = [r for r in records if r["what"] == "train"]
    audio_per_step = config.batch_size * config.frames * mel.hop_length / mel.sample_rate
    seconds = journal.training_seconds(records, audio_per_step)
    last = trained[-1]["step"] if trained else 0
    hours = f"{seconds / 3600:.2f} hours of training"
    where = "" if (Path(config.data) / manifest.FILE).is_file() else ", not here"
    yield f"{config.system}, step {last} of {config.num_steps}, {hours}; data: {config.data}{where}"
    lines = file.read_bytes().count(b"\n") if file.exists() else 0
    if lines > len(records):
        yield Finding(
            WARNING,
            f"{file}: {lines - len(records)} of {lines} lines are damaged, or of a newer version",
            "nothing: fwn.train moves them to damaged.jsonl when it continues",
        )
    if not trained:
        yield Finding(NOTE, f"{file}: no training step is logged yet", "train for longer than config.log_every steps")
        return
    yield from examine_records(config, records)
    yield from _state(workdir)
    yield from _saved_batches(workdir)


def examine_records(config: Any, records: Records) -> Examination:
    """records: of journal.read, with at least one of training."""
    trained = [r for r in records if r["what"] == "train"]
    held_out = [r for r in records if r["what"] == "held_out"]
    yield from _held_out(config, held_out)
    if config.loss:
        yield "loss: of a student, lower is better; its likelihood is no measure of it, and there is no reference curve"
    yield from curves.examine(config, trained)
    yield from _skipped(config, trained)
    yield from _rate(config, trained[-1])
    yield from _waiting(trained)
    yield from _memory(records)
    returns = [r for r in records if r["what"] == "return"]
    if returns:
        last = returns[-1]
        why = f" ({last['why']})" if last.get("why") else ""
        yield Finding(
            WARNING,
            f"the run diverged and returned to an earlier checkpoint {len(returns)} times, last to step "
            f"{last['step']}{why}",
            "lower config.optimizer.learning_rate if it goes on; look for bad clips with fwn.doctor --data",
        )


def _held_out(config: Any, records: Records) -> Examination:
    """The level of the likelihood, against the reference, and whether it still rises."""
    found = [(r["step"], journal.score(r)) for r in records if r.get(journal.headline(r)) is not None]
    if len(found) < len(records):
        yield Finding(
            ERROR,
            f"{len(records) - len(found)} of {len(records)} held-out figures are not finite",
            "go on from a checkpoint before the first of them, with a lower config.optimizer.learning_rate",
        )
    if not found:
        yield "held out: nothing is measured yet"
        return
    (step, value), (best_step, best) = found[-1], max(found, key=lambda pair: pair[1])
    unit = "minus the loss" if config.loss else "nats/sample (minus the loss; higher is better)"
    yield f"held out: {value:.3f} {unit} at step {step}, best {best:.3f} at step {best_step}"
    if not config.loss:
        yield from reference.examine(config, step, value)
    after = sum(at > best_step for at, _ in found)
    if after >= 3 and value < best - FALLEN:
        yield Finding(
            WARNING,
            f"the held-out figure has fallen since step {best_step}, by {best - value:.3f} in {after} evaluations: the "
            "model learns its training clips by heart, or diverges",
            "stop here: the best checkpoint is kept and is what fwn.sample takes; more recordings help most",
        )
    errors = [(r["step"], r["inverse_error"]) for r in records if r.get("inverse_error") is not None]
    if errors:
        step, error = errors[-1]
        yield f"inverse error on held-out audio: {error:.2g} at step {step}, largest {max(e for _, e in errors):.2g}"
        if error > INVERSE_ERROR:
            yield Finding(
                WARNING,
                f"the inverse no longer undoes the map: it errs by {error:.2g} of full scale, so samples are noisy",
                "go back to a checkpoint before it grew; config.model.s_max=2 bounds the scales",
            )


def _skipped(config: Any, trained: Records) -> Examination:
    last, skipped = trained[-1], int(trained[-1].get("skipped_in_all") or 0)
    yield f"skipped steps (loss or gradient not finite, or a spike): {skipped} of {last['step']}"
    if last.get("skipped"):
        yield Finding(
            ERROR,
            f"the last {last['skipped']:.0f} steps were skipped: nothing is learned",
            "go on from an earlier checkpoint with a lower rate; fwn.doctor --data looks for clips that cause it",
        )
    elif skipped:
        yield Finding(
            WARNING if skipped > last["step"] / 1000 else NOTE,
            f"{skipped} steps were skipped, as loss or gradient was not finite, or the loss a spike",
            "a few are harmless; if they go on, lower config.optimizer.learning_rate, and set config.dequantise=True "
            "if the data have digital silence",
        )


def _rate(config: Any, last: dict[str, Any]) -> Examination:
    optimizer, step = config.optimizer, last["step"]
    taken = step - int(last.get("skipped_in_all") or 0)
    rate = float(schedule(optimizer)(np.int32(taken)))
    yield (
        f"learning rate: {rate:.2g} at step {step} (highest {optimizer.learning_rate:g}, halved every "
        f"{optimizer.halve_every} steps)"
    )
    if taken > optimizer.warmup and rate < ALMOST_STILL * optimizer.learning_rate and step < config.num_steps:
        yield Finding(
            NOTE,
            f"the rate has fallen to {100 * rate / optimizer.learning_rate:.2g}% of the highest: training hardly moves",
            "stop, or begin again from these weights (--init_from) with a larger config.optimizer.halve_every",
        )


def _waiting(trained: Records) -> Examination:
    """Starvation: the share of the training time in which the loop waited for data."""
    waited = total = 0.0
    for before, record in zip([{}, *trained], trained, strict=False):
        if record.get("waiting_seconds") is not None and record.get("training_seconds") is not None:
            waited += record["waiting_seconds"]
            total += record["training_seconds"] - (before.get("training_seconds") or 0.0)
    rates = [r["audio_seconds_per_second"] for r in trained if r.get("audio_seconds_per_second")]
    if rates:
        yield (
            f"speed: {rates[-1]:.3g} s of audio a second; median {np.median(rates):.3g}, {min(rates):.3g} to "
            f"{max(rates):.3g}"
        )
    if total <= 0:
        yield "waiting for data: not in the journal"
        return
    yield f"waiting for data: {100 * waited / total:.1f}% of the training time"
    if waited > WAITING * total:
        yield Finding(
            WARNING,
            f"training waits for data {100 * waited / total:.0f}% of the time",
            "put the data on a local disk, and leave a core or two for reading; fwn.bench --only=data measures it",
        )


def _memory(records: Records) -> Examination:
    peaks = [r["memory_bytes"] for r in records if r.get("memory_bytes")]
    if not peaks:
        return
    limit = memory.device().total
    yield f"memory of a device: {size(max(peaks))} at most, of {size(limit)} here"
    if max(peaks) > MEMORY * limit:
        yield Finding(
            WARNING,
            f"the run took {size(max(peaks))} of memory, and a device here has {size(limit)}",
            "set config.model.gradient='invert' (or 'remat'), shorter crops, or a smaller batch",
        )


def _saved_batches(workdir: Path) -> Examination:
    """The batches of skipped steps, which fwn.train saved."""
    for file in sorted([*workdir.glob("skipped-*.npz"), *workdir.glob("nonfinite-*.npz")]):  # the name in version 0.1
        try:
            with np.load(file, allow_pickle=False) as saved:
                batch = {name: saved[name].astype(np.float32) for name in ("audio", "mel")}
        except Exception as error:  # of zipfile, zlib or NumPy, for a damaged file
            yield Finding(ERROR, f"{file}: damaged ({' '.join(str(error).split())[:200]})", "delete it")
            continue
        bad = [name for name, values in batch.items() if not np.isfinite(values).all()]
        rms = np.sqrt(np.mean(np.square(batch["audio"]), axis=1))
        quiet = int((rms < 1e-4).sum())
        why = "its data are finite: an odd clip, the weights or the rate are the cause"
        if bad:
            why = f"NaN or infinite values in its {' and '.join(bad)}: the data are the cause"
        elif quiet:
            why = f"{quiet} of its {len(rms)} crops are silent"
        yield Finding(
            WARNING if bad else NOTE,
            f"a step was skipped; of its batch, {file.name}: {why}",
            "repair the data (fwn.doctor --data names the clips)"
            if bad or quiet
            else "listen to its crops; if it goes on, begin with a lower config.optimizer.learning_rate",
        )


def _state(workdir: Path) -> Examination:
    """The newest checkpoint has weights, moments and averages: what a training state takes of a device's memory."""
    steps = [path for path in (workdir / checkpoints.FOLDER).glob("*") if path.name.isdigit()]
    if not steps:
        return
    newest = max(steps, key=lambda path: int(path.name))
    state = sum(file.stat().st_size for file in newest.rglob("*") if file.is_file())
    limit = memory.device().total
    yield f"training state: {size(state)} by its newest checkpoint, and activations, of {size(limit)} of memory here"
    if state > MEMORY * limit:
        yield Finding(
            WARNING,
            f"the training state of {size(state)} hardly fits into {size(limit)} of memory",
            "use a device with more memory, or several with config.parallel='zero'",
        )
