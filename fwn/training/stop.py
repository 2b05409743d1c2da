"""A training run that is asked to stop."""

import math
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


class Stop:
    """Whether the run was asked to stop, by SIGTERM, ctrl-C or its time limit. A second ctrl-C stops at once.

    Before `begin` both end a single process at once: nothing is to be saved, and a handler in Python would not be
    called while XLA compiles. The processes of a pod agree on the step after which they all stop, through jax's handler
    of SIGTERM.
    max_seconds: time limit, counted from here; 0: none.
    """

    def __init__(self, max_seconds: float = 0) -> None:
        self.signal = 0
        self.reached = False  # the step after which all processes stop
        self.deadline = time.monotonic() + (max_seconds or math.inf)
        self.longest = 0.0  # seconds between two calls of `now`
        self.saving = 0.0  # seconds of a save
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def begin(self) -> None:
        """From now on the run stops after a step."""
        self.before = math.inf  # before the first step, which compiles in some modes
        signal.signal(signal.SIGINT, self.asked)
        if jax.process_count() == 1:
            signal.signal(signal.SIGTERM, self.asked)

    def asked(self, number: int, frame: Any) -> None:
        if self.signal == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.signal = number
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def now(self, step: int) -> bool:
        """Whether to save and stop after this step: at the time limit, less a save and two of the longest steps.

        step: a number that grows with every call, by which the processes agree.
        """
        now = time.monotonic()
        self.longest, self.before = max(self.longest, now - self.before), now
        if not self.signal and now + 2 * self.longest + self.saving > self.deadline:
            self.asked(signal.SIGALRM, None)
        if jax.process_count() == 1:
            return bool(self.signal)
        self.reached = self.reached or multihost_utils.reached_preemption_sync_point(step)
        return self.reached

    def time_saving(self, save: Callable[[], None]) -> None:
        """Calls save() and keeps its time."""
        start = time.monotonic()
        save()
        self.saving = time.monotonic() - start

    def agreed(self) -> int:
        """The signal that stops all processes: SIGALRM for the time limit. Every process must call this."""
        if jax.process_count() == 1:
            return self.signal
        return int(multihost_utils.process_allgather(np.int32(self.signal)).max()) or signal.SIGTERM
