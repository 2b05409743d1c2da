"""The programs of training and sampling, compiled for a target: their memory on a device, and their text."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jax
import numpy as np

from fwn.errors import UserError, short
from fwn.evaluation import measure
from fwn.models.weight_forms import ready
from fwn.planning import hlo, launches
from fwn.systems import System
from fwn.training.parallel import Parallel
from fwn.training.step import abstract, carried, train_step
from fwn.xla.layout import formats

PLATFORMS = {"gpu": "cuda", "tpu": "tpu"}  # names of jax's lowering
FULL = "RESOURCE_EXHAUSTED", "out of memory"  # in errors of a compiler that finds too little memory


class Compiled(NamedTuple):
    """A program on one device. weights: their shapes. parts: bytes of what it is given, by name. temporary, output,
    code: bytes beside it; of the output, what does not lie in the memory of an argument. launches: by the host, in a
    run; None where they are not known.
    """

    weights: Any
    parts: dict[str, int]
    temporary: int
    output: int
    code: int
    program: hlo.Program
    launches: int | None
    text: str

    @property
    def bytes(self) -> dict[str, int]:
        """On a device, by name."""
        return self.parts | {"temporary": self.temporary, "results": self.output, "code": self.code}

    @property
    def needs(self) -> int:
        return sum(self.bytes.values())


class TooLarge(Exception):
    """The compiler found that the program needs more memory than the device has."""


def training(system: System, config: Any, mel: Any, devices: list[Any]) -> Compiled:
    """The step of fwn.train. Raises TooLarge, or UserError if it cannot be compiled without the devices."""
    if config.parallel == "pmap":
        raise UserError(
            "config.parallel is 'pmap', which compiles for devices at hand only; give --config.parallel=jit, whose "
            "devices do the same work"
        )
    if config.loss:
        raise UserError(f"config.system is {config.system!r}, which learns from a teacher; give --what=sample")
    parallel = Parallel(config.parallel, config.batch_size, devices)
    one: Any = measure.synthetic(1, config.frames, mel, seed=0, system=system)
    local = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((config.batch_size, *a.shape[1:]), a.dtype, sharding=parallel.split), one
    )
    plain = abstract(system, config, parallel, local)
    state = carried(config, parallel, plain)
    step: Any = parallel.compile(train_step(system, config, parallel.platform), donate=True, carried=state)
    parts = {"weights": state.params, "average": state.ema, "optimizer": state.opt, "batch": local}
    return compiled(lambda: step.trace(state, (), local), parallel.platform, parts)._replace(weights=plain.params)


def sampling(system: System, config: Any, mel: Any, frames: int, batch_size: int, device: Any) -> Compiled:
    """One inverse pass, as fwn.sample runs it on one device. Raises TooLarge."""
    place = jax.sharding.SingleDeviceSharding(device)
    batch = measure.synthetic(1, config.frames, mel, seed=0, system=system)
    shapes = jax.eval_shape(
        lambda key: ready(system.init(key, batch, {}), config.model.get("dtype")), jax.random.key(config.seed)
    )
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch_size))
    mels = jax.ShapeDtypeStruct((batch_size, frames, mel.n_mels + system.speakers.channels), np.float32)
    lengths = jax.ShapeDtypeStruct((batch_size,), np.int32)
    temperature = jax.ShapeDtypeStruct(() if system.low_temperature is None else (2,), np.float32)
    first = jax.ShapeDtypeStruct((), np.int32)
    placed = jax.tree.map(
        lambda a, place: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place),
        (shapes, mels, keys, temperature, lengths, first),
        (formats(shapes, place, device.platform), *[place] * 5),
    )
    function = jax.jit(system.sample)
    return compiled(partial(function.trace, *placed), device.platform, {"weights": placed[0], "mels": placed[1:]})


def compiled(traced: Callable[[], Any], platform: str, parts: dict[str, Any]) -> Compiled:
    """What `traced` gives, compiled. parts: its arguments, by name. Raises TooLarge, or UserError if XLA cannot."""
    try:
        with TemporaryDirectory() as folder:
            how = launches.options(folder) if platform == "gpu" else {}
            program = traced().lower(lowering_platforms=(PLATFORMS[platform],)).compile(compiler_options=how)
            text = program.as_text()
            found = hlo.read(text)
            by_host = launches.launches(Path(folder), found.trips)
    except jax.errors.JaxRuntimeError as error:
        if any(word.lower() in str(error).lower() for word in FULL):
            raise TooLarge(short(str(error))) from error
        hint = "XLA_FLAGS=--xla_gpu_enable_triton_gemm=false" if platform == "gpu" else "another batch size"
        raise UserError(
            f"XLA cannot compile this program for a {platform} ({short(str(error))}); try {hint}"
        ) from error
    memory = program.memory_analysis()
    return Compiled(
        parts["weights"],
        {name: on_device(part) for name, part in parts.items() if jax.tree.leaves(part)},
        int(memory.temp_size_in_bytes),
        int(memory.output_size_in_bytes - memory.alias_size_in_bytes),
        int(memory.generated_code_size_in_bytes),
        found,
        by_host,
        text,
    )


def on_device(tree: Any) -> int:
    """Bytes of arrays on one device."""
    return sum(
        int(np.prod(a.sharding.shard_shape(a.shape), dtype=np.int64)) * a.dtype.itemsize for a in jax.tree.leaves(tree)
    )
