"""The PyTorch side of benchmarks/peer.py: calls the code in the checkouts, of which nothing is copied here.

It does not import JAX, so that its process holds only PyTorch's memory.
"""

import contextlib
import importlib
import io
import json
import math
import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

Run = Callable[[], Any]
GPU = torch.cuda.is_available()
DEVICE = "gpu" if GPU else "cpu"
PLACE = torch.device("cuda" if GPU else "cpu")
# Replacements on a machine without a GPU: the peers use CUDA's types and devices unconditionally.
CPU = {"device": lambda _: PLACE, "cuda": SimpleNamespace(FloatTensor=torch.FloatTensor, synchronize=lambda: None)}


def load(folder: str, name: str) -> ModuleType:
    """Imports a module of the checkout and removes it from sys.modules: the checkouts share names like `wavenet`."""
    folder, known = str(Path(folder).resolve()), set(sys.modules)
    sys.path.insert(0, folder)
    module = importlib.import_module(name)
    sys.path.remove(folder)
    for other in set(sys.modules) - known:
        if str(getattr(sys.modules[other], "__file__", None)).startswith(folder):
            del sys.modules[other]
    if not GPU:
        vars(module)["torch"] = SimpleNamespace(**vars(torch) | CPU)
    return module


def autocast(dtype: str) -> Any:
    return torch.autocast(PLACE.type, torch.bfloat16, enabled=dtype == "bfloat16")


def sampling(dtype: str, sample: Run) -> Run:
    def run() -> None:
        with torch.no_grad(), autocast(dtype):
            sample()

    return run


def training(dtype: str, model: Any, loss: Run, rate: float, clip: float | None = None) -> Run:
    adam = torch.optim.Adam(model.parameters(), lr=rate)

    def run() -> None:
        adam.zero_grad()
        with autocast(dtype):
            value = loss()
        value.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        adam.step()

    return run


def flowavenet(folder: str, part: str, x: Any, c: Any, dtype: str) -> Run:
    """`reverse`, or the loss, clipping and Adam of its train.py. Sizes are those of its README."""
    model = load(folder, "model").Flowavenet(1, 80, 8, 6, 2, True, False, 4).to(PLACE)
    with torch.no_grad():
        model(x, c)  # initialises ActNorm
    if part == "sampling":
        return sampling(dtype, lambda: model.reverse(torch.randn_like(x), c))
    return training(dtype, model, lambda: -sum(model(x, c)), 1e-3, clip=1.0)


def waveglow(folder: str, part: str, x: Any, c: Any, dtype: str) -> Run:
    """`infer` without weight norm, as in its inference.py, or the loss and Adam of train.py. Sizes of config.json."""
    code, config = load(folder, "glow"), json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    model = code.WaveGlow(**config["waveglow_config"]).to(PLACE)
    if part == "sampling":
        return sampling(dtype, partial(code.WaveGlow.remove_weightnorm(model).infer, c))
    settings = config["train_config"]
    criterion = code.WaveGlowLoss(settings["sigma"])
    return training(dtype, model, lambda: criterion(model((c, x[:, 0]))), settings["learning_rate"])


def clarinet(folder: str) -> tuple[ModuleType, Any]:
    """The teacher's module, and an untrained teacher with the default sizes of synthesize.py."""
    code = load(folder, "wavenet")
    model = code.Wavenet(
        out_channels=2, num_blocks=2, num_layers=10, residual_channels=128, gate_channels=256,
        skip_channels=128, kernel_size=2, cin_channels=80, upsample_scales=[16, 16],
    )  # fmt: skip
    return code, model.to(PLACE)


def student(folder: str, part: str, x: Any, c: Any, dtype: str) -> Run:
    """Upsampling by the teacher and `generate` without weight norm, as in its synthesize_student.py."""
    (_, teacher), model = clarinet(folder), load(folder, "wavenet_iaf").Wavenet_Student().to(PLACE)
    model.remove_weight_norm()
    return sampling(dtype, lambda: model.generate(torch.randn_like(x), teacher.upsample(c)))


def teacher(folder: str, part: str, x: Any, c: Any, dtype: str) -> Run:
    """`generate` of x.shape[2] samples, each with the network over a full receptive field.

    For the first 2,078 samples (a tenth of a second) the receptive field is not yet full and a sample costs less. They
    would take minutes, so the loop starts behind them, as for nearly all samples of an utterance.
    """
    code, model = clarinet(folder)
    field = model.receptive_field_size()
    whole = field + x.shape[2]
    c = c.repeat(1, 1, math.ceil(whole / (256 * c.shape[2])))
    model.receptive_field_size = lambda: field  # the method uses `range`, which is replaced next
    vars(code)["range"] = partial(range, field)
    return sampling(dtype, lambda: model.generate(whole, c))


PEERS = {"FloWaveNet": flowavenet, "WaveGlow": waveglow, "ClariNet's student": student, "ClariNet's teacher": teacher}


def prepare(name: str, folder: str, part: str, batch: int, frames: int, dtype: str, samples: int) -> Run:
    """The function to time for peer `name`, until its result is ready. samples: per utterance; frames: mel frames."""
    warnings.simplefilter("ignore")  # the peers call deprecated functions: torch.qr, weight_norm, tanh
    torch.set_num_threads(os.cpu_count() or 1)
    torch.set_float32_matmul_precision("high")  # TF32 where available, also in convolutions
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    x = 0.1 * torch.randn(batch, 1, samples, device=PLACE)
    c = torch.rand(batch, 80, frames, device=PLACE)
    run = PEERS[name](folder, part, x, c, dtype)

    def finished() -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # ClariNet's generate prints its progress
            run()
        if GPU:
            torch.cuda.synchronize()

    return finished


def peak() -> int:
    """Peak bytes in use on the GPU; 0 on a CPU."""
    return torch.cuda.max_memory_allocated() if GPU else 0
