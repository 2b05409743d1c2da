"""What linear prediction brings at equal steps: held-out likelihood and metrics of copies, with and without.

    python benchmarks/prediction.py --data=data/lj-mini --config=tiny --steps=200 --seeds=3 --output=build/prediction

Trains every run from its first step by fwn.train, measures its copies by fwn.evaluate, and writes one JSON file of all
curves and means. The row of step 0 is of a run of one step, which changes next to nothing: white noise through filters.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

METRICS = [
    *("log_mel_l1", "multi_resolution_stft", "mcd", "f0_rmse_cents", "vuv_error"),
    *("pesq_wb", "stoi", "level_ratio_db", "line_noise"),
]


def program(module: str, *flags: str) -> None:
    subprocess.run([sys.executable, "-m", module, *flags], check=True)


def run(options: argparse.Namespace, order: int, seed: int, steps: int) -> dict:
    """One training and its evaluation: {"order", "seed", "steps", "curve": [[step, nats]], "copies"}."""
    folder = options.output / f"{options.config}-{order}-{seed}-{steps}"
    every = max(1, steps // 8)
    settings = {"data": options.data, "num_steps": steps, "seed": seed, "model.prediction.order": order}
    settings |= {"eval_every": every, "save_every": steps, "log_every": 10, "eval_batches": 16}
    settings |= {"batch_size": options.batch_size, "frames": options.frames}
    flags = [f"--config.{name}={value}" for name, value in settings.items()]
    program("fwn.train", f"--config=experiments/{options.config}.py", f"--workdir={folder}", *flags)
    temperatures = [f"--temperature={t}" for t in (0.6, 0.8, 1.0)]
    clips = f"--utterances={options.utterances}"
    program(
        "fwn.evaluate", f"--ckpt={folder}", f"--data={options.data}", f"--output={folder}/out", clips, *temperatures
    )
    summary = json.loads((folder / "out" / "results.json").read_text())["summary"]
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    held_out = [r for r in records if r["what"] == "held_out"]
    return {
        "config": options.config,
        "order": order,
        "seed": seed,
        "steps": steps,
        "curve": [[r["step"], r["nats_per_sample"]] for r in held_out],
        "nats": summary["likelihood"]["nats_per_sample_dequantised"]["mean"],
        "copies": {t: {m: row[m]["mean"] for m in METRICS if m in row} for t, row in summary.items() if t[0] == "T"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="data set made by data_prep.prepare")
    parser.add_argument("--config", default="tiny", help="an experiment's name")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--utterances", type=int, default=6, help="held-out clips that are copied")
    parser.add_argument("--output", type=Path, required=True, help="folder for the runs and results.json")
    options = parser.parse_args()
    results = [run(options, 256, 0, 1)]
    for seed in range(1, options.seeds + 1):
        results += [run(options, order, seed, options.steps) for order in (0, 256)]
        (options.output / "results.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
