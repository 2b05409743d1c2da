"""Linear prediction: the filters that a mel makes are stable, their gradients right, and audio comes back."""

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from test_bijectors import jit, normal

from experiments import lite, tiny, wavenet_gaussian
from fwn.flows.prediction import autocorrelation, filtered, levinson, prediction, recursion, two_stages
from fwn.mel import PRESETS, align
from fwn.nn.envelope import Envelope, log_spectrum
from fwn.systems import build

CONTRACTS = PRESETS | {
    "24 kHz, hop 300": dataclasses.replace(
        PRESETS["tacotron2"], sample_rate=24000, n_fft=2048, win_length=1200, hop_length=300, fmin=80.0, fmax=7600.0
    ),
    "16 kHz, 40 bands, htk": dataclasses.replace(
        PRESETS["hifigan"], sample_rate=16000, n_fft=512, win_length=400, hop_length=200, n_mels=40, filter_scale="htk"
    ),
    "bands without norm": dataclasses.replace(PRESETS["tacotron2"], power=2, filter_norm="none"),
}


def reflections(a: np.ndarray) -> np.ndarray:
    """Largest |reflection coefficient| of each filter a [n, p] (a_1 … a_p), by the step-down recursion in float64.

    All below 1 if and only if all poles are within the unit circle (Schur-Cohn).
    """
    a = np.concatenate([np.ones((len(a), 1)), a.astype(np.longdouble)], axis=1)
    largest = np.zeros(len(a))
    for m in range(a.shape[1] - 1, 0, -1):
        k = a[:, m : m + 1]
        largest = np.maximum(largest, np.abs(k[:, 0]).astype(float))
        a = (a[:, :m] - k * a[:, m:0:-1]) / (1 - k * k)
    return largest


def poles(radius: float, order: int, rng: np.random.Generator) -> np.ndarray:
    """a_1 … a_p of a filter with all poles at this radius: anywhere, or as many harmonics of one pitch."""
    if order > 4:
        return np.append(np.zeros(order - 1), -(radius**order))
    angles = np.pi * (np.arange(order // 2) + rng.uniform(0.3, 0.7)) / (order // 2)
    roots = radius * np.exp(1j * np.concatenate([angles, -angles, [0.0][: order % 2]]))
    return np.poly(roots).real[1:]


@pytest.mark.parametrize("order", [1, 2, 7, 64, 256])
def test_levinson_is_the_solution_of_the_normal_equations(x64, order):
    """And its gradient, which keeps nothing of the recursion, is that of solving them."""
    spectrum = np.exp(normal(0, 2 * 256 + 1, 3))

    def solved(spectrum):
        r = autocorrelation(spectrum, order, 0.0)
        matrix = r[np.abs(np.subtract.outer(np.arange(order), np.arange(order)))].transpose(2, 0, 1)
        a = jnp.linalg.solve(matrix, -r[1:].T[..., None])[..., 0].T
        return jnp.concatenate([jnp.ones_like(a[:1]), a]), r[0] + jnp.sum(a * r[1:], axis=0)

    def ours(spectrum):
        return levinson(autocorrelation(spectrum, order, 0.0), 0.0)

    weights = normal(1, order + 1, 3), normal(2, 3)
    for found, expected in zip(jit(ours)(spectrum), jit(solved)(spectrum), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)

    def total(f, spectrum):
        a, error = f(spectrum)
        return jnp.sum(weights[0] * a) + jnp.sum(weights[1] * jnp.log(error))

    found, expected = (jit(jax.grad(partial(total, f)))(spectrum) for f in (ours, solved))
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8 * abs(expected).max())


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS.keys())
def test_the_mel_of_white_noise_is_undone(contract):
    """Flat, at the level of the noise: within what the mean of a logarithm is below the logarithm of a mean."""
    contract = dataclasses.replace(contract, peak=None)
    for level in (0.01, 0.1):
        noise = level * np.random.default_rng(0).normal(size=8 * contract.sample_rate).astype(np.float32)
        found = np.asarray(log_spectrum(jnp.asarray(align(noise, contract)[1]), contract, 257)).mean(axis=0)
        np.testing.assert_allclose(found.mean(), 2 * math.log(level), atol=0.25)
        assert found.std() < 0.25


