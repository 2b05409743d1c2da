"""Ours beside PyTorch peers, same shapes, same machine, one run: seconds, or bytes, and ratios.

    git clone https://github.com/ksw0306/FloWaveNet
    git clone https://github.com/ksw0306/ClariNet
    git clone https://github.com/NVIDIA/waveglow
    pip install torch
    python benchmarks/peer.py --flowavenet=FloWaveNet --clarinet=ClariNet --waveglow=waveglow --output=peer.json
    python benchmarks/peer.py --flowavenet=FloWaveNet --only=training --batch_size=1 --batch_size=4
    python benchmarks/peer.py --flowavenet=FloWaveNet --only=training --memory
    python benchmarks/peer.py --flowavenet=FloWaveNet --ours=experiments/lite.py --ours.model.gradient=remat

The official FloWaveNet and WaveGlow sample and train at their published sizes beside the experiment --ours. ClariNet's
student samples beside experiments/clarinet.py; its teacher, by its own `generate`, beside
experiments/wavenet_gaussian.py. All weights are untrained. Both sides use all cores, or one GPU (PyTorch with TF32, and
with autocast for bfloat16). Each side is a process of its own, and their runs alternate, so that both meet the same
moments of the machine: by two, of which the second counts. --memory runs one side after the other.
"""

import importlib
import importlib.util
import itertools
import json
import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_flags

from experiments import base
from fwn import cli
from fwn import config as configs
from fwn.errors import UserError

PARTS = ("sampling", "training")
flags.DEFINE_string("flowavenet", None, "Folder of a checkout of ksw0306/FloWaveNet.")
flags.DEFINE_string("waveglow", None, "Folder of a checkout of NVIDIA/waveglow.")
flags.DEFINE_string("clarinet", None, "Folder of a checkout of ksw0306/ClariNet.")
OURS = config_flags.DEFINE_config_file(
    "ours", None, "Experiment beside FloWaveNet and WaveGlow. By default the paper's, experiments/base.py."
)
BATCH_SIZE = flags.DEFINE_multi_integer(
    "batch_size", [1], "Crops in a step and utterances at a time; may be repeated.", lower_bound=1
)
FRAMES = flags.DEFINE_integer("frames", 62, "Mel frames of each: 256 samples a frame.", 1)
SAMPLES = flags.DEFINE_integer("samples", 64, "Samples by ClariNet's teacher, which is slow.", 1)
DTYPE = flags.DEFINE_multi_enum(
    "dtype", ["float32"], ("float32", "bfloat16"), "Type of the networks' products, ours too; may be repeated."
)
REPEATS = flags.DEFINE_integer("repeats", 5, "Runs of each, of which the median is taken.", 1)
ONLY = flags.DEFINE_multi_enum("only", [], PARTS, "Only this part. By default both.")
MEMORY = flags.DEFINE_bool("memory", False, "Peak memory of each side in place of its time: on a CPU, of its process.")
OUTPUT = flags.DEFINE_string("output", None, "JSON file for all figures. By default they are printed only.")


class Peer(NamedTuple):
    """flag: names the folder of a checkout of `source`, of which `files` are used. experiment: ours; None: --ours."""

    flag: str
    source: str
    files: tuple[str, ...]
    experiment: str | None = None
    parts: tuple[str, ...] = PARTS


CLARINET = "clarinet", "ksw0306/ClariNet"
PEERS = {
    "FloWaveNet": Peer("flowavenet", "ksw0306/FloWaveNet", ("model.py", "modules.py")),
    "WaveGlow": Peer("waveglow", "NVIDIA/waveglow", ("glow.py", "config.json")),
    "ClariNet's student": Peer(*CLARINET, ("wavenet_iaf.py", "wavenet.py"), "clarinet", ("sampling",)),
    "ClariNet's teacher": Peer(*CLARINET, ("wavenet.py",), "wavenet_gaussian", ("sampling",)),
}


class Case(NamedTuple):
    """What is compared. samples: of audio in each utterance of the peer's."""

    name: str
    folder: str
    config: Any
    part: str
    batch: int
    frames: int
    dtype: str
    samples: int


SIDES = "ours", "pytorch"
run_here: Callable[[], Any]


def prepare(side: str, case: Case) -> tuple[Any, Callable[[], Any]]:
    """The module of a side, which is imported only here, and what it runs."""
    module = importlib.import_module(f"peer_{side}")
    if side == "ours":
        return module, module.prepare(case.config, case.part, case.frames)
    return module, module.prepare(case.name, case.folder, case.part, case.batch, case.frames, case.dtype, case.samples)


def begin(side: str, case: Case) -> str:
    """What a process of its own does first: the run that compiles. Returns the device."""
    global run_here
    module, run_here = prepare(side, case)
    run_here()
    return module.DEVICE


def turn() -> float:
    """Seconds of a run of what this process began, after one that wakes the caches and memory that stood idle."""
    run_here()
    start = time.perf_counter()
    run_here()
    return time.perf_counter() - start


