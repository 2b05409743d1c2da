"""Reads what XLA compiled: kernels, the bytes that they move, collectives, copies and transposes.

The text of an optimised program (HLO) lists computations of instructions. Each instruction of the entry is a kernel,
but for those in FREE; loops repeat those of their bodies, as often as their known trip count says.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id")
COLLECTIVES = "all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all"


class Instruction(NamedTuple):
    name: str
    shape: str
    kind: str
    operands: list[str]
    line: str
    root: bool


class Kernel(NamedTuple):
    """An instruction that runs `times` times and moves so many bytes each time.

    kind: with its target if it calls a library. sent: bytes of a collective's operands on each device. types: of its
    operands. meanwhile: bytes that other kernels move between its start and its end.
    """

    kind: str
    times: int
    moved: int
    sent: int = 0
    types: tuple[str, ...] = ()
    meanwhile: int = 0


class Program(NamedTuple):
    """kernels; rearranged: instructions that copy or transpose, in kernels of their own or inside others, each once;
    trips: of each loop by name, None where they are not known. Such a loop is counted as one trip."""

    kernels: list[Kernel]
    rearranged: Counter[str]
    trips: dict[str, int | None]

    @property
    def counts(self) -> Counter[str]:
        """Kernels of each kind in a run."""
        found: Counter[str] = Counter()
        for kernel in self.kernels:
            found[kernel.kind] += kernel.times
        return found

    @property
    def unknown(self) -> int:
        """Loops of unknown length."""
        return sum(trips is None for trips in self.trips.values())

    @property
    def moved(self) -> int:
        """Bytes that kernels read and write in a run."""
        return sum(kernel.times * kernel.moved for kernel in self.kernels)


def arrays(shape: str) -> list[tuple[str, int]]:
    """(type, bytes) of an array, or of all in a tuple; workspaces (u8) are left out."""
    found = re.findall(r"\b(pred|bf|[fsuc])(\d*)(?:e\dm\d\w*)?\[([\d,]*)\]", shape)
    return [
        (kind + bits, int(bits or 8) // 8 * math.prod(int(n) for n in dims.split(",") if n))
        for kind, bits, dims in found
        if kind + bits != "u8"
    ]


def size(shape: str) -> int:
    """Bytes of a shape."""
    return sum(n for _, n in arrays(shape))


def parsed(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """(the instructions of each computation, the name of the entry)."""
    computations: dict[str, list[Instruction]] = {}
    entry = name = ""
    for line in text.splitlines():
        if head := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{", line):
            name = head[2]
            computations[name] = []
            entry = name if head[1] else entry
        elif line.startswith("}"):
            name = ""
        elif name and (found := re.match(r"\s+(ROOT )?%([\w.\-]+) = (.*?) ([a-z][a-z\-]*)\((.*)", line)):
            operands = re.findall(r"%([\w.\-]+)", found[5].split("), ")[0])
            computations[name].append(Instruction(found[2], found[3], found[4], operands, line, bool(found[1])))
    return computations, entry


def moved(one: Instruction, shapes: dict[str, str], computations: dict[str, list[Instruction]]) -> int:
    """Bytes that a kernel reads and writes: its operands and results; of an array that is only sliced, the slice."""
    called = re.search(r"calls=%?([\w.\-]+)", one.line)
    if one.kind != "fusion" or not called:
        return size(one.shape) + sum(size(shapes.get(name, "")) for name in one.operands)
    inside = {i.name: i for i in computations[called[1]]}
    users: dict[str, list[Instruction]] = {}
    for i in inside.values():
        for operand in i.operands:
            users.setdefault(operand, []).append(i)

    def read(name: str, shape: str) -> int:
        total = 0
        for user in users.get(name, []):
            if user.kind == "bitcast":
                total += read(user.name, user.shape)
            elif user.kind in ("dynamic-slice", "slice", "gather") and user.operands[0] == name:
                total += size(user.shape)
            elif not (user.kind == "dynamic-update-slice" and user.operands[0] == name):
                return size(shape)
        return min(total, size(shape))

    def written(name: str) -> int:
        i = inside[name]
        if i.kind in ("bitcast", "tuple"):
            return sum(written(operand) for operand in i.operands)
        return size(inside[i.operands[1]].shape if i.kind == "dynamic-update-slice" else i.shape)

    inputs = sum(read(i.name, i.shape) for i in inside.values() if i.kind == "parameter")
    return inputs + sum(written(i.name) for i in inside.values() if i.root)


def read(text: str) -> Program:
    """What a compiled program runs."""
    computations, entry = parsed(text)
    rearranged = Counter(i.kind for each in computations.values() for i in each if i.kind in ("copy", "transpose"))
    trips: dict[str, int | None] = {}

    def walk(name: str, times: int) -> Iterator[Kernel]:
        shapes = {i.name: i.shape for i in computations[name]}
        for at, one in enumerate(computations[name]):
            if one.kind == "while":
                trips[one.name] = trip_count(one, computations)
                body = re.findall(r"body=%?([\w.\-]+)", one.line)[0]
                yield from walk(body, times * (trips[one.name] or 1))
            elif one.kind == "call":
                called = re.findall(r"to_apply=%?([\w.\-]+)", one.line)[0]
                yield from walk(called, times)
            elif one.kind == "conditional":
                each = [list(walk(branch, times)) for branch in branches(one)]
                yield from max(each, key=lambda found: sum(kernel.times for kernel in found))
            elif one.kind not in FREE and not one.kind.endswith("-done"):
                found = kernel(one, times, shapes, computations)
                others = during(computations[name], at) if found.kind in COLLECTIVES else []
                yield found._replace(meanwhile=sum(moved(other, shapes, computations) for other in others))

    return Program(list(walk(entry, 1)), rearranged, trips)


def trip_count(loop: Instruction, computations: dict[str, list[Instruction]]) -> int | None:
    """How often a loop runs: as XLA says, or as its condition i < n says, since scans count from 0. None: neither."""
    if known := re.search(r'known_trip_count"?[:=]\{"?n"?[:=]"?(\d+)', loop.line):
        return int(known[1])
    condition = computations[re.findall(r"condition=%?([\w.\-]+)", loop.line)[0]]
    numbers = {i.name: int(n[1]) for i in condition if (n := re.search(r" constant\((\d+)\)", i.line))}
    ends = [i.operands[1] for i in condition if i.root and i.kind == "compare" and "direction=LT" in i.line]
    return numbers.get(ends[0]) if ends else None


def during(instructions: list[Instruction], at: int) -> list[Instruction]:
    """The kernels between the start of instruction `at`, in the order in which they run, and its end."""
    start = instructions[at]
    if not start.kind.endswith("-start"):
        return []
    rest = instructions[at + 1 :]
    end = next((n for n, i in enumerate(rest) if i.kind.endswith("-done") and start.name in i.operands), 0)
    alone = (*FREE, "while", "call", "conditional")
    return [i for i in rest[:end] if i.kind not in alone and not i.kind.endswith(("-start", "-done"))]


def branches(one: Instruction) -> list[str]:
    """Names of the computations of which a conditional runs one."""
    several = re.search(r"branch_computations=\{([^}]*)\}", one.line)
    if several:
        return re.findall(r"[\w.\-]+", several[1])
    return re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", one.line)


def kernel(
    one: Instruction,
    times: int,
    shapes: dict[str, str],
    computations: dict[str, list[Instruction]],
) -> Kernel:
    """The kernel of an instruction."""
    called = re.search(r'custom_call_target="([^"]+)"', one.line)
    kind = one.kind.removesuffix("-start") + (f" {called[1]}" if called else "")
    traffic = moved(one, shapes, computations)
    if kind not in COLLECTIVES:
        return Kernel(kind, times, traffic)
    sent = [found for name in one.operands for found in arrays(shapes.get(name, ""))]
    return Kernel(kind, times, traffic, sum(n for _, n in sent), tuple(sorted({t for t, _ in sent})))
