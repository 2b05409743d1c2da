"""Converts state dicts of ksw0306/FloWaveNet and ksw0306/ClariNet to the parameters of our models."""

import math
import re
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fwn.errors import UserError
from fwn.models import autoregressive, iaf
from fwn.models.flowavenet import FloWaveNet
from fwn.nn.weight_norm import add_weight_norm
from fwn.official.layout import Leaf, Tensors, assemble, check_none, conv, flat, stretch_kernel, wavenet, zero_conv


def state_dict(checkpoint: Any, source: str) -> Tensors:
    """The weights of a checkpoint (its `state_dict`, or all of it), without DataParallel's prefix `module.`.

    Raises UserError if it has none.
    """
    if not isinstance(checkpoint, dict):
        raise UserError(f"{source}: holds a {type(checkpoint).__name__}, not a dict; save the model's state_dict()")
    weights = checkpoint.get("state_dict", checkpoint)
    if (
        not isinstance(weights, dict)
        or not weights
        or not all(isinstance(key, str) and isinstance(w, np.ndarray) for key, w in weights.items())
    ):
        raise UserError(
            f"{source}: has no state dict (tensors by name, alone or in `state_dict`); give a training checkpoint"
        )
    parallel = all(key.startswith("module.") for key in weights)
    return {key.removeprefix("module.") if parallel else key: w for key, w in weights.items()}


class Official(NamedTuple):
    """A converted model: its system, the fields of config.model, its parameters and its number of mel bands."""

    system: str
    fields: dict[str, Any]
    params: dict[str, Any]
    n_mels: int


class StateDict:
    """An official state dict, with methods that infer its architecture."""

    def __init__(self, tensors: Tensors, source: str):
        self.tensors, self.source = tensors, source

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a tensor. Raises UserError if it is missing."""
        check_none(self.source, "lacks", [] if key in self.tensors else [key])
        return self.tensors[key].shape

    def count(self, name: str) -> int:
        """Length of a module list."""
        return len({m[1] for key in self.tensors if (m := re.match(rf"{re.escape(name)}\.(\d+)\.", key))})

    def upsample(self) -> tuple[tuple[int, ...], dict[str, Any]]:
        """(strides, leaves) of the transposed convolutions. Their indices are even: an activation follows each."""
        names = [f"upsample_conv.{2 * i}" for i in range(self.count("upsample_conv"))]
        strides = tuple(self.shape(f"{name}.weight_v")[-1] // 2 for name in names)
        return strides, {f"stage_{i}": conv(name, change=stretch_kernel) for i, name in enumerate(names)}

    def widths(self, prefix: str) -> dict[str, int]:
        """The fields of one of ClariNet's WaveNets that can be inferred from shapes."""
        filters = self.shape(f"{prefix}res_blocks.0.filter_conv.conv.weight_v")
        front = self.shape(f"{prefix}front_conv.0.conv.weight_v")
        return {
            "channels": front[0],
            "gate_channels": filters[0],
            "skip_channels": self.shape(f"{prefix}final_conv.1.conv.weight_v")[0],
            "kernel_size": filters[-1],
            "front_kernel": front[-1],
        }


def convert(checkpoint: dict[str, Any], source: str, stacks: int, upsample: Any = None) -> Official:
    """Converts any official checkpoint (or its state dict alone).

    source: file name, for errors. stacks: see `clarinet_teacher`. upsample: see `clarinet_student`.
    Raises UserError if the checkpoint is not of a known architecture.
    """
    keys = state_dict(checkpoint, source).keys()
    if any(key.startswith("iafs.") for key in keys):
        if upsample is None:
            raise UserError(
                f"{source}: is a ClariNet student, which needs the mel upsampling of its teacher; convert the teacher "
                "first, then give its folder: --teacher=DIR"
            )
        return clarinet_student(checkpoint, source, upsample)
    if any(key.startswith("res_blocks.") for key in keys):
        return clarinet_teacher(checkpoint, source, stacks)
    return flowavenet(checkpoint, source)


def clarinet_teacher(checkpoint: dict[str, Any], source: str, stacks: int) -> Official:
    """A Gaussian WaveNet of ksw0306/ClariNet. stacks: number of dilation cycles, which the weights do not show."""
    tensors = state_dict(checkpoint, source)
    official = StateDict(tensors, source)
    n_layer = official.count("res_blocks")
    if stacks < 1 or n_layer % stacks:
        raise UserError(
            f"{source}: has {n_layer} layers, which cannot be {stacks} equal stacks; give the right --stacks"
        )
    strides, upsample = official.upsample()
    fields: dict[str, Any] = {
        "distribution": "gaussian",
        "n_stack": stacks,
        "n_layer": n_layer // stacks,
        **official.widths(""),
        "upsample_strides": strides,
    }
    n_mels = official.shape("res_blocks.0.filter_conv_c.weight_v")[1]
    _, model = autoregressive.from_fields(**fields)
    frames = jnp.zeros((1, 1, n_mels))
    shapes = parameter_shapes(model, jnp.zeros((1, model.hop, 1)), frames)
    leaves = {"upsample": upsample, "net": wavenet("", n_layer, conv("final_conv.3.conv"))}
    return Official("wavenet", fields, assemble(tensors, leaves, shapes, source), n_mels)


