"""One harness for every bijector, from a one-line actnorm to the whole model: two directions, one Jacobian."""

import math
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from fwn.flows.bijectors import (
    Bijector,
    actnorm,
    chain,
    change_order,
    change_order_of_c,
    change_order_of_x,
    coupling,
    halves,
    on_first_half,
    squeeze,
    squeeze_of_x,
    unsqueeze,
    unsqueeze_of_x,
)
from fwn.flows.prediction import prediction
from fwn.flows.repeated import repeated
from fwn.models.blocks import Block, Flow, Prior, bound
from fwn.models.flowavenet import FloWaveNet
from fwn.models.weight_forms import unstack
from fwn.nn.conv import draw
from fwn.nn.encoder import extended, interpolate
from fwn.nn.upsample import Upsample
from fwn.nn.wavenet import WaveNet
from fwn.nn.weight_norm import add_weight_norm, fold_weight_norm

NET = WaveNet(4, channels=5, n_layer=1)
TINY = partial(
    FloWaveNet, n_block=2, n_flow=2, n_layer=1, channels=5, prior_layer=1, prior_channels=4, upsample_strides=(2, 4)
)
FRAMES = partial(TINY, conditioner="frames", conditioner_channels=3, channels=(5, 3), n_flow=3, s_max=0.5)
MODELS = {
    "split after 2 of 3": TINY(block_per_split=2, n_block=3, n_flow=1),
    "split after every block": TINY(block_per_split=1, prior_layer=2),
    "two nested splits": TINY(block_per_split=1, n_block=3, n_flow=1),
    "no split": TINY(block_per_split=8),
    "odd number of flows": TINY(block_per_split=1, n_flow=3, s_max=0.5),
    "causal": TINY(block_per_split=1, causal=True),
    "odd in x": TINY(block_per_split=1, channels=6, odd=True),
    "conditioned by frames": FRAMES(block_per_split=1),
    "conditioned by frames, odd in x": FRAMES(block_per_split=1, channels=(6, 2), odd=True),
    "conditioned by frames, three blocks": FRAMES(block_per_split=2, n_block=3, n_flow=1, channels=(5, 4, 3)),
}

# The tests' programs run once: half the time to compile them is worth more than their speed.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def net(x_a, c):
    """(log_s, t) for a coupling: any smooth function of both, without Flax."""
    return jnp.tanh(x_a - c[..., :2]), jnp.sin(2 * x_a) + c[..., 1:3] ** 2


def bounded_net(x_a, c):
    log_s, t = net(x_a, c)
    return bound(3 * log_s, 0.5), t


NORM = {"loc": normal(1, 4), "scale": np.array([-2.0, 0.5, 1.5, -0.3])}
HALF_NORM = {name: value[:2] for name, value in NORM.items()}
THREE_NORMS = {name: np.stack([value, 2 * value, -value]) for name, value in NORM.items()}
THREE_UNSTACKED = [{name: value[i] for name, value in THREE_NORMS.items()} for i in range(3)]


def steps(weights, mask):
    """What is repeated."""
    return [actnorm(**weights, mask=mask), coupling(net, mask), change_order]


class Part(NamedTuple):
    """A flow, a prior or a block: weights by init(key, channels of c), and a bijector of them and a mask."""

    init: Any
    bijector: Any


def part(of: Flow | Prior | Block) -> Part:
    if isinstance(of, Block):  # which squeezes c first
        return Part(lambda key, c: of.init(key, 2 * c), lambda params, mask: of.bijector(params, chain(), mask))
    return Part(of.init, lambda params, mask: chain(*of.steps(params, mask)))


class Case(NamedTuple):
    """What is tested and the shapes [T, C] of its x and its c.

    bijector: a Bijector, or a function from `params` to one, or a Part or a module, which get random parameters.
    """

    bijector: Any
    params: Any = None
    x: tuple[int, int] = (8, 4)
    c: tuple[int, int] = (8, 6)
    mask: Any = None  # [2, time or frames, 1]
    real: int | None = None  # of both examples, in samples


