"""One step on every device of every process: the only file that knows of meshes and pmap.

State is replicated and has no device axis in either mode, so checkpoints and sampling see ordinary arrays. A function
given to `everywhere` is written for one device's share of the batch and a `mean` over devices, which is the identity
under jit with shardings, where XLA sees the whole batch, and `pmean` under pmap.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fwn.errors import UserError


class Parallel:
    """mode: "jit" (one program, XLA inserts the collectives) or "pmap" (one program a device, averaged by name)."""

    def __init__(self, mode: str, batch_size: int):
        if mode not in ("jit", "pmap"):
            raise UserError(f"config.parallel is {mode!r}; it is 'jit' or 'pmap'")
        devices = jax.device_count()
        if batch_size % devices:
            raise UserError(
                f"config.batch_size={batch_size} is the batch of all devices together and cannot be shared equally by "
                f"{devices} of them; make it a multiple of {devices}"
            )
        self.mode = mode
        mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))
        self.replicated = NamedSharding(mesh, PartitionSpec())
        self.split = NamedSharding(mesh, PartitionSpec("data"))

    def batch(self, local: Any) -> Any:
        """This process's part of a batch -> what compiled functions take."""
        if self.mode == "pmap":
            n = jax.local_device_count()
            return jax.tree.map(lambda a: a.reshape(n, a.shape[0] // n, *a.shape[1:]), local)
        return self.sharded(local)

    def sharded(self, local: Any) -> Any:
        """This process's part of a batch -> global arrays, sharded over all devices."""
        return jax.tree.map(lambda a: jax.make_array_from_process_local_data(self.split, np.asarray(a)), local)

    def whole(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """jit of f(replicated, batch), which sees the global batch in either mode; for initialisation from data."""
        return jax.jit(f, in_shardings=(self.replicated, self.split), out_shardings=self.replicated)

    def shared(self, tree: Any) -> Any:
        """What `everywhere` returns -> arrays that all processes hold together, as a checkpoint is written from.

        pmap gives each process replicated arrays of its own, which orbax refuses where there are several.
        """
        if self.mode == "jit" or jax.process_count() == 1:
            return tree
        return self.everyone(tree)

    def everyone(self, local: Any) -> Any:
        """The same arrays in every process -> global ones, replicated on all devices."""
        return jax.tree.map(
            lambda a: jax.make_array_from_process_local_data(self.replicated, np.asarray(a), np.shape(a)), local
        )

    def everywhere(self, f: Callable[..., Any], *, donate: bool = False) -> Callable[..., Any]:
        """Compiles f(state, frozen, batch, mean) -> replicated results. donate: the state's memory is reused."""
        donated: Any = {"donate_argnums": 0} if donate else {}
        if self.mode == "pmap":
            mean = partial(jax.lax.pmean, axis_name="data")
            return jax.pmap(partial(f, mean=mean), "data", in_axes=(None, None, 0), out_axes=None, **donated)
        shardings: Any = {
            "in_shardings": (self.replicated, self.replicated, self.split),
            "out_shardings": self.replicated,
        }
        return jax.jit(partial(f, mean=lambda tree: tree), **shardings, **donated)
