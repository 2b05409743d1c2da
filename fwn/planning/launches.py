"""How often a program for a GPU has the host launch something: a kernel, a library's call, or a command buffer.

XLA puts kernels that follow each other into command buffers (CUDA graphs), and launches each as a whole. Which ones is
not in the compiled program's HLO, but in the sequence of thunks, a file that XLA writes where it is asked to (`DUMP`).
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LOOP = "kWhile"
SEQUENCE, NAMES = "*thunk_sequence_after_thunk_passes.txt", "*thunk_metadata.txt"


def options(folder: str) -> dict[str, Any]:
    """Options of XLA's compiler to write these files."""
    return {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}


def launches(folder: Path, trips: Mapping[str, int | None]) -> int | None:
    """Launches in a run of the program whose files are in the folder; None if XLA wrote no such files.

    trips: of each loop, by the name of its instruction; None counts as one.
    """
    sequences, names = list(folder.glob(SEQUENCE)), list(folder.glob(NAMES))
    if len(sequences) != 1 or len(names) != 1:
        return None
    named = re.findall(r'profile_annotation: "([^"]*)"\s+thunk_id: (\d+)', names[0].read_text())
    return counted(sequences[0].read_text(), {int(number): trips.get(name) or 1 for name, number in named})


def counted(sequence: str, trips: Mapping[int, int]) -> int:
    """Launches of a sequence of thunks. trips: of loops, by their number.

    A thunk that holds others is followed by them, further to the right. A loop's condition is not launched, because its
    length is known.
    """
    total, loops = 0, [(-1, 1)]  # columns and repetitions of the loops around
    held_by, condition = -1, False  # column of the thunk that holds this one, -1: none; whether it is in a condition
    for line in sequence.splitlines():
        column = len(line) - len(line.lstrip())
        if found := re.match(r"\s*(\d+): (k\w+)", line):
            if 0 <= held_by < column or condition:
                continue
            while loops[-1][0] >= column:
                loops.pop()
            number, kind = int(found[1]), found[2]
            times = loops[-1][1]
            if kind == LOOP:
                held_by = -1
                loops.append((column, times * trips.get(number, 1)))
            else:
                held_by = column
                total += times
        elif held_by < 0 and line.strip() in ("condition:", "body:"):
            condition = line.strip() == "condition:"
    return total
