"""What a compiled program needs, in lines and as JSON. Figures are calculated from counts, none is measured."""

from collections import Counter
from typing import Any, NamedTuple

from fwn.evaluation import flops
from fwn.planning import hlo
from fwn.planning.floor import Floor, floor
from fwn.planning.programs import Compiled
from fwn.planning.targets import ASSUMED, Target

MIB, GIB = 2**20, 2**30
LJSPEECH = 23.92  # hours of speech
KINDS = 8  # of kernels that are listed


class Plan(NamedTuple):
    """What one run of a program needs. samples: of audio, in all. devices: on which it runs. operations: of matrix
    products on all of them, counted from the weights."""

    what: str
    system: str
    dtype: str
    target: Target
    devices: int
    batch_size: int
    samples: int
    compiled: Compiled
    operations: float
    floor: Floor


def plan(what: str, config: Any, target: Target, batch_size: int, samples: int, compiled: Compiled) -> Plan:
    """A backward pass counts as two forward passes."""
    dtype = str(config.model.get("dtype") or "float32")
    devices, passes = (target.size, 3) if what == "train" else (1, 1)
    operations = passes * flops.per_sample(compiled.weights, config.model) * samples
    half = dtype in ("bfloat16", "float16")
    least = floor(compiled.program, compiled.launches, target, operations / devices, half)
    system = str(config.system)
    return Plan(what, system, dtype, target, devices, batch_size, samples, compiled, operations, least)


def fits(compiled: Compiled, target: Target) -> bool:
    return compiled.needs <= target.chip.usable * target.chip.memory


def lines(p: Plan) -> list[str]:
    """The plan for people."""
    each = f"{p.samples // p.batch_size:,} samples"
    what = f"a training step of {p.batch_size} crops of" if p.what == "train" else f"sampling {p.batch_size} ×"
    on = f"{p.devices} × {p.target.chip.name}" if p.devices > 1 else p.target.chip.name
    return [
        f"{p.system}, {what} {each} in {p.dtype}, on {on}: compiled and calculated, not measured",
        *_memory(p),
        *_program(p.compiled),
        *_time(p),
    ]


def _memory(p: Plan) -> list[str]:
    chip, compiled = p.target.chip, p.compiled
    taken = chip.usable * chip.memory
    share = f"{100 * compiled.needs / taken:.1f}% of {taken / GIB:.0f} GiB"
    verdict = "fits" if fits(compiled, p.target) else "does NOT fit"
    return [
        f"memory of a device: {compiled.needs / MIB:,.0f} MiB, {share}: {verdict}",
        *(f"  {name}: {size / MIB:,.1f} MiB" for name, size in compiled.bytes.items() if size),
    ]


def _program(compiled: Compiled) -> list[str]:
    program, launches = compiled.program, compiled.launches
    by_host = "" if launches is None else f", in {launches:,} launches by the host"
    found = [f"kernels a run: {program.counts.total():,}{by_host}, moving {program.moved / 1e9:,.2f} GB"]
    moved: Counter[str] = Counter()
    sent: Counter[tuple[str, str]] = Counter()
    meanwhile: Counter[tuple[str, str]] = Counter()
    for kernel in program.kernels:
        moved[kernel.kind] += kernel.times * kernel.moved
        if kernel.kind in hlo.COLLECTIVES:
            sent[kernel.kind, " and ".join(kernel.types)] += kernel.times * kernel.sent
            meanwhile[kernel.kind, " and ".join(kernel.types)] += kernel.times * kernel.meanwhile
    kinds = program.counts.most_common()
    found += [f"  {kind}: {n:,}, {moved[kind] / 1e9:,.2f} GB" for kind, n in kinds[:KINDS]]
    if rest := kinds[KINDS:]:
        found.append(f"  {len(rest)} other kinds: {sum(n for _, n in rest):,}")
    found += [
        f"{kind} of {types}: {n / 1e6:,.2f} MB on each device, while others move {meanwhile[kind, types] / 1e9:,.2f} GB"
        for (kind, types), n in sent.items()
    ]
    copies, transposes = program.rearranged["copy"], program.rearranged["transpose"]
    found.append(f"instructions that rearrange: {copies:,} copies, {transposes:,} transposes")
    if program.unknown:
        found.append(f"{program.unknown} loops of unknown length count as one trip: the counts are too low")
    return found


def _time(p: Plan) -> list[str]:
    chip, least = p.target.chip, p.floor.least
    *parts, _ = (f"{name} {1e3 * seconds:.2f}" for name, seconds in p.floor._asdict().items())
    together = [
        f"of the links' time {1e3 * p.floor.waiting:.2f} ms are not covered by other work; a device does at most "
        f"{p.floor.own / least:.1%} of what it does alone"
    ]
    return [
        f"operations: {p.operations / 1e12:,.3f} TFLOP, {p.operations / p.devices / 1e12:,.3f} on each device",
        f"at least {1e3 * least:.2f} ms, by {', '.join(parts)}",
        *(together if p.devices > 1 else []),
        f"at most {p.samples / least:,.0f} samples/s",
        f"by {chip.bandwidth / 1e12:.2f} TB/s to memory, {chip.half / 1e12:.0f} TFLOP/s in bfloat16, "
        f"{chip.single / 1e12:.0f} in float32, {p.target.link / 1e9:.0f} GB/s a link: {chip.source}",
        ASSUMED[chip.platform],
    ]


def whole_run(p: Plan, num_steps: int, rate: int, price: float | None) -> str:
    """Hours of a training run, and dollars at `price` a device and hour."""
    hours = num_steps * p.floor.least / 3600
    dollars = "" if price is None else f", {hours * p.devices * price:,.2f} dollars"
    heard = num_steps * p.samples / rate / 3600 / LJSPEECH
    return f"{num_steps:,} steps: at least {hours:,.2f} hours{dollars}; they hear LJSpeech {heard:,.1f} times"


def record(p: Plan) -> dict[str, Any]:
    """The plan as JSON."""
    program = p.compiled.program
    return {
        "what": p.what,
        "system": p.system,
        "dtype": p.dtype,
        "target": p.target.text,
        "devices": p.devices,
        "batch_size": p.batch_size,
        "samples": p.samples,
        "fits": fits(p.compiled, p.target),
        "bytes": p.compiled.bytes,
        "kernels": dict(program.counts),
        "launches": p.compiled.launches,
        "moved_bytes": program.moved,
        "collectives": [kernel._asdict() for kernel in program.kernels if kernel.kind in hlo.COLLECTIVES],
        "rearranged": dict(program.rearranged),
        "operations": p.operations,
        "least_seconds": p.floor._asdict(),
    }