FILTERS = {"a": 0.3 * normal(2, 2, 4, 3), "log_g": normal(3, 2, 4), "past": normal(4, 2, 3)}
# 1 - 0.999^p z^-p has all of its p poles at 0.999
RINGING = {
    order: {"a": np.tile(np.append(np.zeros(order - 1), -(0.999**order)), (2, 4, 1)), "log_g": normal(3, 2, 4)}
    for order in (1, 16, 256)
}
MASK = np.broadcast_to(np.arange(4)[:, None] < 3, (2, 4, 1))
MASK_OF_BLOCKS = np.broadcast_to(np.arange(32)[:, None] < 24, (2, 32, 1))
WHOLE = {"x": (32, 1), "c": (4, 6)}
# Models whose positions, of up to 8 samples, do not divide a frame, and masks of which the last position is cut.
ANY_HOP = {
    "6": TINY(block_per_split=2, n_block=3, upsample_strides=(2, 3)),
    "5": TINY(block_per_split=1, n_block=3, n_flow=1, upsample_strides=(1, 5)),
    "6, odd number of flows": TINY(block_per_split=1, n_flow=3, upsample_strides=(2, 3)),
    "6, by frames": FRAMES(block_per_split=1, n_block=3, n_flow=2, channels=4, upsample_strides=(2, 3)),
    "5, by frames, odd in x": FRAMES(block_per_split=1, channels=4, odd=True, upsample_strides=(1, 5)),
    "4, by frames, a position of one frame": FRAMES(
        block_per_split=1, n_block=3, n_flow=2, channels=4, upsample_strides=(2, 2)
    ),
    "3, by frames, positions longer than a frame": FRAMES(n_block=3, n_flow=1, channels=4, upsample_strides=(1, 3)),
}


def any_hop(model: FloWaveNet, real: int | None = None) -> Case:
    mask = None if real is None else np.broadcast_to(np.arange(5)[:, None] < real, (2, 5, 1))
    return Case(model, x=(5 * model.hop, 1), c=(5, 6), mask=mask, real=None if real is None else real * model.hop)


CASES = {
    "actnorm": Case(lambda p: actnorm(**p), NORM),
    "coupling": Case(coupling(net)),
    "coupling, bounded scale": Case(coupling(bounded_net)),
    "change order": Case(change_order),
    "change order of c": Case(change_order_of_c),
    "squeeze": Case(squeeze),
    "unsqueeze": Case(unsqueeze),
    "on the first half": Case(lambda p: on_first_half(chain(actnorm(**p), change_order)), HALF_NORM),
    "three times": Case(lambda p: repeated(steps, p), THREE_NORMS),
    "three times, unstacked": Case(lambda p: repeated(steps, p), THREE_UNSTACKED),
    "three times, inverting": Case(lambda p: repeated(steps, p, gradient="invert"), THREE_NORMS),
    "change order of x": Case(change_order_of_x, c=(2, 3)),
    "squeeze of x": Case(squeeze_of_x, c=(2, 3)),
    "unsqueeze of x": Case(unsqueeze_of_x, c=(2, 3)),
    "chain": Case(lambda p: chain(squeeze, change_order, unsqueeze, actnorm(**p), coupling(net), change_order), NORM),
    "prediction": Case(lambda p: prediction(**p), FILTERS, x=(32, 1)),
    "prediction, masked": Case(lambda p: prediction(**p, mask=MASK_OF_BLOCKS), FILTERS, x=(32, 1), real=24),
    **{
        f"prediction, order {order}, poles at 0.999": Case(lambda p: prediction(**p), p, x=(64, 1))
        for order, p in RINGING.items()
    },
    "Flow": Case(part(Flow(NET))),
    "Flow, bounded scale": Case(part(Flow(NET, s_max=0.5))),
    "Flow, conditioned by frames": Case(part(Flow(NET, frames=True)), c=(2, 3)),
    "Prior": Case(part(Prior(NET))),
    "Block": Case(part(Block(2, Flow(NET))), x=(8, 2)),
    "Block with prior": Case(part(Block(1, Flow(NET), Prior(NET.clone(n_layer=2)))), x=(8, 2)),
    **{f"FloWaveNet, {name}": Case(model, **WHOLE) for name, model in MODELS.items()},
    "FloWaveNet, masked": Case(MODELS["split after every block"], **WHOLE, mask=MASK, real=24),
    "FloWaveNet, conditioned by frames, masked": Case(MODELS["conditioned by frames"], **WHOLE, mask=MASK, real=24),
    "FloWaveNet, odd in x, masked": Case(MODELS["odd in x"], **WHOLE, mask=MASK, real=24),
    **{f"FloWaveNet, hop {name}": any_hop(model) for name, model in ANY_HOP.items()},
    "FloWaveNet, hop 6, masked": any_hop(ANY_HOP["6"], 3),
    "FloWaveNet, hop 5, by frames, odd in x, masked": any_hop(ANY_HOP["5, by frames, odd in x"], 3),
}


def initial_shapes(model: FloWaveNet, mel: Any) -> Any:
    return jax.eval_shape(lambda: model.init(jax.random.key(0), mel, method="conditioned"))["params"]