def strange_mels(contract, rng):
    """Every kind of finite mel that is no speech, [8, M] each."""
    low, high = contract.value_range
    shape = 8, contract.n_mels
    yield "zeros", np.zeros(shape)
    yield "ones", np.ones(shape)
    yield "lowest", np.full(shape, low)
    yield "highest", np.full(shape, high)
    yield "noise", rng.normal(size=shape)
    yield "range", rng.uniform(low, high, shape)
    yield "either end", rng.choice([low, high], shape)
    yield "lines", np.where(rng.uniform(size=shape) < 0.03, high, low)
    yield "other contracts", rng.uniform(-12, 2, shape)
    yield "decibels", rng.uniform(-100, 40, shape)
    yield "huge", rng.choice([-3e38, 3e38], shape)


@pytest.mark.parametrize("order", [(1, 0), (12, 0), (40, 8), (256, 16)])
@pytest.mark.parametrize("contract", [PRESETS["flowavenet"], PRESETS["hifigan"]], ids=["flowavenet", "hifigan"])
def test_every_finite_mel_makes_stable_filters(contract, order):
    """Whatever the correction: a search by random mels and random weights finds none that is not."""
    envelope = Envelope(contract, order=order[0], first_order=order[1], channels=8)
    shapes = jax.eval_shape(lambda: envelope.init(jax.random.key(0), np.zeros((1, 8, contract.n_mels))))["params"]
    filters = jit(envelope.apply)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        size = (0.0, 0.3, 3.0, 30.0)[seed]
        params = jax.tree.map(lambda a, rng=rng, size=size: size * rng.normal(size=a.shape).astype("float32"), shapes)
        for name, mel in strange_mels(contract, rng):
            a, log_g = filters({"params": params}, mel[None].astype("float32"))
            assert np.isfinite(a).all(), (name, seed)
            assert np.isfinite(log_g).all(), (name, seed)
            worst = reflections(np.asarray(a[0])).max()
            assert worst < 1, (name, seed, worst)


@jit  # compiled once for all signals
def there_and_back(x, a, log_g):
    b = prediction(a, log_g)
    e, _, logdet = b.forward(x, x)
    return b.inverse(e, x)[0], logdet


