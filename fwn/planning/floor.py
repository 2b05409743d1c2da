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
    """Seconds that each part needs by itself.

    launches: by the host, of kernels, libraries and command buffers. kernels: their starts on the device. waiting: the
    part of `links` in which nothing else runs, as far as the memory's traffic meanwhile tells.
    """

    products: float
    memory: float
    launches: float
    kernels: float
    links: float
    waiting: float = 0.0

    @property
    def own(self) -> float:
        """Of a device alone: the longest of all but the links."""
        return max(self.products, self.memory, self.launches, self.kernels)

    @property
    def least(self) -> float:
        """The program takes at least so long."""
        return max(self.own + self.waiting, self.links)


def floor(program: hlo.Program, launches: int | None, target: Target, operations: float, half: bool) -> Floor:
    """launches: None, where command buffers are not known, is one for each kernel. operations: of a device in a run, of
    matrix products. half: they are in 16 bits."""
    chip, kernels = target.chip, program.counts.total()
    links = waiting = 0.0
    for kernel in program.kernels:
        if kernel.kind in hlo.COLLECTIVES:
            each = kernel.sent * SENT[kernel.kind](target.size) / target.link
            links += kernel.times * each
            waiting += kernel.times * max(0.0, each - kernel.meanwhile / chip.bandwidth)
    found = on_chip(chip, operations, half, program.moved, kernels, launches)
    return found._replace(links=links, waiting=waiting)


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