def random_params(module: Any, x: Any, c: Any, seed: int = 0) -> Any:
    """Parameters away from every initial value, where couplings are identities: scales of both signs, nothing zero."""
    if isinstance(module, Part):
        shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), c.shape[-1]))
    else:
        shapes = initial_shapes(module, c)
    rng = np.random.default_rng(seed)
    params = {}
    for path, leaf in flatten_dict(shapes).items():
        value = rng.normal(size=leaf.shape)
        if path[-1] == "kernel":
            value /= np.sqrt(np.prod(leaf.shape[-3:-1]))
        elif path[-1] == "scale":  # of an actnorm, or a weight norm's gain
            value = np.sign(value) * np.exp(0.3 * value)
        if path[-2] in ("out", "odd_out") or path[-1] in ("bias", "loc"):
            value *= 0.3
        params[path] = value.astype(x.dtype)
    return unflatten_dict(params)


def pair(bijector: Any, params: Any, mask: Any = None) -> Bijector:
    """What a case calls a bijector, as one."""
    if isinstance(bijector, Part):
        return bijector.bijector(params, mask)
    if isinstance(bijector, nn.Module):
        apply = partial(bijector.apply, {"params": params}, mask=mask)
        return Bijector(partial(apply, method="forward"), partial(apply, method="inverse"))
    return bijector if isinstance(bijector, Bijector) else bijector(params)


@pytest.mark.parametrize(("dtype", "close"), [("float64", 1e-9), ("float32", 1e-4)])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_bijector(case, dtype, close):
    """Inverse both ways, logdet = log|det Jacobian|, and the same without jit (of whole models one, it is slow)."""
    with jax.enable_x64(dtype == "float64"):
        x, c, noise = (normal(i, 2, *shape).astype(dtype) for i, shape in enumerate((case.x, case.c, case.x)))
        if isinstance(case.bijector, nn.Module | Part):
            params = random_params(case.bijector, x, c)
        else:
            params = jax.tree.map(lambda p: p.astype(dtype), case.params)

        @jit
        def forward(params, x, c):
            """z, c', logdet, and the Jacobian of each example, [2, T · C, T · C] of its real part."""

            def flat(x):
                z, *rest = pair(case.bijector, params, case.mask).forward(x, c)
                return z.reshape(2, -1)[:, : case.real], (z, *rest)

            jacobian, outputs = jax.jacrev(flat, has_aux=True)(x)
            return *outputs, jnp.stack([jacobian[i, :, i].reshape(-1, x[i].size)[:, : case.real] for i in range(2)])

        inverse = jit(lambda params, z, c: pair(case.bijector, params, case.mask).inverse(z, c))
        z, c_z, logdet, jacobian = forward(params, x, c)
        back = inverse(params, z, c_z)
        noise = noise.reshape(z.shape)
        again, c_again, *_ = forward(params, *inverse(params, noise, c_z))
        assert z.dtype == logdet.dtype == back[0].dtype == dtype
        assert logdet.shape == (2,)
        for found, expected in [
            (back[0], x),
            (back[1], c),
            (again, noise),
            (c_again, c_z),
            (logdet, np.linalg.slogdet(np.asarray(jacobian))[1]),
        ]:
            np.testing.assert_allclose(found, expected, rtol=close, atol=close)
        if dtype == "float64" and (case.mask is not None or not isinstance(case.bijector, FloWaveNet)):
            eager = pair(case.bijector, params, case.mask).forward(x, c)
            jax.tree.map(partial(np.testing.assert_allclose, rtol=close, atol=close), (z, c_z, logdet), eager)


