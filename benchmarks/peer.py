"""Compares our speed or memory with PyTorch implementations, at equal shapes on one machine.

    git clone https://github.com/ksw0306/FloWaveNet
    git clone https://github.com/ksw0306/ClariNet
    git clone https://github.com/NVIDIA/waveglow
    pip install torch
    python benchmarks/peer.py --flowavenet=FloWaveNet --clarinet=ClariNet --waveglow=waveglow --output=peer.json
    python benchmarks/peer.py --flowavenet=FloWaveNet --only=training --batch_size=1 --batch_size=4
    python benchmarks/peer.py --flowavenet=FloWaveNet --only=training --memory
    python benchmarks/peer.py --flowavenet=FloWaveNet --ours=experiments/lite.py --ours.model.gradient=remat

Sampling and training of the official FloWaveNet and of WaveGlow, at their published sizes, are compared with the
experiment --ours. Sampling of ClariNet's student is compared with experiments/clarinet.py, and sampling of its teacher,
by its own `generate`, with experiments/wavenet_gaussian.py. All weights are untrained. Both sides use all cores, or one
GPU (PyTorch with TF32, and with autocast for bfloat16). Each side has its own process. Their runs alternate, so that
other load on the machine affects both; each turn is two runs, and the second one is timed. --memory runs one side after
the other.
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

from fwn import cli, shipped
from fwn import config as configs
from fwn.errors import UserError

PARTS = ("sampling", "training")
flags.DEFINE_string("flowavenet", None, "Folder of a checkout of ksw0306/FloWaveNet.")
flags.DEFINE_string("waveglow", None, "Folder of a checkout of NVIDIA/waveglow.")
flags.DEFINE_string("clarinet", None, "Folder of a checkout of ksw0306/ClariNet.")
OURS = config_flags.DEFINE_config_file(
    "ours", None, "Experiment to compare with FloWaveNet and WaveGlow. By default the paper's, experiments/base.py."
)
BATCH_SIZE = flags.DEFINE_multi_integer(
    "batch_size", [1], "Crops per training step and utterances per batch; may be repeated.", lower_bound=1
)
FRAMES = flags.DEFINE_integer("frames", 62, "Mel frames per utterance, 256 samples each.", 1)
SAMPLES = flags.DEFINE_integer("samples", 64, "Audio samples to make with ClariNet's teacher, which is slow.", 1)
DTYPE = flags.DEFINE_multi_enum(
    "dtype", ["float32"], ("float32", "bfloat16"), "Type of the matrix products on both sides; may be repeated."
)
REPEATS = flags.DEFINE_integer("repeats", 5, "Timed runs of each side; the median counts.", 1)
ONLY = flags.DEFINE_multi_enum("only", [], PARTS, "Only this part; may be repeated. By default both.")
MEMORY = flags.DEFINE_bool("memory", False, "Peak memory instead of time; on a CPU that of the process.")
OUTPUT = flags.DEFINE_string("output", None, "JSON file for all figures. By default they are only printed.")


class Peer(NamedTuple):
    """flag: gives the folder of a checkout of `source`, which must have `files`. experiment: ours, None for --ours."""

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
    """One comparison. samples: audio samples per utterance on the peer's side."""

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
    """(the module of a side, the function to time). The module is imported here, in the side's own process."""
    module = importlib.import_module(f"peer_{side}")
    if side == "ours":
        return module, module.prepare(case.config, case.part, case.frames)
    return module, module.prepare(case.name, case.folder, case.part, case.batch, case.frames, case.dtype, case.samples)


def begin(side: str, case: Case) -> str:
    """First call in a side's process: makes the first run, which compiles. Returns the device."""
    global run_here
    module, run_here = prepare(side, case)
    run_here()
    return module.DEVICE


def turn() -> float:
    """Seconds of one run in this process, after an untimed run that fills the caches again."""
    run_here()
    start = time.perf_counter()
    run_here()
    return time.perf_counter() - start


