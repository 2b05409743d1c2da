"""Compares our FloWaveNet with the official code on the same random weights and inputs.

    git clone https://github.com/ksw0306/FloWaveNet
    pip install torch
    python benchmarks/parity_official.py --official=FloWaveNet

Each case builds the official model in PyTorch, initialises its ActNorms from the inputs, perturbs all weights that
start at zero or one, saves the model as the official code does and converts the file as `fwn.convert` does. It prints
the difference of log_p + logdet in nats per sample, and the largest difference of `reverse` relative to its largest
sample.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from fwn import cli
from fwn.errors import UserError
from fwn.files.torch_reader import read
from fwn.flows.densities import normal_log_prob
from fwn.models.flowavenet import FloWaveNet
from fwn.nn.weight_norm import fold_weight_norm
from fwn.official.importer import flowavenet

OFFICIAL = flags.DEFINE_string("official", None, "Folder of a checkout of ksw0306/FloWaveNet. Required.")
FULL = flags.DEFINE_bool("full", True, "Also the paper's size: 182.6 M parameters, 8 GB of memory, several minutes.")
SEED = flags.DEFINE_integer("seed", 0, "Seed of weights and inputs.")


class Case(NamedTuple):
    """Arguments and widths of the official model (its code fixes them at 256), and how its checkpoint is saved."""

    n_block: int = 3
    n_flow: int = 2
    n_layer: int = 2
    block_per_split: int = 2
    cin_channels: int = 80
    channels: int = 8
    prior_channels: int = 8
    frames: int = 4
    batch: int = 2
    dtype: str = "float64"
    zip_file: bool = True
    prefix: str = ""
    with_state: bool = True


SMALL = [
    Case(),
    Case(n_layer=3, block_per_split=8, zip_file=False, prefix="module."),
    Case(n_flow=4, cin_channels=20, channels=12, prior_channels=6, zip_file=False),
    Case(n_block=4, block_per_split=1, n_layer=1, cin_channels=13, channels=5, prefix="module.", with_state=False),
    Case(n_block=6, n_layer=4, block_per_split=2, channels=7, prior_channels=9, frames=6),
    Case(dtype="float32"),
    Case(n_block=6, n_flow=6, block_per_split=4, channels=32, prior_channels=32, dtype="float32", zip_file=False),
]
PAPER = Case(8, 6, 2, 4, channels=256, prior_channels=256, frames=62, batch=1, dtype="float32")


def official(case: Case, path: Path, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Inputs x, c, z and the official results, in our layout. Writes the official checkpoint to `path`."""
    import model as code  # in the checkout
    import torch

    def flow(*sizes: int, filter_size: int, **options: Any) -> Any:
        return original["Flow"](*sizes, filter_size=case.channels, **options)

    def wavenet(**options: Any) -> Any:
        """Block writes the width of the prior as a literal 256; it becomes prior_channels here."""
        names = ("residual_channels", "gate_channels", "skip_channels")
        return original["Wavenet"](**options | {n: case.prior_channels for n in names if options[n] == 256})

    original = {name: getattr(code, name) for name in ("Flow", "Wavenet")}
    code.Flow, code.Wavenet = flow, wavenet
    torch.manual_seed(SEED.value)
    model = code.Flowavenet(
        1, case.cin_channels, case.n_block, case.n_flow, case.n_layer, True, False, case.block_per_split
    )
    code.Flow, code.Wavenet = original["Flow"], original["Wavenet"]

    model = model.to(getattr(torch, case.dtype)).eval()
    samples = 256 * case.frames
    arrays = {
        "x": 0.1 * rng.normal(size=(case.batch, 1, samples)),
        "c": rng.uniform(size=(case.batch, case.cin_channels, case.frames)),
        "z": rng.normal(size=(case.batch, 1, samples)),
    }
    x, c, z = (torch.from_numpy(array.astype(case.dtype)) for array in arrays.values())

    def randomise(size: float, chosen: Callable[[str], bool]) -> None:
        for name, weight in model.named_parameters():
            if chosen(name):
                weight += size * torch.from_numpy(rng.normal(size=weight.shape).astype(case.dtype))

    with torch.no_grad():
        randomise(0.1, lambda name: name.endswith("weight_g"))
        randomise(0.5 / np.sqrt(case.channels), lambda name: "final_conv.3.conv" in name)
        randomise(0.05, lambda name: name.endswith("final_conv.3.scale"))
        model(x, c)  # initialises ActNorm
        for name, weight in model.named_parameters():
            if name.endswith("actnorm.scale"):
                weight *= torch.from_numpy(rng.choice([-1, 1], size=weight.shape).astype(case.dtype))
        randomise(0.01, lambda name: "actnorm" in name)
        log_p, logdet = model(x, c)
        arrays["likelihood"] = (log_p + logdet).numpy()
        arrays["reverse"] = model.reverse(z, c).numpy()
    weights = {case.prefix + name: weight for name, weight in model.state_dict().items()}
    saved = {"state_dict": weights, "global_step": 1} if case.with_state else weights
    torch.save(saved, path, _use_new_zipfile_serialization=case.zip_file)
    return {name: np.swapaxes(a, 1, 2).astype(case.dtype) if a.ndim == 3 else a for name, a in arrays.items()}


def ours(case: Case, path: Path, arrays: dict[str, np.ndarray]) -> tuple[int, dict[str, float]]:
    """(number of parameters, largest differences between the official results and those of the converted file)."""
    _, fields, params, _ = flowavenet(read(path), str(path))
    model, params = FloWaveNet(**fields), fold_weight_norm(params)

    @jax.jit
    def likelihood(params: Any, x: jax.Array, c: jax.Array) -> jax.Array:
        noise, _, logdet = model.apply({"params": params}, x, c, method="forward")
        return (normal_log_prob(noise).sum() + logdet.sum()) / x.size

    @jax.jit
    def reverse(params: Any, z: jax.Array, c: jax.Array) -> jax.Array:
        return model.apply({"params": params}, z, c, method="inverse")[0]

    with jax.enable_x64(case.dtype == "float64"):
        nats = np.asarray(likelihood(params, arrays["x"], arrays["c"]))
        audio = np.asarray(reverse(params, arrays["z"], arrays["c"]))
    differences = {
        "likelihood": float(np.abs(nats - arrays["likelihood"])),
        "reverse": float(np.abs(audio - arrays["reverse"]).max() / np.abs(arrays["reverse"]).max()),
    }
    return sum(leaf.size for leaf in jax.tree.leaves(params)), differences


def main(args: list[str]) -> None:
    if args or not (Path(OFFICIAL.value) / "model.py").is_file():
        raise UserError(f"--official={OFFICIAL.value}: not a checkout of ksw0306/FloWaveNet (model.py is missing)")
    sys.path.insert(0, OFFICIAL.value)
    default = Case()._asdict()
    for case in SMALL + [PAPER] * FULL.value:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "official.pth"
            arrays = official(case, path, np.random.default_rng(SEED.value))
            count, differences = ours(case, path, arrays)
        what = ", ".join(f"{name}={value}" for name, value in case._asdict().items() if value != default[name])
        cli.say(
            f"{what or 'default case'}: {count:,} parameters; nats/sample {float(arrays['likelihood']):.6f}, "
            f"differs by {differences['likelihood']:.1e}; reverse differs by {differences['reverse']:.1e}"
        )


if __name__ == "__main__":
    flags.mark_flag_as_required("official")
    cli.run(main)