def times(case: Case) -> dict[str, Any]:
    """Seconds of both sides, run by run, and how many times as fast, per sample, ours is by the medians.

    Each side is a process of its own, as in use: in one, the threads and the memory of each disturb the other. They run
    in turns, so that what else the machine does meets both.
    """
    with ExitStack() as stack:
        ours, peer = (stack.enter_context(alone()) for _ in SIDES)
        devices = [asked(case, side, pool, begin, side, case) for side, pool in zip(SIDES, (ours, peer), strict=True)]
        if devices[0] != devices[1]:
            raise UserError(
                f"JAX runs on a {devices[0]} and PyTorch on a {devices[1]}; install both for one, or set "
                "JAX_PLATFORMS=cpu CUDA_VISIBLE_DEVICES= to compare on a CPU"
            )
        took = [
            [asked(case, side, pool, turn) for side, pool in zip(SIDES, (ours, peer), strict=True)]
            for _ in range(REPEATS.value)
        ]
    own, other = (list(seconds) for seconds in zip(*took, strict=True))
    a, b = statistics.median(own), statistics.median(other)
    ratio = (b / case.samples) / (a / (256 * case.frames))
    of = "" if case.samples == 256 * case.frames else f" for {case.samples} samples"
    cli.say(f"{described(case)}: ours {a:.3f} s, the peer {b:.3f} s{of}: {ratio:.2f} times as fast")
    return {"ours_seconds": a, "peer_seconds": b, "times_as_fast": ratio, "runs": {"ours": own, "peer": other}}


def alone() -> ProcessPoolExecutor:
    """A process with nothing of this one's. This one stays small: a child's peak memory begins with its parent's."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def asked(case: Case, side: str, pool: ProcessPoolExecutor, what: Callable[..., Any], *args: Any) -> Any:
    try:
        return pool.submit(what, *args).result()
    except BrokenProcessPool as error:
        raise UserError(f"{described(case)}: {side} was killed, out of memory; use a smaller batch") from error


def peak(side: str, case: Case) -> int:
    """Bytes on the GPU, or of this process, that two runs take at most."""
    module, run = prepare(side, case)
    run()
    run()
    kibibytes = 1 if sys.platform == "darwin" else 1024
    return module.peak() or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kibibytes


def memory(case: Case) -> dict[str, Any]:
    """Peaks of both sides, one after the other."""
    found = []
    for side in SIDES:
        with alone() as pool:
            found.append(asked(case, side, pool, peak, side, case))
    a, b = found
    cli.say(f"{described(case)}: ours {a / 2**20:,.0f} MiB, the peer {b / 2**20:,.0f} MiB: {a / b:.2f} of the peer's")
    return {"ours_peak_bytes": a, "peer_peak_bytes": b, "of_the_peers": a / b}


def described(case: Case) -> str:
    size = f"{case.batch} × {256 * case.frames:,} samples"
    return f"{case.name}, {case.part}, {size}, {case.dtype}, beside {case.config.system}"


def cases() -> list[Case]:
    """All that the flags ask for. Raises UserError where that is nothing, or a folder is no such checkout."""
    ours = base.get_config()
    if OURS.present:
        file = config_flags.get_config_filename(flags.FLAGS["ours"])
        if not Path(file).is_file():
            raise UserError(f"--ours={file}: no such file; give an experiment, as experiments/base.py")
        ours = OURS.value.copy_and_resolve_references()
    mel = configs.mel_of(ours)
    configs.check(ours, mel, "--ours")
    if (mel.hop_length, mel.n_mels) != (256, 80):
        raise UserError(f"--ours: {mel.n_mels} mels of hop {mel.hop_length}; the peers have 80 of hop 256")
    chosen = []
    for name, peer in PEERS.items():
        if (folder := flags.FLAGS[peer.flag].value) is None:
            continue
        for file in peer.files:
            if not (Path(folder) / file).is_file():
                what = f"no checkout of {peer.source} (it has no {file})" if Path(folder).is_dir() else "no such folder"
                raise UserError(f"--{peer.flag}={folder}: {what}; git clone https://github.com/{peer.source}")
        alone = name == "ClariNet's teacher"  # its generate is of one utterance
        samples = SAMPLES.value if alone else 256 * FRAMES.value
        beside = importlib.import_module(f"experiments.{peer.experiment}").get_config() if peer.experiment else ours
        for dtype, part, batch in itertools.product(
            DTYPE.value, ONLY.value or PARTS, [1] if alone else BATCH_SIZE.value
        ):
            if part in peer.parts:
                config = beside.copy_and_resolve_references()
                config.batch_size, config.model.dtype = batch, dtype
                chosen.append(Case(name, folder, config, part, batch, FRAMES.value, dtype, samples))
    if not chosen:
        if any(flags.FLAGS[peer.flag].value for peer in PEERS.values()):
            raise UserError("of ClariNet only the sampling is compared; leave out --only=training")
        raise UserError("nothing to compare with; name a checkout: --flowavenet=DIR, --waveglow=DIR or --clarinet=DIR")
    return chosen


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    chosen = cases()
    if importlib.util.find_spec("torch") is None:
        raise UserError("the peers need PyTorch, which is not installed: pip install torch")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the GPU is PyTorch's too
    records = []
    for case in chosen:
        found = memory(case) if MEMORY.value else times(case)
        what = {"peer": case.name, "what": case.part, "batch": case.batch, "dtype": case.dtype}
        what |= {"samples": 256 * case.frames, "peer_samples": case.samples}
        what["audio_seconds"] = 256 * case.frames / configs.mel_of(case.config).sample_rate
        records.append(what | found | {"config": configs.plain(case.config)})
    if OUTPUT.value:
        import torch

        from fwn.evaluation import measure

        about = measure.machine() | {"torch": torch.__version__, "threads": torch.get_num_threads()}
        result = {"machine": about, "records": records}
        Path(OUTPUT.value).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