def clarinet_student(checkpoint: dict[str, Any], source: str, upsample: Any) -> Official:
    """Gaussian IAFs of ksw0306/ClariNet. upsample: our parameters of the teacher's upsampling, without weight norm.

    n_layer is the greatest common divisor of the flows' layer counts. In the official student each flow is one stack.
    """
    tensors = state_dict(checkpoint, source)
    official = StateDict(tensors, source)
    counts = [official.count(f"iafs.{i}.res_blocks") for i in range(official.count("iafs"))]
    n_layer = math.gcd(*counts)
    strides = tuple(stage["kernel"].shape[1] // 2 for _, stage in sorted(upsample.items()))
    fields: dict[str, Any] = {
        "stacks": tuple(count // n_layer for count in counts) if n_layer else (),
        "n_layer": n_layer,
        **official.widths("iafs.0."),
        "upsample_strides": strides,
    }
    n_mels = official.shape("iafs.0.res_blocks.0.filter_conv_c.weight_v")[1]
    model = iaf.from_fields(**fields)
    z, c = jnp.zeros((1, 1, 1)), jnp.zeros((1, 1, n_mels))
    shapes = parameter_shapes(model, z, c)
    leaves = {}
    for i, count in enumerate(counts):
        leaves[f"flows_{i}"] = wavenet(f"iafs.{i}.", count, conv(f"iafs.{i}.final_conv.3.conv"))
    params = assemble(tensors, leaves, shapes, source)
    return Official("clarinet", fields, params | {"upsample": upsample}, n_mels)


def flowavenet(checkpoint: dict[str, Any], source: str) -> Official:
    """A checkpoint of ksw0306/FloWaveNet. The architecture is inferred from keys and shapes."""
    tensors = state_dict(checkpoint, source)
    official = StateDict(tensors, source)
    shape, count = official.shape, official.count
    net = "blocks.0.flows.0.coupling.net"
    n_block = count("blocks")
    priors = [i for i in range(n_block) if any(key.startswith(f"blocks.{i}.prior.") for key in tensors)]
    strides, upsample = official.upsample()
    fields: dict[str, Any] = {
        "n_block": n_block,
        "n_flow": count("blocks.0.flows"),
        "n_layer": count(f"{net}.res_blocks"),
        "channels": shape(f"{net}.front_conv.0.conv.weight_v")[0],
        "block_per_split": priors[0] + 1 if priors else n_block,
        "upsample_strides": strides,
    }
    if priors:
        prior = f"blocks.{priors[0]}.prior"
        fields["prior_layer"] = count(f"{prior}.res_blocks")
        fields["prior_channels"] = shape(f"{prior}.front_conv.0.conv.weight_v")[0]
    # A coupling of block 0 uses half of the 2 · n_mels channels of the squeezed mel.
    n_mels = shape(f"{net}.res_blocks.0.filter_conv_c.weight_v")[1]

    leaves: dict[str, Any] = {"upsample": upsample}
    for i in range(n_block):
        block = leaves[f"block_{i}"] = {}
        if i in priors:
            prior = f"blocks.{i}.prior."
            block["prior"] = {"net": wavenet(prior, fields["prior_layer"], zero_conv(f"{prior}final_conv.3"))}
        for j in range(fields["n_flow"]):
            flow = f"blocks.{i}.flows.{j}"
            norm = {name: Leaf((f"{flow}.actnorm.{name}",), flat) for name in ("loc", "scale")}
            net = f"{flow}.coupling.net."
            net_leaves = wavenet(net, fields["n_layer"], zero_conv(f"{net}final_conv.3"))
            block[f"flow_{j}"] = {"actnorm": norm, "net": net_leaves}
    shapes = parameter_shapes(FloWaveNet(**fields), jnp.zeros((1, 1, n_mels)), method="conditioned")
    names = [f"flow_{j}" for j in range(fields["n_flow"])]
    for i in range(n_block):
        flows = shapes[f"block_{i}"].pop("flows")
        one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), flows)
        shapes[f"block_{i}"] |= dict.fromkeys(names, one)
    params = assemble(tensors, leaves, shapes, source)
    for i in range(n_block):
        block = params[f"block_{i}"]
        block["flows"] = jax.tree.map(lambda *arrays: np.stack(arrays), *[block.pop(name) for name in names])
    return Official("flowavenet", fields, params, n_mels)


def parameter_shapes(model: nn.Module, *inputs: Any, **how: Any) -> dict[str, Any]:
    """Shapes of the weights that `model.init` makes, with weight norm, without computing any."""
    shapes: dict[str, Any] = jax.eval_shape(
        lambda: add_weight_norm(model.init(jax.random.key(0), *inputs, **how)["params"])
    )
    return shapes
