"""One step on every device of every process: the only file that knows of meshes and pmap.

The state has no device axis in any mode, so checkpoints and sampling see ordinary arrays. It is replicated; in mode
"zero" the optimizer's moments and the weights' average are sharded (`sharding_of`; ZeRO stage 1, Rajbhandari et al.
2020). A function given to `compile` gets a `mean`: mean(g)(params, frozen, batch, key) is g of each device's share of
the batch, averaged over the devices. We all-reduce gradients ourselves in float32; GSPMD would sum them in the
networks' bfloat16.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fwn.errors import UserError
from fwn.xla import malloc, options

Array = jax.Array
Mean = Callable[[Callable[..., Any]], Callable[..., Any]]
AXIS = "data"  # the mesh's only one


class Parallel:
    """How the devices share a step, by `mode`.

    "jit": one program, in which only `mean` goes device by device; "zero": the same, and each device keeps its part of
    what is dealt; "pmap": one program a device.
    """

    def __init__(self, mode: str, batch_size: int):
        if mode not in ("jit", "zero", "pmap"):
            raise UserError(f"config.parallel is {mode!r}; it is 'jit', 'zero' or 'pmap'")
        devices = jax.device_count()
        if batch_size % devices:
            raise UserError(
                f"config.batch_size={batch_size} is the batch of all devices together and cannot be shared equally by "
                f"{devices} of them; make it a multiple of {devices}"
            )
        self.mode = mode
        mesh = jax.make_mesh((devices,), (AXIS,), axis_types=(AxisType.Auto,))
        self.platform = mesh.devices.flat[0].platform
        malloc.keep_memory(self.platform)
        self.replicated = NamedSharding(mesh, PartitionSpec())
        self.split = NamedSharding(mesh, PartitionSpec(AXIS))
        self._gather = jax.jit(lambda tree: tree, out_shardings=self.replicated)

    def batch(self, local: Any) -> Any:
        """This process's part of a batch -> what compiled functions take."""
        if self.mode == "pmap":
            n = jax.local_device_count()
            return jax.tree.map(lambda a: a.reshape(n, a.shape[0] // n, *a.shape[1:]), local)
        return self.sharded(local)

    def sharded(self, local: Any) -> Any:
        """This process's part of a batch -> global arrays, sharded over all devices."""
        return jax.tree.map(lambda a: jax.make_array_from_process_local_data(self.split, np.asarray(a)), local)

    def sharding_of(self, tree: Any) -> Any:
        """Shardings of arrays that need not be on every device: mode "zero" shards them, the others replicate.

        Each along its first axis that the number of devices divides; an array without one is replicated.
        """

        def place(a: Any) -> NamedSharding:
            mesh = self.split.mesh
            axes = [i for i, n in enumerate(a.shape) if n and n % mesh.size == 0]
            if self.mode != "zero" or not axes:
                return self.replicated
            return NamedSharding(mesh, PartitionSpec(*[None] * axes[0], AXIS))

        return jax.tree.map(place, tree)

    def all_gather(self, tree: Any) -> Any:
        """The same arrays, replicated."""
        return self._gather(tree) if self.mode == "zero" else tree

    def jit(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """jit of f(replicated, batch), which sees the global batch in either mode; for initialisation from data."""
        return jax.jit(f, in_shardings=(self.replicated, self.split), out_shardings=self.replicated)

    def global_arrays(self, tree: Any) -> Any:
        """What `compile` returns -> arrays that all processes hold together, as a checkpoint is written from.

        pmap gives each process replicated arrays of its own, which orbax refuses where there are several.
        """
        if self.mode != "pmap" or jax.process_count() == 1:
            return tree
        return self.replicate(tree)

    def replicate(self, local: Any) -> Any:
        """The same arrays in every process -> global ones, replicated on all devices."""
        return jax.tree.map(
            lambda a: jax.make_array_from_process_local_data(self.replicated, np.asarray(a), np.shape(a)), local
        )

    def compile(self, f: Callable[..., Any], *, donate: bool = False, carried: Any = None) -> Callable[..., Any]:
        """Compiles f(state, frozen, batch, mean) -> replicated results.

        donate: the state's memory is reused. carried: a state as f takes it, where f returns (state, replicated
        results): it stays where it is; without, it is taken replicated.
        """
        donated: Any = {"donate_argnums": 0} if donate else {}
        if self.mode == "pmap":
            return jax.pmap(partial(f, mean=averaged), AXIS, in_axes=(None, None, 0), out_axes=None, **donated)
        places = self.replicated if carried is None else jax.tree.map(lambda a: a.sharding, carried)
        how: Any = {
            "in_shardings": (places, self.replicated, self.split),
            "out_shardings": self.replicated if carried is None else (places, self.replicated),
            "compiler_options": options.training_step(self.platform),
        }
        return jax.jit(partial(f, mean=self._mean), **how, **donated)

    def compile_now(self, step: Any, *args: Any) -> Callable[..., Any]:
        """Compiles what `compile` returned for these arguments at once, so that the loop can say when that has ended.

        pmap compiles when it first runs: compiled before, one of several processes is refused its own part of a batch.
        """
        program: Callable[..., Any] = step if self.mode == "pmap" else step.lower(*args).compile()
        return program

    def _mean(self, g: Callable[..., Any]) -> Callable[..., Any]:
        """`mean` under jit."""
        mesh, whole = self.split.mesh, self.replicated.spec
        if mesh.size == 1:
            return single_device(g)
        specs: Any = {"in_specs": (whole, whole, self.split.spec, whole), "out_specs": whole}
        # check_vma would add up gradients with respect to `params` by itself, and where they arise.
        return jax.shard_map(averaged(g), mesh=mesh, check_vma=False, **specs)


def single_device(g: Callable[..., Any]) -> Callable[..., Any]:
    """`mean` of one device that has the whole batch."""
    return lambda params, frozen, batch, key: g(params, frozen, paired(batch, lambda mel: mel[-1:]), key)


def averaged(g: Callable[..., Any]) -> Callable[..., Any]:
    """`mean` in the program of one device of several."""

    def last_of_before(mel: Array) -> Array:
        n = lax.axis_size(AXIS)
        return lax.ppermute(mel[-1:], AXIS, [(i, (i + 1) % n) for i in range(n)])

    def run(params: Any, frozen: Any, batch: Any, key: Array) -> Any:
        return lax.pmean(g(params, frozen, paired(batch, last_of_before), key), AXIS)

    return run


def paired(batch: Any, last_of_before: Callable[[Array], Array]) -> Any:
    """With "other" [B, F, M]: the mel of the example before, cyclically in the batch of all devices."""
    mel = batch["mel"]
    return batch | {"other": jnp.concatenate([last_of_before(mel), mel[:-1]])}