def times(case: Case) -> dict[str, Any]:
    """Seconds of each run of both sides, and the ratio of the median times per sample.

    Each side has its own process, because in one process the threads and memory of the two disturb each other.
    """
    with ExitStack() as stack:
        ours, peer = (stack.enter_context(new_process()) for _ in SIDES)
        devices = [call(case, side, pool, begin, side, case) for side, pool in zip(SIDES, (ours, peer), strict=True)]
        if devices[0] != devices[1]:
            raise UserError(
                f"JAX runs on a {devices[0]} and PyTorch on a {devices[1]}; install both for the same device, or set "
                "JAX_PLATFORMS=cpu CUDA_VISIBLE_DEVICES= to compare on a CPU"
            )
        took = [
            [call(case, side, pool, turn) for side, pool in zip(SIDES, (ours, peer), strict=True)]
            for _ in range(REPEATS.value)
        ]
    own, other = (list(seconds) for seconds in zip(*took, strict=True))
    a, b = statistics.median(own), statistics.median(other)
    ratio = (b / case.samples) / (a / (256 * case.frames))
    length = "" if case.samples == 256 * case.frames else f" for {case.samples} samples"
    cli.say(f"{described(case)}: ours {a:.3f} s, the peer {b:.3f} s{length}: ours is {ratio:.2f} times as fast")
    return {"ours_seconds": a, "peer_seconds": b, "times_as_fast": ratio, "runs": {"ours": own, "peer": other}}


def new_process() -> ProcessPoolExecutor:
    """A spawned process. This one imports neither framework: a child's peak memory starts at its parent's."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def call(case: Case, side: str, pool: ProcessPoolExecutor, what: Callable[..., Any], *args: Any) -> Any:
    try:
        return pool.submit(what, *args).result()
    except BrokenProcessPool as error:
        raise UserError(f"{described(case)}: {side} was killed (out of memory?); use a smaller batch") from error


def peak(side: str, case: Case) -> int:
    """Peak bytes of two runs: on the GPU, or of this process."""
    module, run = prepare(side, case)
    run()
    run()
    kibibytes = 1 if sys.platform == "darwin" else 1024
    return module.peak() or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kibibytes


def memory(case: Case) -> dict[str, Any]:
    """Peak memory of both sides, one after the other."""
    found = []
    for side in SIDES:
        with new_process() as pool:
            found.append(call(case, side, pool, peak, side, case))
    a, b = found
    cli.say(f"{described(case)}: ours {a / 2**20:,.0f} MiB, the peer {b / 2**20:,.0f} MiB: {a / b:.2f} of the peer's")
    return {"ours_peak_bytes": a, "peer_peak_bytes": b, "of_the_peers": a / b}


def described(case: Case) -> str:
    size = f"{case.batch} × {256 * case.frames:,} samples"
    return f"{case.name}, {case.part}, {size}, {case.dtype}, compared with {case.config.system}"


def cases() -> list[Case]:
    """The comparisons that the flags ask for. Raises UserError if there is none, or if a folder is not a checkout."""
    ours = shipped.experiment("base")
    if OURS.present:
        file = config_flags.get_config_filename(flags.FLAGS["ours"])
        if not Path(file).is_file():
            raise UserError(f"--ours={file}: no such file; give an experiment, such as experiments/base.py")
        ours = configs.copied(OURS.value)
    mel = configs.mel_of(ours)
    configs.check(ours, mel, "--ours")
    if (mel.hop_length, mel.n_mels) != (256, 80):
        raise UserError(f"--ours: {mel.n_mels} mel bands and hop {mel.hop_length}; the peers have 80 bands and hop 256")
    chosen = []
    for name, peer in PEERS.items():
        if (folder := flags.FLAGS[peer.flag].value) is None:
            continue
        for file in peer.files:
            if not (Path(folder) / file).is_file():
                missing = f"not a checkout of {peer.source} ({file} is missing)"
                what = missing if Path(folder).is_dir() else "no such folder"
                raise UserError(f"--{peer.flag}={folder}: {what}; git clone https://github.com/{peer.source}")
        single = name == "ClariNet's teacher"  # its generate makes one utterance
        samples = SAMPLES.value if single else 256 * FRAMES.value
        own = shipped.experiment(peer.experiment) if peer.experiment else ours
        for dtype, part, batch in itertools.product(
            DTYPE.value, ONLY.value or PARTS, [1] if single else BATCH_SIZE.value
        ):
            if part in peer.parts:
                config = own.copy_and_resolve_references()
                config.batch_size, config.model.dtype = batch, dtype
                chosen.append(Case(name, folder, config, part, batch, FRAMES.value, dtype, samples))
    if not chosen:
        if any(flags.FLAGS[peer.flag].value for peer in PEERS.values()):
            raise UserError("only sampling is compared with ClariNet; leave out --only=training")
        raise UserError("nothing to compare with; give a checkout: --flowavenet=DIR, --waveglow=DIR or --clarinet=DIR")
    return chosen


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    chosen = cases()
    if importlib.util.find_spec("torch") is None:
        raise UserError("the peers need PyTorch, which is not installed: pip install torch")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave GPU memory to PyTorch
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