@pytest.mark.parametrize("name", ANY_HOP)
def test_padding_changes_nothing_for_any_hop(x64, name):
    """Neither noise nor logdet, whatever stands behind the end."""
    model = ANY_HOP[name]
    x, c = normal(0, 2, 5 * model.hop, 1), normal(1, 2, 5, 6)
    params = random_params(model, x, c)
    mask, real = np.broadcast_to(np.arange(5)[:, None] < 3, (2, 5, 1)), 3 * model.hop
    forward = jit(partial(model.apply, method="forward"))
    z, _, logdet = forward({"params": params}, x[:, :real], c[:, :3])
    padded, _, same = forward({"params": params}, x, c, mask)
    np.testing.assert_allclose(padded[:, :real], z, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(same, logdet, rtol=1e-9)


def test_samples_after_the_last_whole_position_pass_by_later_blocks():
    """What is left of 30 samples: 2 for positions of 4 samples, and 6 for those of 8; both go through the first."""
    model = ANY_HOP["6"]
    x, c = normal(0, 2, 30, 1).astype("float32"), normal(1, 2, 5, 6).astype("float32")
    params = random_params(model, x, c)
    forward = jit(partial(model.apply, method="forward"))
    expected = forward({"params": params}, x, c)[0]
    for i, left in ((1, 2), (2, 6)):
        other = params | {f"block_{i}": jax.tree.map(lambda a: 1.5 * a, params[f"block_{i}"])}
        changed = np.any(forward({"params": other}, x, c)[0] != expected, axis=(0, 2))
        assert not changed[30 - left :].any()
        assert changed[: 30 - left].any()


def test_actnorm_is_initialised_from_data():
    """On the batch that initialises it, what leaves every actnorm has mean 0 and standard deviation 1 per channel."""
    model = MODELS["split after every block"]
    x, c = (3 * normal(0, 2, 64, 1) + 1).astype("float32"), normal(1, 2, 8, 6).astype("float32")
    params = random_params(model, x, c)
    found = jit(partial(model.apply, method="statistics"))({"params": params}, x, c)
    params = unflatten_dict(flatten_dict(params) | flatten_dict(found))
    heard, flows = c, 0
    c, weights = model.apply({"params": params}, heard, method="conditioned")
    for block, own in zip(model.blocks, weights.values(), strict=True):
        x, c, _ = squeeze.forward(x, c)
        for flow in unstack({"flows": own["flows"]})["flows"]:
            first, *others = block.flow.steps(flow, None)
            x, c, _ = first.forward(x, c)
            np.testing.assert_allclose(np.mean(x, (0, 1)), 0, atol=1e-5)
            np.testing.assert_allclose(np.std(x, (0, 1), ddof=1), 1, rtol=1e-4)
            x, c, _ = chain(*others).forward(x, c)
            flows += 1
        x = halves(x)[0] if block.prior else x
    assert flows == model.n_block * model.n_flow


@pytest.mark.parametrize(
    ("name", "dtype", "close"),
    [
        ("split after every block", "float64", 1e-11),
        ("odd number of flows", "float32", 1e-5),
        ("causal", "float32", 1e-5),
        ("conditioned by frames", "float64", 1e-11),
        ("conditioned by frames, odd in x", "float64", 1e-11),
        ("conditioned by frames, three blocks", "float32", 1e-5),
    ],
)
def test_padding_changes_nothing(name, dtype, close):
    """Two lengths in one batch, large values in the padding of the shorter one: it comes out as if it were alone."""
    model = MODELS[name]
    with jax.enable_x64(dtype == "float64"):
        x, c, noise = (normal(i, 2, *shape).astype(dtype) for i, shape in enumerate([(64, 1), (8, 6), (64, 1)]))
        params = random_params(model, x, c)
        alone = x[:1, :40].copy(), c[:1, :5].copy(), noise[:1, :40].copy()
        for array, real in ((x, 40), (c, 5), (noise, 40)):
            array[0, real:] *= 1e3
        mask = np.arange(8)[:, None] < np.array([5, 8])[:, None, None]

        @jit
        def both(params, x, c, noise, mask=None):
            b = pair(model, params, mask)
            z, _, logdet = b.forward(x, c)
            return z, b.inverse(noise, c)[0], logdet

        z, audio, logdet = both(params, x, c, noise, mask)
        found, expected = (z[:1, :40], audio[:1, :40], logdet[:1]), both(params, *alone)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=close, atol=close), found, expected)


@pytest.mark.parametrize("causal", [True, False])
def test_causality(x64, causal):
    """A causal net's Jacobian is zero above the diagonal, in x and in c; a causal model's in its squeezed steps."""
    x, c = normal(0, 1, 12, 2), normal(1, 1, 12, 3)
    wavenet = WaveNet(features=2, channels=16, causal=causal)
    shapes = jax.eval_shape(lambda: wavenet.init(jax.random.key(0), x, c))["params"]
    params = jax.tree.map(lambda leaf: normal(2, *leaf.shape), shapes)
    for argument in (0, 1):
        jacobian = jit(jax.jacrev(lambda *args: wavenet.apply({"params": params}, *args)[0], argument))(x, c)
        reach = np.abs(jacobian).sum((1, 2, 4))  # [time out, time in]
        assert np.all(np.diag(reach) > 0)
        assert np.all(np.triu(reach, 1) == 0) if causal else np.any(np.triu(reach, 1) > 0)

    model = TINY(block_per_split=1, causal=causal)
    x, mel = normal(0, 1, 32, 1), normal(1, 1, 4, 6)
    params = random_params(model, x, mel)
    jacobian = jit(jax.jacrev(lambda x: pair(model, params).forward(x, mel)[0][0, :, 0]))(x)[:, 0, :, 0]
    reach = np.abs(jacobian).reshape(8, 4, 8, 4).sum((1, 3))
    assert np.all(np.triu(reach, 1) == 0) if causal else np.any(np.triu(reach, 1) > 0)


