"""The distilled systems: flows whose likelihood is exact, and losses that reach the student alone."""

import ast
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import USUAL_ROUNDING
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict
from test_autoregressive import jit, normal

from experiments import (
    clarinet,
    flowavenet_causal,
    flowavenet_no_split,
    parallel_wavenet,
    tiny_clarinet,
    tiny_parallel_wavenet,
)
from fwn import config as configs
from fwn.files import torch_reader
from fwn.flows.densities import BASES, DISTRIBUTIONS, KL_FLOOR, gaussian_kl
from fwn.models import iaf
from fwn.models.autoregressive import from_fields
from fwn.models.iaf import IAF, to_noise
from fwn.nn.weight_norm import add_weight_norm, fold_weight_norm
from fwn.official import importer
from fwn.systems import build
from fwn.systems.losses import frame_loss, power_loss, signs, style_loss
from fwn.training.parallel import Parallel

GOLDEN = Path(__file__).parent / "golden"
FIELDS = {"stacks": (1, 2), "n_layer": 2, "channels": 6, "gate_channels": 5, "skip_channels": 7} | {
    "front_kernel": 4,
    "upsample_strides": (2, 4),
}
MODEL = iaf.from_fields(**FIELDS)
TEACHER = {"n_stack": 1, "n_layer": 3, "channels": 6, "gate_channels": 5, "skip_channels": 8} | {
    "kernel_size": 2,
    "front_kernel": 4,
    "upsample_strides": (2, 4),
}
LOSS = {
    "clarinet": {"kl": 1.0, "regularisation": 4.0, "frame": 1.0},
    "parallel_wavenet": {"kl": 1.0, "power": 0.1, "style": 1.0, "contrastive": 0.3, "samples": 3},
}
TEACHES = {"clarinet": "gaussian", "parallel_wavenet": "mixture_of_logistics"}
NOISE = {"clarinet": "gaussian", "parallel_wavenet": "logistic"}


def random(shapes: Any, seed: int = 0) -> Any:
    """Weights away from every special value, small enough that no flow saturates."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape) * 0.7, shapes)


def normed(params: Any) -> Any:
    """With weight norm, but for the upsampling, which is the teacher's."""
    return {name: node if name == "upsample" else add_weight_norm(node) for name, node in params.items()}


def student_params(model: IAF, seed: int = 0) -> Any:
    shapes = jax.eval_shape(
        lambda: model.init(
            jax.random.key(0),
            jnp.zeros((1, 8, 1)),
            jnp.zeros((1, 1, 3)),
            method=lambda m, z, mel: m(z, m.condition(mel)),
        )
    )
    return fold_weight_norm(random(jax.eval_shape(normed, shapes["params"]), seed))


def teacher(name: str) -> tuple[ConfigDict, Any]:
    """(config, plain params) of a small one that `name` learns from."""
    config = ConfigDict({"system": "wavenet", "model": TEACHER | {"distribution": TEACHES[name]}})
    _, model = from_fields(**config.model)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 1)), jnp.zeros((1, 1, 3))))["params"]
    return config, fold_weight_norm(random(jax.eval_shape(add_weight_norm, shapes), 1))


def config(name: str, loss: Any = None, **fields: Any) -> ConfigDict:
    loss = LOSS[name] | (loss or {})
    return ConfigDict(
        {"system": name, "model": FIELDS | fields, "loss": loss, "teacher": "runs/teacher", "batch_size": 2}
    )


def batch(frames: int = 130, size: int = 2) -> dict[str, np.ndarray]:
    audio, mel = 0.1 * normal(0, size, 8 * frames), normal(1, size, frames, 3)
    return {"audio": audio, "mel": mel, "other": np.roll(mel, 1, axis=0), "index": np.arange(size)}


