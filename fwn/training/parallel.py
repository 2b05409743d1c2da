"""Data-parallel training steps. Only this file uses meshes and pmap.

The state has no device axis in any mode, so checkpoints and sampling see ordinary arrays. It is replicated. In mode
"zero" the optimizer's moments and the averaged weights are sharded (`sharding_of`; ZeRO stage 1, Rajbhandari et al.
2020). `compile` passes `mean` to a function: mean(g)(params, frozen, batch, key) computes g on each device's share of
the batch and averages the results over devices. We all-reduce gradients ourselves in float32; GSPMD would sum them in
the networks' bfloat16.
"""

from collections.abc import Callable, Sequence
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
AXIS = "data"  # the only axis of the mesh


class Parallel:
    """How devices share a step.

    mode: "jit", one program, where only `mean` runs per device; "zero", also with sharded moments and averaged weights;
    "pmap", one program per device. devices: to compile for (fwn.planning); None: all that are there.
    """

    def __init__(self, mode: str, batch_size: int, devices: Sequence[Any] | None = None):
        if mode not in ("jit", "zero", "pmap"):
            raise UserError(f"config.parallel is {mode!r}; it must be 'jit', 'zero' or 'pmap'")
        n = jax.device_count() if devices is None else len(devices)
        if batch_size % n:
            raise UserError(
                f"config.batch_size={batch_size} is the global batch size; it must be a multiple of the number "
                f"of devices, {n}"
            )
        self.mode = mode
        mesh = jax.make_mesh((n,), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)
        self.platform = mesh.devices.flat[0].platform
        malloc.keep_memory(self.platform)
        self.replicated = NamedSharding(mesh, PartitionSpec())
        self.split = NamedSharding(mesh, PartitionSpec(AXIS))
        self._gather = jax.jit(lambda tree: tree, out_shardings=self.replicated)

    def batch(self, local: Any) -> Any:
        """This process's share of a batch -> the batch argument of compiled functions."""
        if self.mode == "pmap":
            n = jax.local_device_count()
            return jax.tree.map(lambda a: a.reshape(n, a.shape[0] // n, *a.shape[1:]), local)
        return self.sharded(local)

    def sharded(self, local: Any) -> Any:
        """This process's share of a batch -> global arrays, sharded over all devices."""
        return jax.tree.map(lambda a: jax.make_array_from_process_local_data(self.split, np.asarray(a)), local)

    def sharding_of(self, tree: Any) -> Any:
        """Shardings of moments and averaged weights. Mode "zero" shards them; the other modes replicate them.

        An array is sharded along the first axis that the number of devices divides. Without one it is replicated.
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
        """jit of f(replicated, batch), which sees the global batch in every mode. For data-dependent initialisation."""
        return jax.jit(f, in_shardings=(self.replicated, self.split), out_shardings=self.replicated)

    def global_arrays(self, tree: Any) -> Any:
        """Results of compiled functions -> global arrays, from which checkpoints are written.

        pmap returns arrays that are local to each process, which orbax cannot write if there are several processes.
        """
        if self.mode != "pmap" or jax.process_count() == 1:
            return tree
        return self.replicate(tree)

    def replicate(self, local: Any) -> Any:
        """Arrays that are equal in every process -> global arrays, replicated on all devices."""
        return jax.tree.map(
            lambda a: jax.make_array_from_process_local_data(self.replicated, np.asarray(a), np.shape(a)), local
        )

    def compile(self, f: Callable[..., Any], *, donate: bool = False, carried: Any = None) -> Callable[..., Any]:
        """Compiles f(state, frozen, batch, mean) -> replicated results.

        donate: reuse the memory of the state for the results. carried: a state whose shardings are kept, if f returns
        (state, replicated results). By default the state is replicated.
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
        """Compiles the result of `compile` for these arguments now, so that the loop can log when compilation ends.

        With pmap, compilation waits for the first call: a program compiled ahead of time rejects the local batch of a
        process if there are several processes.
        """
        program: Callable[..., Any] = step if self.mode == "pmap" else step.lower(*args).compile()
        return program

    def _mean(self, g: Callable[..., Any]) -> Callable[..., Any]:
        """`mean` under jit."""
        mesh, replicated = self.split.mesh, self.replicated.spec
        if mesh.size == 1:
            return single_device(g)
        specs: Any = {"in_specs": (replicated, replicated, self.split.spec, replicated), "out_specs": replicated}
        # With check_vma, shard_map would sum the gradients itself, in the dtype in which they are computed.
        return jax.shard_map(averaged(g), mesh=mesh, check_vma=False, **specs)


def single_device(g: Callable[..., Any]) -> Callable[..., Any]:
    """`mean` on a single device."""
    return lambda params, frozen, batch, key: g(params, frozen, paired(batch, lambda mel: mel[-1:]), key)


def averaged(g: Callable[..., Any]) -> Callable[..., Any]:
    """`mean` on one of several devices."""

    def last_of_previous(mel: Array) -> Array:
        n = lax.axis_size(AXIS)
        return lax.ppermute(mel[-1:], AXIS, [(i, (i + 1) % n) for i in range(n)])

    def run(params: Any, frozen: Any, batch: Any, key: Array) -> Any:
        local = g(params, frozen, paired(batch, last_of_previous), key)
        # XLA for TPUs else casts to float32 after the sum, not before. One barrier for each array, so that it can be
        # summed while others are computed.
        return lax.pmean(jax.tree.map(lax.optimization_barrier, local), AXIS)

    return run


def paired(batch: Any, last_of_previous: Callable[[Array], Array]) -> Any:
    """Adds "other" [B, F, M]: the mel of the previous example, cyclically in the global batch.

    last_of_previous: local mels -> [1, F, M], the last mel of the previous device.
    """
    mel = batch["mel"]
    return batch | {"other": jnp.concatenate([last_of_previous(mel), mel[:-1]])}
