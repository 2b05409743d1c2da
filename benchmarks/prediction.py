"""The effect of linear prediction at equal steps: held-out likelihood and copy-synthesis metrics with and without it.

    python benchmarks/prediction.py --data=data/lj-mini --config=tiny --steps=200 --seeds=3 --output=build/prediction

Trains each run from scratch by fwn.train, measures it by fwn.evaluate, and writes one JSON file with all curves and
means. The first row is a run of one training step: its copies are nearly white noise through the prediction filters.
"""

import json
import resource
import subprocess
import sys
from pathlib import Path

from absl import flags

from fwn import cli

METRICS = [
    *("log_mel_l1", "multi_resolution_stft", "mcd", "f0_rmse_cents", "vuv_error"),
    *("pesq_wb", "stoi", "level_ratio_db", "line_noise"),
]


def program(module: str, *args: str) -> None:
    subprocess.run([sys.executable, "-m", module, *args], check=True)


def run(order: int, seed: int, steps: int) -> dict:
    """Trains and evaluates one run; returns its settings and figures, "curve" as [[step, nats/sample], …]."""
    name = Path(CONFIG.value).stem
    folder = Path(OUTPUT.value) / f"{name}-{order}-{seed}-{steps}"
    every = max(1, steps // 8)
    settings = {"data": DATA.value, "num_steps": steps, "seed": seed, "model.prediction.order": order}
    if not order:  # autoregression works on the excitation, which exists only with linear prediction
        settings["model.autoregression.coefficients"] = 0
    settings |= {"eval_every": every, "save_every": steps, "log_every": 10, "eval_batches": 16}
    settings |= {"batch_size": BATCH_SIZE.value, "frames": FRAMES.value}
    changes = [f"--config.{name}={value}" for name, value in settings.items()]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    program("fwn.train", f"--config={CONFIG.value}", f"--workdir={folder}", *changes)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    temperatures = [f"--temperature={t}" for t in (0.6, 0.8, 1.0)]
    clips = f"--utterances={UTTERANCES.value}"
    program("fwn.evaluate", f"--ckpt={folder}", f"--data={DATA.value}", f"--output={folder}/out", clips, *temperatures)
    summary = json.loads((folder / "out" / "results.json").read_text())["summary"]
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    held_out = [r for r in records if r["what"] == "held_out"]
    return {
        "config": name,
        "order": order,
        "seed": seed,
        "steps": steps,
        "cpu_seconds": round(cpu_seconds),  # of training, including compilation
        "curve": [[r["step"], r["nats_per_sample"]] for r in held_out],
        "nats": summary["likelihood"]["nats_per_sample_dequantised"]["mean"],
        "copies": {t: {m: row[m]["mean"] for m in METRICS if m in row} for t, row in summary.items() if t[0] == "T"},
    }


DATA = flags.DEFINE_string("data", None, "Data set made by data_prep.prepare.", required=True)
CONFIG = flags.DEFINE_string("config", "tiny", "Name or file of an experiment.")
STEPS = flags.DEFINE_integer("steps", 200, "Training steps of each run.", lower_bound=1)
SEEDS = flags.DEFINE_integer("seeds", 3, "Runs with and runs without linear prediction.", lower_bound=1)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 4, "Crops per step.", lower_bound=1)
FRAMES = flags.DEFINE_integer("frames", 16, "Mel frames per crop.", lower_bound=1)
UTTERANCES = flags.DEFINE_integer("utterances", 6, "Held-out clips to evaluate.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", None, "Folder for the runs and results.json.", required=True)


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    results, output = [run(256, 0, 1)], Path(OUTPUT.value)
    for seed in range(1, SEEDS.value + 1):
        results += [run(order, seed, STEPS.value) for order in (0, 256)]
        (output / "results.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    cli.run(main)
