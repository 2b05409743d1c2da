"""The compiled programs of a system, one for each shape of their arguments, with the time that they took."""

import time
from threading import Lock
from typing import Any

import jax
import numpy as np
from flax.errors import FlaxError

from fwn.errors import UserError, short
from fwn.systems import System


class Programs:
    """Functions of a system by name, with its weights. compile_seconds, run_seconds: totals.

    Any number of threads may call it: each program is compiled once.
    """

    def __init__(self, system: System, params: Any):
        self.system, self.params = system, params
        self.compile_seconds = self.run_seconds = 0.0
        self._compiled: dict[Any, Any] = {}
        self._compiling, self._counting = Lock(), Lock()

    def compiled(self, name: str, *args: Any) -> Any:
        """system.name(params, *args), compiled ahead of time, to time compilation and running separately."""
        key = name, *jax.tree.map(np.shape, args)
        if key in self._compiled:
            return self._compiled[key]
        with self._compiling:
            if key not in self._compiled:  # another thread may have compiled it meanwhile
                self._compiled[key] = self._compile(name, args)
        return self._compiled[key]

    def _compile(self, name: str, args: tuple[Any, ...]) -> Any:
        function = getattr(self.system if hasattr(self.system, name) else self.system.recurrence, name)
        start = time.perf_counter()
        try:
            lowered = jax.jit(function).lower(self.params, *args)
        except FlaxError as error:  # a weight is missing, or has another shape
            why = short(str(error).partition(" (https://")[0])
            raise UserError(f"the weights are not those of config.model ({why}); restore config.json") from error
        program = lowered.compile()
        self.compile_seconds += time.perf_counter() - start
        return program

    def run(self, name: str, *args: Any) -> Any:
        """The result of system.name(params, *args), when it is there."""
        program = self.compiled(name, *args)
        start = time.perf_counter()
        result = jax.block_until_ready(program(self.params, *args))
        with self._counting:
            self.run_seconds += time.perf_counter() - start
        return result
