"""How fast a compiled program can be at best, from counts and the figures of a device. Calculated, not measured."""

from collections.abc import Callable
from typing import NamedTuple

from fwn.planning import hlo
from fwn.planning.targets import Chip, Target

# Bytes that a device sends in a ring over n devices, for each byte of a collective's operands on it.
SENT: dict[str, Callable[[int], float]] = {
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-gather": lambda n: n - 1,
    "all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1,
}


class Floor(NamedTuple):
    """Seconds that each part needs by itself. The program takes at least the longest of them, in `least`.

    launches: by the host, of kernels, libraries and command buffers. kernels: their starts on the device.
    """

    products: float
    memory: float
    launches: float
    kernels: float
    links: float

    @property
    def least(self) -> float:
        return max(self)


def floor(program: hlo.Program, launches: int | None, target: Target, operations: float, half: bool) -> Floor:
    """launches: None, where command buffers are not known, is one for each kernel. operations: of a device in a run, of
    matrix products. half: they are in 16 bits."""
    chip, kernels = target.chip, program.counts.total()
    links = sum(
        kernel.times * kernel.sent * SENT[kernel.kind](target.size)
        for kernel in program.kernels
        if kernel.kind in hlo.COLLECTIVES
    )
    return on_chip(chip, operations, half, program.moved, kernels, launches)._replace(links=links / target.link)


def on_chip(
    chip: Chip, operations: float, half: bool, moved: float, kernels: int, launches: int | None = None
) -> Floor:
    """By counts, without links. moved: bytes. Others as in `floor`."""
    return Floor(
        operations / (chip.half if half else chip.single),
        moved / chip.bandwidth,
        (kernels if launches is None else launches) * chip.launch,
        kernels * chip.kernel,
        0.0,
    )
