"""Calculates two bounds of the time of a training step on a GPU that is not there. Nothing is measured.

    python benchmarks/gpu_step.py --config=experiments/lite.py --config.model.dtype=bfloat16 --gpu=h100

fwn.plan has the counts and the lower bound of an ideal device. The two bounds here also assume how much of a device a
real program uses:

- at least the largest of: kernels × 2.5 µs, bytes / bandwidth, operations / half of the peak.
- at most, the sum of: kernels × 5 µs, bytes / 70% of the bandwidth, operations / a tenth of the peak.
"""

from absl import flags
from ml_collections import config_flags

from fwn import cli
from fwn import config as configs
from fwn.planning import programs, report, targets
from fwn.systems import build

LAUNCH = 2.5e-6, 5e-6  # seconds a kernel: at least, at most
SHARE_OF_BANDWIDTH = 1.0, 0.7
SHARE_OF_PEAK = 0.5, 0.1
CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment. Required.")
GPU = flags.DEFINE_enum("gpu", "h100", ["a100", "h100", "h200"], "The GPU to compile for.")


def main(args: list[str]) -> None:
    cli.flags_alone(args)
    config, target = configs.copied(CONFIG.value), targets.target(GPU.value)
    mel = configs.mel_of(config)
    configs.check(config, mel, "--config")
    compiled = programs.training(build(config), config, mel, targets.devices(target))
    samples = config.batch_size * config.frames * mel.hop_length
    found = report.plan("train", config, target, config.batch_size, samples, compiled)
    for line in report.lines(found):
        cli.say(line)
    program, chip = compiled.program, target.chip
    times = [
        (
            program.counts.total() * LAUNCH[i],
            program.moved / chip.bandwidth / SHARE_OF_BANDWIDTH[i],
            found.operations / chip.half / SHARE_OF_PEAK[i],
        )
        for i in range(2)
    ]
    for (a, b, c), seconds, word in zip(times, (max(times[0]), sum(times[1])), ("least", "most"), strict=True):
        cli.say(
            f"at {word} {1e3 * seconds:.1f} ms (launches {1e3 * a:.1f}, memory {1e3 * b:.1f}, products {1e3 * c:.1f}), "
            f"{seconds * 1e5 / 3600:.2f} hours for 100,000 steps"
        )


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    cli.run(main)
