"""A training run that is asked to stop."""

import os
import signal
from typing import Any

import jax
from jax.experimental import multihost_utils


class Stop:
    """Whether the run was asked to stop, by SIGTERM or ctrl-C. A second ctrl-C stops at once.

    Before `begin` both end the process at once: nothing is to be saved, and a handler in Python would not be called
    while XLA compiles. The processes of a pod agree on the step after which they all stop, through jax's handler of
    SIGTERM.
    """

    def __init__(self) -> None:
        self.signal = 0
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def begin(self) -> None:
        """From now on the run stops after a step."""
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
        return bool(self.signal) if jax.process_count() == 1 else multihost_utils.reached_preemption_sync_point(step)