def test_weight_norm_is_a_transform_of_the_tree(x64):
    """Added, it changes nothing; a gain makes the norm of its channel, of every convolution but the zero ones."""
    params = random_params(MODELS["split after every block"], normal(0, 2, 32, 1), normal(1, 2, 4, 6))
    normed = flatten_dict(add_weight_norm(params))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12), fold_weight_norm(add_weight_norm(params)), params)
    gains = {path: normal(7, *leaf.shape) for path, leaf in normed.items() if path not in flatten_dict(params)}
    kernels = {path[:-1] for path in normed if path[-1] == "kernel" and path[-2] != "out"}
    assert kernels == {path[:-1] for path in gains}
    folded = flatten_dict(fold_weight_norm(unflatten_dict(normed | gains)))
    assert folded.keys() == flatten_dict(params).keys()
    for path, gain in gains.items():
        kernel, before = folded[*path[:-1], "kernel"], normed[*path[:-1], "kernel"]
        np.testing.assert_allclose(np.sqrt((kernel**2).sum((-3, -2))), abs(gain), rtol=1e-12)
        assert np.all(np.sign(kernel) == np.sign(before * gain[..., None, None, :]))


def test_draw():
    """Every convolution, as `init` draws it: uniform in ±1/√fan_in; and nothing else."""
    model = TINY(block_per_split=1, n_flow=1, channels=16)
    initial = jit(partial(model.init, method="conditioned"))(jax.random.key(0), np.zeros((1, 4, 6), "float32"))[
        "params"
    ]
    shapes = jax.eval_shape(lambda: initial)
    drawn = flatten_dict(draw(shapes, np.random.default_rng(0)))
    initial = flatten_dict(initial)
    assert drawn.keys() == {path for path in initial if not {"actnorm", "out", "upsample"} & set(path)}
    for params in (drawn, initial):
        spread = []
        for path in drawn:
            value, kernel = params[path], params[*path[:-1], "kernel"]
            assert (value.shape, value.dtype) == (initial[path].shape, "float32")
            spread.append(np.ravel(value) * np.sqrt(math.prod(kernel.shape[-3:-1])))
        spread = np.concatenate(spread)
        assert np.abs(spread).max() <= 1 + 1e-6
        np.testing.assert_allclose([spread.mean(), spread.std()], [0, 1 / np.sqrt(3)], atol=0.02)


def test_the_papers_size():
    """As many parameters as the official model, gains of weight norm included."""
    shapes = jax.eval_shape(add_weight_norm, initial_shapes(FloWaveNet(), np.zeros((1, 2, 80), "float32")))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 182_644_788


@pytest.mark.parametrize(
    "factor", [1, 2, 3, 8, Fraction(75, 64), Fraction(3, 2), Fraction(2, 3), Fraction(1, 2), Fraction(7, 8)], ids=str
)
def test_interpolation_between_frames(x64, factor):
    a = normal(0, 2, 5, 3)
    length = math.ceil(5 * factor)
    found = interpolate(extended(jnp.asarray(a)), factor, length=length + 3)
    assert found.shape == (2, length + 3, 3)
    for example, channel in np.ndindex(2, 3):
        expected = np.interp((np.arange(length) + 0.5) / float(factor) - 0.5, np.arange(5), a[example, :, channel])
        np.testing.assert_allclose(found[example, :length, channel], expected, atol=1e-12)
    assert interpolate(extended(jnp.asarray(a, jnp.bfloat16)), factor).dtype == jnp.bfloat16


def test_upsampling_can_begin_as_linear_interpolation(x64):
    mel = np.abs(normal(0, 1, 6, 5))
    upsample = Upsample((4, 2), linear=True)
    c = upsample.apply(upsample.init(jax.random.key(0), mel), mel)
    assert c.shape == (1, 48, 5)
    for band in range(5):
        once = np.interp((np.arange(24) + 0.5) / 4 - 0.5, np.arange(6), mel[0, :, band])
        twice = np.interp((np.arange(48) + 0.5) / 2 - 0.5, np.arange(24), once)
        np.testing.assert_allclose(c[0, 8:-8, band], twice[8:-8], atol=1e-12)
