"""Speed of preparing a data set and of reading batches from it, per core and against the size of the corpus.

    python benchmarks/input_side.py --input=LJSpeech-1.1 --output=build/input --times=1 --times=4

--input has LJSpeech's layout. To make a larger corpus, its files are linked --times times under other names.
data_prep.prepare is timed with each number of --workers: seconds of audio per second of wall time and of CPU time, and
the memory of all its processes. Then batches of experiments/base.py are read the way a training run reads them, with
each number of --threads (0: in the main thread). Figures are the best of --repeats runs.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from absl import flags

from fwn import cli, shipped
from fwn.data.corpus import Corpus
from fwn.evaluation import measure

INPUT = flags.DEFINE_string("input", None, "Folder of a corpus in LJSpeech's layout.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "New folder for the corpora and data sets.", required=True)
TIMES = flags.DEFINE_multi_integer("times", [1, 4], "Copies of the corpus; may be repeated.", 1)
WORKERS = flags.DEFINE_multi_integer("workers", [1, 2], "Processes of data_prep.prepare; may be repeated.", 1)
THREADS = flags.DEFINE_multi_integer("threads", [0, 1, 2], "Threads that read batches; may be repeated.", 0)
REPEATS = flags.DEFINE_integer("repeats", 3, "Runs; the best one counts.", 1)
JSON = flags.DEFINE_string("json", None, "JSON file for the rows. By default they are only printed.")


def linked(source: Path, target: Path, times: int) -> Path:
    """Makes a corpus with `times` as many recordings, as links."""
    (target / "wavs").mkdir(parents=True)
    names = [line.split("|")[0] for line in (source / "metadata.csv").read_text(encoding="utf-8").splitlines()]
    (target / "metadata.csv").write_text("".join(f"{n}-{i}|\n" for i in range(times) for n in names), encoding="utf-8")
    for file in sorted((source / "wavs").iterdir()):
        for i in range(times):
            (target / "wavs" / f"{file.stem}-{i}{file.suffix}").symlink_to(file.resolve())
    return target


def resident(pid: int) -> float:
    """Sum of the peak resident memory so far, in MB, of a process and its children."""
    total, tasks = 0, [str(pid)]
    with contextlib.suppress(OSError):  # the process has ended
        tasks += Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for task in tasks:
        with contextlib.suppress(OSError):
            found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{task}/status").read_text())
            total += int(found[1]) if found else 0
    return total * 1024 / 1e6


def preparing(source: Path, target: Path, workers: int) -> tuple[float, float, float]:
    """Runs data_prep.prepare; returns (wall seconds, CPU seconds, MB of memory of all processes)."""
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "-m", "data_prep.prepare", "--corpus=ljspeech", f"--workers={workers}"]
    start, memory, ended = time.perf_counter(), 0.0, 0
    process = subprocess.Popen([*command, f"--input={source}", f"--output={target}"], stdout=subprocess.DEVNULL)
    while not ended:  # we poll, because ru_maxrss of wait4 includes the memory of this process at the fork
        memory = max(memory, resident(process.pid))
        time.sleep(0.02)
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    assert status == 0, f"data_prep.prepare exited with {os.waitstatus_to_exitcode(status)}"
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, memory


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    output, rows = Path(OUTPUT.value), list[dict[str, Any]]()
    for times in TIMES.value:
        source, target = linked(Path(INPUT.value), output / f"corpus-{times}", times), output / f"data-{times}"
        for workers in WORKERS.value:
            runs = [preparing(source, target, workers) for _ in range(REPEATS.value)]
            wall, cpu, memory = map(min, zip(*runs, strict=True))
            corpus = Corpus(target)
            audio = sum(u.samples for u in corpus.utterances) / corpus.contract.sample_rate
            rows.append({"what": "preparing", "recordings": len(corpus), "audio_seconds": audio, "workers": workers})
            rows[-1] |= {"wall_seconds": wall, "cpu_seconds": cpu, "memory_mb": memory}
            cli.say(
                f"{len(corpus)} recordings, {audio / 60:.0f} min, {workers} workers: {wall:.1f} s, {audio / wall:.0f} "
                f"times real time, {audio / cpu:.0f} times per core; {memory:.0f} MB in all"
            )
        for threads in THREADS.value:
            config = shipped.experiment("base")
            seconds = min(measure.reading(corpus, config, threads) for _ in range(REPEATS.value))
            samples = config.batch_size * config.frames * corpus.contract.hop_length
            rows.append({"what": "reading", "recordings": len(corpus), "threads": threads, "seconds": seconds})
            cli.say(
                f"{len(corpus)} recordings, {threads} threads: a batch in {1e3 * seconds:.2f} ms, "
                f"{config.batch_size / seconds:,.0f} crops/s, {samples / seconds / 1e6:.0f} million samples/s"
            )
    if JSON.value:
        Path(JSON.value).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