@pytest.mark.parametrize(("dtype", "close"), [("float64", 1e-9), ("float32", 1e-4)])
@pytest.mark.parametrize(
    "audio", ["noise", "silence", "full-scale square", "impulse"], ids=lambda name: name.replace(" ", "-")
)
def test_audio_comes_back(dtype, close, audio):
    """Through filters with poles at 0.999, of every order."""
    time = np.arange(512)
    signals = {
        "noise": normal(0, 512),
        "silence": np.zeros(512),
        "full-scale square": np.where(time // 37 % 2, 1.0, -1.0),
        "impulse": (time == 100) * 1.0,
    }
    x = np.stack([signals[audio]] * 2)[..., None]
    with jax.enable_x64(dtype == "float64"):
        rng = np.random.default_rng(0)
        for order in (1, 2, 4, 31, 256):
            a = np.stack([[poles(0.999, order, rng)] * 8 for _ in range(2)]).astype(dtype)
            log_g = normal(1, 2, 8).astype(dtype)

            back, logdet = there_and_back(x.astype(dtype), a, log_g)
            np.testing.assert_allclose(back, x, atol=close * max(1, np.abs(x).max()))
            np.testing.assert_allclose(logdet, -64 * log_g.sum(axis=1), rtol=1e-5)


def test_the_recursion_is_that_of_samples_one_by_one(x64):
    """For any number of blocks that are joined, with the samples before, at orders below and above a block's length."""
    for order in (1, 5, 16, 40):
        a = 0.7 / order * normal(0, 2, 6, order)
        driven, past = normal(1, 2, 6, 16), normal(2, 2, order)
        x = np.concatenate([past, np.zeros((2, 96))], axis=1)
        for t in range(96):
            history = x[:, t : t + order][:, ::-1]
            x[:, order + t] = driven[:, t // 16, t % 16] - (a[:, t // 16] * history).sum(axis=1)
        for length in (1, 16, 32, 48, 1000):
            found = jit(partial(recursion, length=length))(driven, a, past)
            np.testing.assert_allclose(found, x[:, order:], atol=1e-12)
        np.testing.assert_allclose(jit(filtered)(x, a), driven, atol=1e-12)


def test_two_stages_are_one_filter(x64):
    """As good as one stage of the same order where float64 resolves both, and much better in float32."""
    frequency = np.linspace(0, np.pi, 513)[:, None]
    tilt = 1e-5 + 1 / (1.0001 - np.cos(frequency))  # 50 dB from one end to the other
    spectrum = tilt * np.exp(2 * np.cos(110 * frequency + np.arange(3)))

    def left(a):
        """The power that is left over the least that any filter leaves, in nepers."""
        gain = np.abs(np.fft.rfft(np.concatenate([np.ones((1, 3)), a]), 1024, axis=0)) ** 2
        return np.log((gain * spectrum)[:-1].mean(axis=0)) - np.log(spectrum).mean(axis=0)

    one, _ = two_stages(jnp.asarray(spectrum), 256, 0, (0.0, 0.0))
    two, _ = two_stages(jnp.asarray(spectrum), 256, 16, (0.0, 0.0))
    assert (left(two) < left(one) + 0.05).all()
    with jax.enable_x64(False):
        single, _ = two_stages(jnp.asarray(spectrum, jnp.float32), 256, 16, (1e-5, 1e-4))
    assert (left(np.asarray(single, float)) < left(two) + 0.05).all()


def batch(frames: int = 4, past: int = 0, size: int = 2) -> dict[str, np.ndarray]:
    audio = np.stack([small.speech(i, past + 256 * frames) for i in range(size)])
    mel = np.random.default_rng(0).uniform(0.2, 0.6, (size, frames, 80)).astype("float32")
    return {"audio": audio[:, past:], "past": audio[:, :past], "mel": mel, "index": np.arange(size, dtype=np.int32)}


def config(experiment=tiny, **rest):
    made = experiment.get_config()
    fields = small.MODEL if made.system == "flowavenet" else {"n_layer": 2, "channels": 8, "gate_channels": 8}
    made.model.update(fields | {"prediction": small.PREDICTION} | rest)
    return made


def without_memory(path, leaf):
    """Weights of a network that hears one position alone: couplings are identities, θ is a bias, filters are biases."""
    names = [entry.key for entry in path]
    if names[0] == "prediction":
        return normal(0, *leaf.shape) * 0.3 if names[-1] == "bias" else jnp.zeros_like(leaf)
    if names[-1] == "kernel":
        return jnp.zeros_like(leaf) if "block_0" in names and "out" in names else jnp.ones_like(leaf)
    return jnp.ones_like(leaf) if "actnorm" in names and names[-1] == "scale" else jnp.zeros_like(leaf)


@pytest.mark.parametrize("made", [config(n_block=1), config(wavenet_gaussian)], ids=["flowavenet", "wavenet"])
def test_a_crop_with_its_past_is_as_likely_as_in_the_utterance(made, x64):
    """Of an utterance's halves, each with the samples before it, likelihoods are those of the whole."""
    system = build(made)
    assert system.past == 12
    example = jax.tree.map(lambda a: a.astype("float64") if a.dtype == np.float32 else a, batch(8, 12))
    params = jax.eval_shape(system.init, jax.random.key(0), example, {})
    params = jax.tree_util.tree_map_with_path(without_memory, params)
    audio, past, half = example["audio"], example["past"], 4 * 256
    mel = np.repeat(example["mel"][:, :1], 8, axis=1)

    def nats(audio, mel, past):
        return jit(system.log_likelihood)(params, audio, mel, None, past)

    first = nats(audio[:, :half], mel[:, :4], past)
    second = nats(audio[:, half:], mel[:, 4:], audio[:, half - 12 : half])
    np.testing.assert_allclose((first + second) / 2, nats(audio, mel, past), rtol=1e-9)
    assert (np.abs(nats(audio[:, half:], mel[:, 4:], None) - second) > 1e-4).all()


def test_off_is_the_model_without_it():
    """Order 0 has no weights and no samples before a crop."""
    made = config()
    made.model.prediction.order = 0
    system = build(made)
    shapes = jax.eval_shape(system.init, jax.random.key(0), batch(), {})
    assert (system.past, "prediction" in shapes, system.recurrence) == (0, False, None)


def test_gradients_reach_the_correction():
    system = build(config())
    example = batch(8, 12)
    params = jit(system.init)(jax.random.key(0), example, {})
    gradient = jit(jax.grad(lambda p: system.loss(p, (), example, jax.random.key(0))[0]))(params)["prediction"]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert float(jnp.abs(gradient["out"]["kernel"]).max()) > 0
    trained = jax.tree.map(lambda a: a + 0.05, params)
    gradient = jit(jax.grad(lambda p: system.loss(p, (), example, jax.random.key(0))[0]))(trained)["prediction"]
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(gradient))


def test_lite_and_tiny_have_it():
    for experiment in (lite, tiny):
        assert build(experiment.get_config()).past == 256


@pytest.mark.parametrize("made", [config(), config(odd=True), config(causal=True)], ids=["plain", "odd", "causal"])
def test_padding_changes_nothing(made, x64):
    """A short utterance beside a longer one, with large values behind its end, is as it is alone, both ways."""
    system = build(made)
    example = jax.tree.map(lambda a: a.astype("float64") if a.dtype == np.float32 else a, batch(8, 12))
    shapes = jax.eval_shape(system.init, jax.random.key(0), example, {})
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: 0.2 * rng.normal(size=a.shape) + (a.ndim == 1), shapes)
    audio, mel, frames = example["audio"].copy(), example["mel"].copy(), np.array([5, 8])
    alone = audio[:1, : 5 * 256], mel[:1, :5]
    audio[0, 5 * 256 :], mel[0, 5:] = 30.0, 50.0
    keys = jax.random.split(jax.random.key(1), 2)
    likelihood, sample = jit(system.log_likelihood), jit(system.sample)
    found = likelihood(params, audio, mel, frames)[:1]
    np.testing.assert_allclose(found, likelihood(params, *alone), rtol=1e-9)
    together = sample(params, mel, keys, 1.0, frames)[0, : 5 * 256]
    np.testing.assert_allclose(together, sample(params, alone[1], keys[:1], 1.0)[0], rtol=1e-7, atol=1e-9)
    back = jit(system.roundtrip)(params, audio, mel, frames)
    np.testing.assert_allclose(back[1], audio[1], rtol=1e-7, atol=1e-9)


def loops(jaxpr):
    """The lengths of all scans in a program."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield equation.params["length"]
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                yield from loops(getattr(inner, "jaxpr", inner))


def test_no_loop_is_over_samples():
    """On no platform: the recursion takes a step a block of 128 samples on a CPU, and a step a frame elsewhere."""
    system = build(config())
    example = batch(40, 12)
    params = jax.eval_shape(system.init, jax.random.key(0), example, {})
    keys = jax.random.split(jax.random.key(0), 2)
    lengths = set(loops(jax.make_jaxpr(system.sample)(params, example["mel"], keys, 1.0).jaxpr))
    assert lengths >= {40, 80}
    assert max(lengths) == 80
