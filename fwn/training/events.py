"""TensorBoard's events, written by the thread that logs, so that it also has the errors.

tensorboardX.SummaryWriter writes in a thread of its own. On a full disk that thread ends with a traceback, and the next
events wait for it forever.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog


class Events:
    """A new file of events in `folder`, with steps from `first` on: those that other files have of these are hidden."""

    def __init__(self, folder: Path, first: int):
        folder.mkdir(parents=True, exist_ok=True)
        self.writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")  # its name alone has seconds
        self.writer.write_event(Event(step=first, file_version="brain.Event:2"))
        self.writer.write_event(Event(step=first, session_log=SessionLog(status=SessionLog.START)))

    def scalar(self, name: str, value: float, step: int) -> None:
        self._add(summary.scalar(name, value), step)

    def audio(self, name: str, samples: np.ndarray, rate: int, step: int) -> None:
        """samples [T] in ±1."""
        self._add(summary.audio(name, samples, rate), step)

    def image(self, name: str, grey: np.ndarray, step: int) -> None:
        """grey: uint8 [height, width]."""
        self._add(summary.image(name, grey, dataformats="HW"), step)

    def _add(self, what: Any, step: int) -> None:
        self.writer.write_event(Event(summary=what, step=step, wall_time=time.time()))

    def flush(self) -> None:
        self.writer.flush()

    def close(self) -> None:
        self.writer._py_recordio_writer._writer.close()  # the file, which EventsWriter.close leaves open after an error