def test_jacobian(x64):
    """dx/dz is lower triangular with diagonal exp(log_s); mu and log_s are of the noise before; x = mu + exp(log_s) z.

    mu and log_s are those of the explicit composition of the flows one by one.
    """
    model = MODEL
    params, z, c = student_params(model), normal(0, 24), normal(1, 1, 24, 3)

    def run(z):
        return tuple(a[0, :, 0] for a in model.apply({"params": params}, z[None, :, None], c))

    x, mu, log_s = jit(run)(z)
    dx, dmu, dlog_s = jit(jax.jacrev(run))(z)
    assert np.all(np.triu(dx, 1) == 0)
    np.testing.assert_allclose(np.diag(dx), np.exp(log_s), rtol=1e-12)
    for d in (dmu, dlog_s):
        assert np.all(np.triu(d) == 0)
        assert np.all(np.diag(d, -1) != 0)
    np.testing.assert_allclose(x, mu + np.exp(log_s) * z, rtol=0, atol=1e-12)
    explicit = z[None, :, None]
    for i, stacks in enumerate(FIELDS["stacks"]):
        one = iaf.from_fields(**FIELDS | {"stacks": (stacks,)})
        explicit, _, _ = one.apply(
            {"params": {"flows_0": params[f"flows_{i}"], "upsample": params["upsample"]}}, explicit, c
        )
    np.testing.assert_allclose(x, explicit[0, :, 0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(jit(partial(to_noise, model, params))(x[None], c)[0], z, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", LOSS)
def test_likelihood_is_the_change_of_variables(x64, name):
    """log p(x) = log p(z) - log |det dx/dz|, of two lengths in one batch, with large values in the padding."""
    system, base = build(config(name)), BASES[NOISE[name]]
    params = student_params(MODEL)
    mel, audio = normal(0, 2, 3, 3), 0.3 * normal(1, 2, 24)
    mel[1, 2:], audio[1, 16:] = 1e3, 1e3
    nats = jit(system.log_likelihood)(params, audio, mel, np.array([3, 2]))
    model = MODEL

    @jit
    def expected(audio, mel):
        c = model.apply({"params": params}, mel, method="condition")
        z = to_noise(model, params, audio, c)
        jacobian = jax.jacrev(lambda z: model.apply({"params": params}, z[None, :, None], c)[0][0, :, 0])(z[0])
        return (base.log_prob(z).sum() - jnp.linalg.slogdet(jacobian)[1]) / audio.size

    for b, frames in enumerate((3, 2)):
        whole = expected(audio[b : b + 1, : 8 * frames], mel[b : b + 1, :frames])
        np.testing.assert_allclose(nats[b], whole, rtol=1e-9)


@pytest.mark.parametrize("name", LOSS)
def test_samples(x64, name):
    """Padded to another length they are the same; the noise that they are made of scales with the temperature."""
    system, model = build(config(name)), MODEL
    params, mel, keys = student_params(model), normal(0, 2, 5, 3), jax.random.split(jax.random.key(0), 2)
    mel[1, 3:] = 1e3
    run = jit(system.sample)
    samples = run(params, mel, keys, 0.8, np.array([5, 3]))
    alone = run(params, mel[1:, :3], keys[1:], 0.8)
    np.testing.assert_allclose(alone[0], samples[1, :24], rtol=0, atol=1e-12)
    c = model.apply({"params": params}, mel[:1], method="condition")
    z = [jit(partial(to_noise, model, params))(run(params, mel[:1], keys[:1], t), c) for t in (0.0, 0.8, 1.6)]
    np.testing.assert_allclose(z[0], 0, atol=1e-9)
    np.testing.assert_allclose(2 * z[1], z[2], atol=1e-9)


def test_golden_student(x64):
    """Its architecture, and to 1e-9 its audio, mu, log_s, and the divergence from its teacher with the regulariser.

    The official student's first sample is what comes before our first.
    """
    with np.load(GOLDEN / "clarinet_tiny.npz") as file:
        golden = {name: a.swapaxes(1, 2) if a.ndim == 3 else a for name, a in file.items()}
    taught = importer.convert(torch_reader.read(GOLDEN / "clarinet_tiny_teacher.pth"), "teacher", 1)
    upsample = fold_weight_norm(taught.params["upsample"])
    system, fields, params, n_mels = importer.convert(
        torch_reader.read(GOLDEN / "clarinet_tiny_student.pth"), "student", 1, upsample
    )
    stated = ast.literal_eval(str(golden["config"]))["student"]
    assert (system, n_mels) == ("clarinet", 80)
    assert fields == {
        "stacks": tuple(stated["num_blocks"]),
        "n_layer": stated["num_layers"],
        "channels": stated["residual_channels"],
        "gate_channels": stated["gate_channels"],
        "skip_channels": stated["skip_channels"],
        "kernel_size": stated["kernel_size"],
        "front_kernel": stated["front_channels"],
        "upsample_strides": (16, 16),
    }
    model, (_, wavenet) = iaf.from_fields(**fields), from_fields(**taught.fields)
    params, teacher_params = (
        fold_weight_norm(jax.tree.map(lambda a: a.astype("float64"), p)) for p in (params, taught.params)
    )

    @jax.jit
    def run(z, mel):
        c = model.apply({"params": params}, mel, method="condition")
        x, mu, log_s = model.apply({"params": params}, z[:, 1:], c[:, :-1], z[:, :1])
        theta = wavenet.wavenet.apply({"params": teacher_params["net"]}, jnp.pad(x, ((0, 0), (1, 0), (0, 0))), c)
        mean, log_sd = jnp.split(theta[:, :-1], 2, axis=-1)
        return x, mu, log_s, gaussian_kl(mu, log_s, mean, log_sd), jnp.square(log_s - log_sd)

    found = dict(
        zip(("student_x", "student_mu", "student_log_s", "kl", "reg"), run(golden["z"], golden["c"]), strict=True)
    )
    assert np.all(golden["student_x"][:, 0] == 0)
    for name, value in found.items():
        expected = golden[name][:, -value.shape[1] :]
        np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    ("mean_q", "log_sd_q", "mean_p", "log_sd_p"),
    [(0.1, -2.0, 0.1, -2.0), (0.1, -2.0, -0.2, -1.0), (0.0, -1.0, 0.3, -1.5), (0.2, -9.0, 0.201, -8.0)],
)
def test_closed_form_divergence(x64, rng, mean_q, log_sd_q, mean_p, log_sd_p):
    """Against the mean of log q - log p over draws from q, within four standard errors; 0 at equality; floored."""
    sd_q, sd_p = (np.exp(max(log_sd, KL_FLOOR)) for log_sd in (log_sd_q, log_sd_p))
    x = mean_q + sd_q * rng.normal(size=400_000)
    ratio = ((x - mean_p) / sd_p) ** 2 / 2 + np.log(sd_p) - ((x - mean_q) / sd_q) ** 2 / 2 - np.log(sd_q)
    found = gaussian_kl(mean_q, log_sd_q, mean_p, log_sd_p)
    assert abs(found - ratio.mean()) <= 4 * ratio.std() / np.sqrt(x.size) + 1e-12
    assert (found == 0) == ((mean_q, log_sd_q) == (mean_p, log_sd_p))


@pytest.mark.parametrize("name", BASES)
def test_base(x64, name):
    """Integrates to one, has the entropy that it states, and draws from itself."""
    base, x = BASES[name], np.linspace(-60, 60, 120_001)
    density = np.exp(base.log_prob(x))
    assert np.trapezoid(density, x) == pytest.approx(1, abs=1e-9)
    assert -np.trapezoid(density * base.log_prob(x), x) == pytest.approx(base.entropy, abs=1e-9)
    drawn = -base.log_prob(base.draw(jax.random.key(0), (200_000,)))
    assert abs(np.mean(drawn) - base.entropy) < 4 * np.std(drawn) / np.sqrt(drawn.size)
    assert np.all(np.isfinite(jax.vmap(jax.grad(base.log_prob))(np.array([-1e3, 0.0, 1e3]))))


@pytest.mark.parametrize("name", BASES)
def test_no_draw_is_absurd(name):
    """The uniform number behind draw 286,683 of this key is 0, of which the logarithm is -87."""
    assert np.max(np.abs(BASES[name].draw(jax.random.key(4), (300_000,)))) < 17


def test_divergence_from_a_mixture(x64):
    """Cross-entropy minus closed-form entropy is what numerical integration of q log(q / p) gives."""
    name = "parallel_wavenet"
    said, frozen = teacher(name)
    system = build(config(name, {"power": 0.0, "style": 0.0, "contrastive": 0.0, "samples": 3000}), said)
    # A student and a teacher that say the same at every position: their biases.
    student, frozen = jax.tree.map(lambda a: 0 * a, (student_params(MODEL), frozen))
    mu, log_s, theta = 0.02, -2.0, np.concatenate([normal(1, 10), 0.1 * normal(2, 10), normal(3, 10) - 3])
    student["flows_1"]["out"]["bias"] = np.array([mu, log_s])
    frozen["net"]["out"]["bias"] = theta
    _, metrics = jit(system.loss)(student, frozen, batch(6), jax.random.key(0))
    x = mu + np.exp(log_s) * np.linspace(-40, 40, 80_001)
    log_q = BASES["logistic"].log_prob((x - mu) / np.exp(log_s)) - log_s
    log_p = DISTRIBUTIONS[TEACHES[name]]().log_prob(theta, x)
    expected = np.trapezoid(np.exp(log_q) * (log_q - log_p), x)
    np.testing.assert_allclose(metrics["kl"], expected, rtol=0.02)


@pytest.mark.parametrize(
    ("loss", "degree"),
    [(frame_loss, 2), (power_loss, 4), (style_loss, 4)],
    ids=["frame", "power", "style"],
)
def test_auxiliary_loss(x64, loss, degree):
    """0 at equality, with gradient 0, and finite on silence; else positive, of its degree; deaf to what it may be.

    Frame and power to the sign of the audio, style to the order in time.
    """
    audio, other, flipped = normal(0, 2, 1500), normal(1, 2, 1500), (lambda a: -a)
    if loss is style_loss:
        audio, other = ({"a": x, "b": x[..., ::2]} for x in (normal(0, 2, 50, 6), normal(1, 2, 50, 6)))
        flipped = partial(jax.tree.map, lambda a: a[:, ::-1])
    run = jit(jax.value_and_grad(loss), compiler_options=USUAL_ROUNDING)
    silence, twice = jax.tree.map(np.zeros_like, audio), jax.tree.map(lambda a: 2 * a, audio)
    for a, b in ((audio, audio), (silence, silence)):
        value, gradient = run(a, b)
        assert value == 0
        assert all(np.all(g == 0) for g in jax.tree.leaves(gradient))
    for a in (silence, other):
        value, gradient = run(a, audio)
        assert value > 0
        assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(gradient))
    # ‖2^k φ - φ‖² against ‖φ‖², with φ of degree k
    expected = (2 ** (degree / 2) - 1) ** 2 * run(audio, silence)[0]
    np.testing.assert_allclose(run(twice, audio)[0], expected, rtol=1e-5)  # SILENCE is beside the power
    assert run(jax.tree.map(np.asarray, flipped(audio)), audio)[0] < 1e-3


def test_signs(x64):
    """Ten times the level is 20 dB; each sign is a mean over examples, as the mean over devices is."""
    audio = np.stack([normal(0, 9000), 0.5 * normal(1, 9000)])
    found = signs(10 * audio, audio)
    np.testing.assert_allclose(found["level_ratio_db"], 20)
    each = [signs(10 * audio[b : b + 1], audio[b : b + 1]) for b in (0, 1)]
    for name, value in found.items():
        np.testing.assert_allclose(value, np.mean([one[name] for one in each]), rtol=1e-9)
    assert each[0]["peak"] == 10 * np.abs(audio[0]).max()


@pytest.mark.parametrize("name", LOSS)
def test_bfloat16(name):
    """Of networks, the teacher's too: losses near float32's, and the very likelihood, whose flows are undone in it."""
    taught, frozen = teacher(name)
    floats = frozen, student_params(MODEL), batch(66)
    frozen, params, example = jax.tree.map(lambda a: a.astype("float32") if a.dtype == "float64" else a, floats)
    found = []
    for dtype in (None, "bfloat16"):
        taught.model.dtype = dtype
        system = build(config(name, dtype=dtype), taught)
        (loss, metrics), grads = jit(jax.value_and_grad(system.loss, has_aux=True))(
            params, frozen, example, jax.random.key(0)
        )
        assert all(g.dtype == np.float32 and np.isfinite(g).all() for g in jax.tree.leaves(grads))
        nats = jit(system.log_likelihood)(params, example["audio"][:, :64], example["mel"][:, :8])
        found.append((metrics | {"loss": loss}, nats))
    (exact, nats), (near, same) = found
    for term in exact:
        np.testing.assert_allclose(near[term], exact[term], rtol=0.05, atol=0.05, err_msg=term)
    assert near["loss"] != exact["loss"]
    np.testing.assert_array_equal(nats, same)


def test_contrastive_of_one_mel(x64):
    """Where the other example has the same mel, it is minus the divergence: the same draws, the same teacher."""
    said, frozen = teacher("parallel_wavenet")
    system, params, example = (
        build(config("parallel_wavenet"), said),
        student_params(MODEL),
        batch(),
    )
    run = jit(system.loss)
    _, apart = run(params, frozen, example, jax.random.key(0))
    _, same = run(params, frozen, example | {"other": example["mel"]}, jax.random.key(0))
    assert abs(apart["contrastive"] + apart["kl"]) > 1e-3
    np.testing.assert_allclose(same["contrastive"], -same["kl"], rtol=1e-12)


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_four_devices_are_one(mode, x64):
    """Every term and the gradient, each device having one example: the contrastive term pairs it with another's."""
    said, frozen = teacher("parallel_wavenet")
    system, params, example = (
        build(config("parallel_wavenet"), said),
        student_params(MODEL),
        batch(16, size=4),
    )
    gradient, parallel, key = jax.value_and_grad(system.loss, has_aux=True), Parallel(mode, 4), jax.random.key(0)
    expected = jit(gradient)(params, frozen, example, key)
    step = parallel.compile(lambda params, frozen, batch, mean: mean(gradient)(params, frozen, batch, key))
    given = {name: a for name, a in example.items() if name != "other"}  # which the devices find by themselves
    found = step(*jax.device_put((params, frozen), parallel.replicated), parallel.batch(given))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", LOSS)
def test_gradients(x64, name):
    """Every parameter of the student but the last residuals, which nothing uses, and the teacher's upsampling.

    The teacher's are 0; loss and gradient are finite on silence and on full scale; every term is logged by its name.
    """
    said, frozen = teacher(name)
    system, params, example = build(config(name), said), normed(student_params(MODEL)), batch()
    gradient = jit(jax.value_and_grad(system.loss, argnums=(0, 1), has_aux=True))
    for audio in (example["audio"], 0 * example["audio"], np.sign(example["audio"])):
        (loss, metrics), (grads, of_teacher) = gradient(params, frozen, example | {"audio": audio}, jax.random.key(0))
        assert np.isfinite(loss)
        assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
        assert not any(np.any(g) for g in jax.tree.leaves(of_teacher))
        weights = {term: weight for term, weight in LOSS[name].items() if term != "samples"}
        np.testing.assert_allclose(loss, sum(weight * metrics[term] for term, weight in weights.items()), rtol=1e-9)
        assert {"level_ratio_db", "peak", "line_noise"} <= metrics.keys()
        unused = {path for path, g in flatten_dict(grads, sep="/").items() if not np.any(g)}
        last = {f"flows_0/residual_1/{leaf}" for leaf in ("kernel", "scale", "bias")}
        last |= {f"flows_1/residual_3/{leaf}" for leaf in ("kernel", "scale", "bias")}
        assert unused == last | {path for path in flatten_dict(grads, sep="/") if path.startswith("upsample")}


@cache  # with all terms it is the same for each term that is left out
def losses(name: str, left_out: str | None = None) -> tuple[Any, Any]:
    """(loss, metrics)"""
    said, frozen = teacher(name)
    system = build(config(name, {} if left_out is None else {left_out: 0.0}), said)
    return jit(system.loss)(student_params(MODEL), frozen, batch(), jax.random.key(0))


@pytest.mark.parametrize(
    ("name", "term"), [(name, term) for name, terms in LOSS.items() for term in terms if term != "samples"]
)
def test_a_term_is_left_out(x64, name, term):
    """Of weight 0 it is neither added nor logged, and the others are as they were."""
    (_, whole), (loss, rest) = losses(name), losses(name, term)
    assert whole.keys() - rest.keys() == {term}
    for other in rest:
        np.testing.assert_allclose(rest[other], whole[other], rtol=1e-9)
    weights = {t: w for t, w in LOSS[name].items() if t not in (term, "samples")}
    np.testing.assert_allclose(loss, sum(w * rest[t] for t, w in weights.items()), rtol=1e-9)


def test_first_upsampling_is_the_teachers(x64):
    said, frozen = teacher("clarinet")
    params = build(config("clarinet"), said).init(jax.random.key(0), batch(2), {}, frozen)
    jax.tree.map(np.testing.assert_array_equal, params["upsample"], frozen["upsample"])


@pytest.mark.parametrize(
    "experiment",
    [clarinet, parallel_wavenet, flowavenet_causal, flowavenet_no_split, tiny_clarinet, tiny_parallel_wavenet],
)
def test_experiments(experiment):
    """Whole configs whose systems build, at the papers' sizes."""
    settings = experiment.get_config()
    configs.check(settings, configs.mel_of(settings), "config")
    example = {"audio": np.zeros((1, 2**14), "float32"), "mel": np.zeros((1, 64, 80), "float32")}
    shapes = jax.eval_shape(partial(build(settings).init, drawn={}), jax.random.key(0), example)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))

    def flows(gate: int, layers: int, n: int) -> int:
        layer = 2 * gate * (3 * 64 + 80 + 2 + 2) + (64 + 64) * (gate + 2)
        return layers * layer + n * (64 * (32 + 2) + 64 * (64 + 2) + 2 * (64 + 2)) + 2 * (3 * 32 + 1)

    papers = {"clarinet": flows(128, 60, 6), "parallel_wavenet": flows(64, 60, 4), "flowavenet_causal": 182_644_788}
    ours = {"flowavenet_no_split": 181_129_876, "tiny_clarinet": 337_874, "tiny_parallel_wavenet": 502_226}
    name = experiment.__name__.rpartition(".")[2]
    assert count == (papers | ours)[name]
