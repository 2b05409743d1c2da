"""The training step: what a bad batch changes, averages and rates against NumPy, one device or four, in every mode.

All in float64, where equal means 1e-10: in float32 rounding alone makes losses differ by 1e-5.
"""

import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from fwn import config as configs
from fwn.data import loader
from fwn.data.corpus import Corpus
from fwn.systems import build
from fwn.systems.base import recorded
from fwn.systems.predictor import Predictor
from fwn.training.checkpoints import Checkpoints
from fwn.training.optimizer import schedule
from fwn.training.parallel import Parallel
from fwn.training.pooling import Pooled, pooled, pools, spread
from fwn.training.step import State, abstract, carried, complete, draw, initial, noisy, places, stored, train_step


@pytest.fixture(scope="module", autouse=True)
def wide():
    jax.config.update("jax_enable_x64", True)  # not the context, which orbax' threads do not see
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture(scope="module")
def config(corpus):
    """Four examples a step: one for each of the four devices. Noise on the mels is that of each example."""
    config = small.config(corpus, mel_noise=0.05)
    config.optimizer.update({"warmup": 2})
    return config


@pytest.fixture(scope="module")
def batches(config):
    stream = loader.batches(Corpus(config.data), "train", frames=8, batch_size=4, seed=1)
    return [{name: a.astype(np.float64) if a.ndim > 1 else a for name, a in stream[i].items()} for i in range(6)]


@pytest.fixture(scope="module")
def system(config):
    return build(config)


def away_from_identity(params, seed=1):
    """The weights with noise on all of them: couplings start as the identity, which hides most mistakes."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: np.asarray(a) + rng.normal(size=a.shape) * 0.05, params)


@pytest.fixture(scope="module")
def start(system, config, batches):
    """A state after initialisation, as NumPy arrays."""
    state = initial(system, config, Parallel("jit", 4), batches[0])
    params = away_from_identity(state.params)
    return jax.tree.map(np.asarray, complete(config, params))


@pytest.fixture(scope="module")
def one_device(system, config):
    """The reference: plain jit, which knows of no mesh."""
    step = jax.jit(partial(train_step(system, config), mean=lambda tree: tree))
    return lambda state, batch: step(state, (), batch)


@pytest.fixture(scope="module")
def four_devices(system, config, start):
    """{mode: (Parallel, its step, which donates the state)}"""
    step, steps = train_step(system, config), {}
    for mode in ("jit", "zero", "pmap"):
        parallel = Parallel(mode, config.batch_size)
        steps[mode] = parallel, parallel.compile(step, donate=True, carried=placed(start, parallel))
    return steps


def placed(state, parallel):
    return jax.device_put(state, places(state, parallel))


def runner(parallel, step):
    def run(state, *batches):
        state = placed(state, parallel)
        for batch in batches:
            state, metrics = step(state, (), parallel.batch(batch))
        return state, metrics

    return run


def assert_close(a, b, tolerance):
    """Leaf by leaf, relative to the size of the leaf."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        assert abs(x - y).max() <= tolerance * max(1e-2, abs(y).max()), jax.tree_util.keystr(path)


@pytest.mark.parametrize("mode", ["jit", "zero", "pmap"])
def test_four_devices_are_one(mode, four_devices, batches, start, one_device):
    """Loss, gradients (Adam's first moments after a step) and the weights after three steps."""
    assert jax.device_count() == 4
    run = runner(*four_devices[mode])
    state, metrics = run(start, batches[0])
    expected, figures = one_device(start, batches[0])
    assert_close(metrics, figures, 1e-10)
    assert_close(state.opt, expected.opt, 1e-10)
    state, metrics = run(start, *batches[:3])
    for batch in batches[1:3]:
        expected, figures = one_device(expected, batch)
    assert_close(metrics, figures, 1e-10)
    assert_close(state.params, expected.params, 1e-10)
    assert_close(state.ema, expected.ema, 1e-10)


@pytest.mark.parametrize("mode", ["jit", "zero"])
def test_steps_of_a_pooled_state_are_the_same(mode, system, config, batches, start, one_device):
    """Three steps, on four devices; back in the stored form, in which checkpoints are."""
    parallel = Parallel(mode, 4)
    state = carried(config, parallel, placed(start, parallel))
    assert len(jax.tree.leaves(state.params)) < 0.7 * len(jax.tree.leaves(start.params))
    step = parallel.compile(train_step(system, config, "cpu"), donate=True, carried=state)
    expected = start
    for batch in batches[:3]:
        state, metrics = step(state, (), parallel.batch(batch))
        expected, figures = one_device(expected, batch)
    assert_close(metrics, figures, 1e-10)
    back = stored(parallel, state)
    assert_close(back, expected, 1e-10)
    for a, place in zip(jax.tree.leaves(back), jax.tree.leaves(places(back, parallel)), strict=True):
        assert a.sharding.is_equivalent_to(place, a.ndim)


def test_pooled_modules_are_of_one_form_and_come_back(start, monkeypatch):
    """In the state, in its shapes, and where large modules stay alone."""
    forms = jax.eval_shape(pooled, start)
    for limit in (2**19, 200, 0):
        monkeypatch.setattr("fwn.training.pooling.LIMIT", limit)
        state = pooled(start)
        jax.tree.map(np.testing.assert_array_equal, spread(state), start)
        assert jax.tree.structure(spread(state)) == jax.tree.structure(start)
        together = state.params.together
        assert all(sum(a[0].size for a in module.values()) <= limit for module in together.values())
        assert bool(together) == (limit > 0)
    assert isinstance(forms.opt[0].mu, Pooled)
    assert forms.opt[0].mu.together.keys() == forms.params.together.keys()


def test_what_needs_the_names_of_arrays_is_not_pooled(config):
    assert pools(config)
    for field, value in {"freeze": "block_0", "optimizer.kind": "muon", "parallel": "pmap"}.items():
        other = config.copy_and_resolve_references()
        other.update_from_flattened_dict({field: value})
        assert not pools(other)


def bytes_a_device(tree):
    return sum(np.prod(a.sharding.shard_shape(a.shape)) * a.dtype.itemsize for a in jax.tree.leaves(tree))


def test_zero_parts_moments_and_average_among_the_devices(four_devices, batches, start):
    """After a step as before it, and no device has the whole; what the devices cannot part is a small rest."""
    parallel, step = four_devices["zero"]
    state, _ = runner(parallel, step)(start, batches[0])
    before = placed(start, parallel)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(before), strict=True):
        assert a.sharding.is_equivalent_to(b.sharding, a.ndim)
    for name in ("opt", "ema"):
        whole = sum(a.nbytes for a in jax.tree.leaves(getattr(start, name)))
        assert whole / 4 <= bytes_a_device(getattr(state, name)) < 0.3 * whole
    assert bytes_a_device(state.params) == sum(a.nbytes for a in jax.tree.leaves(start.params))
    for leaf in jax.tree.leaves(state.opt):
        parted = next((i for i, n in enumerate(leaf.shape) if n % 4 == 0), None)
        expected = [n // 4 if i == parted else n for i, n in enumerate(leaf.shape)]
        assert list(leaf.sharding.shard_shape(leaf.shape)) == expected


def collected(program, collective):
    """(type, elements) of each array that the collectives of a kind return, from compiled HLO."""
    results = re.findall(rf"= (\S+|\(.*?\)) {collective}(?:-start)?\(", program)
    arrays = [found for result in results for found in re.findall(r"(\w+)\[([\d,]*)\]", result)]
    return [(kind, math.prod(int(n) for n in shape.split(",") if n)) for kind, shape in arrays]


@pytest.mark.parametrize("mode", ["jit", "zero"])
def test_gradients_are_added_up_once(mode, four_devices, batches, start):
    """Devices exchange no more numbers than there are weights, and a few metrics; in "zero" they return as weights."""
    parallel, step = four_devices[mode]
    program = step.lower(placed(start, parallel), (), parallel.batch(batches[0])).compile().as_text()
    summed, returned = collected(program, "all-reduce"), collected(program, "all-gather")
    weights = sum(a.size for a in jax.tree.leaves(start.params))
    assert {kind for kind, _ in summed + returned} == {"f64"}
    assert 0.9 * weights < sum(n for _, n in summed) < weights + 20
    assert (0.9 * weights if mode == "zero" else -1) < sum(n for _, n in returned) <= weights
    for other in ("all-to-all", "reduce-scatter", "collective-permute"):
        assert not collected(program, other)


@pytest.mark.parametrize("mode", ["jit", "zero", "pmap"])
def test_networks_of_half_precision_have_weights_and_gradients_of_full(mode, config, batches):
    """Gradients between the devices too, each once. Not of compiled HLO, where XLA for the CPU widens what it adds."""
    half = config.copy_and_resolve_references()
    half.model.dtype = "bfloat16"
    system, parallel = build(half), Parallel(mode, 4)
    state = abstract(system, half, parallel, batches[0])
    assert {a.dtype.itemsize for a in jax.tree.leaves((state.params, state.ema, state.opt))} <= {4, 8}
    step = parallel.compile(train_step(system, half), carried=state)
    program = step.lower(state, (), parallel.batch(batches[0])).as_text()
    assert "bf16" in program
    summed = re.findall(r"stablehlo\.all_reduce.*?-> tensor<([\dx]*)(\w+)>", program, re.DOTALL)
    assert {kind for _, kind in summed} <= {"f32", "f64"}
    sizes = [math.prod(int(n) for n in shape.split("x") if n) for shape, _ in summed]
    metrics = [1, 1]  # the loss, and nats_per_sample
    assert sorted(sizes) == sorted(metrics + [a.size for a in jax.tree.leaves(state.params)])


def test_initialisation_is_of_the_whole_batch(system, config, batches):
    """ActNorms over four devices are those of the batch on one, and the first one's are its mean and deviation."""
    state = initial(system, config, Parallel("jit", 4), batches[0])
    shapes = jax.eval_shape(system.init, jax.random.key(0), batches[0], {})
    drawn = draw(shapes, np.random.default_rng(config.seed))
    key = jax.random.key(config.seed)
    expected = jax.jit(system.init)(key, batches[0], drawn)
    assert_close(state.params, expected, 1e-10)
    audio, past = recorded(batches[0], key, True)
    predict, mel = Predictor(config, None), batches[0]["mel"]
    excitation = jax.jit(lambda p: predict(p, mel, past=past).forward(audio[..., None], mel)[0])(expected)
    squeezed = np.asarray(excitation).reshape(-1, 2)
    normal = expected["block_0"]["flows"]["actnorm"]
    np.testing.assert_allclose(np.ravel(normal["loc"][0]), -squeezed.mean(0), atol=1e-12)
    np.testing.assert_allclose(np.ravel(normal["scale"][0]), 1 / squeezed.std(0, ddof=1), rtol=1e-4)  # σ + 1e-6


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_a_bad_batch_changes_the_counts_only(bad, system, config, batches, start, one_device):
    broken = batches[1] | {"audio": batches[1]["audio"].copy()}
    broken["audio"][2, 5] = bad
    before, _ = one_device(start, batches[0])
    after, metrics = one_device(before, broken)
    assert not np.isfinite(metrics["loss"]) or not np.isfinite(metrics["gradient_norm"])
    assert (int(after.step), int(after.skipped), int(after.skipped_in_all)) == (2, 1, 1)
    for name in ("params", "ema", "opt"):
        jax.tree.map(np.testing.assert_array_equal, getattr(after, name), getattr(before, name))
    again, metrics = one_device(after, broken)
    assert (int(again.skipped), int(metrics["skipped"]), int(metrics["skipped_in_all"])) == (2, 2, 2)
    on, metrics = one_device(again, batches[2])
    assert (int(on.step), int(on.skipped), int(on.skipped_in_all)) == (4, 0, 2)
    assert np.isfinite(metrics["loss"])


def test_average_and_rate_are_numpys(system, config, batches, start, one_device):
    state, average, rates = start, start.ema, []
    for step, batch in enumerate(batches[:4]):
        state, metrics = one_device(state, batch)
        decay = min(config.ema_decay, (1 + step) / (10 + step))
        average = jax.tree.map(lambda e, p, d=decay: d * e + (1 - d) * np.asarray(p), average, state.params)
        rates.append(float(metrics["rate"]))
    assert_close(state.ema, average, 1e-12)
    rate = config.optimizer.learning_rate
    np.testing.assert_allclose(rates, [rate / 2, rate, rate, rate], rtol=1e-6)


def test_noise_on_mels(batches):
    """Normal, of the given deviation, other in every step and for every example; nothing else changes."""
    key, batch = jax.random.key(0), batches[0]
    assert noisy(batch, key, 0.0) is batch
    found = [noisy(batch, jax.random.fold_in(key, step), 0.05) for step in range(2)]
    noise = np.stack([one["mel"] - batch["mel"] for one in found])  # [step, example, frames, bands]
    np.testing.assert_allclose([noise.mean(), noise.std()], [0, 0.05], atol=2e-3)
    flat = noise.reshape(8, -1) / 0.05
    assert abs(flat @ flat.T / flat.shape[1] - np.eye(8)).max() < 0.2
    assert all(one[name] is batch[name] for one in found for name in batch if name != "mel")


def test_the_schedule_is_a_ramp_and_a_staircase(config):
    settings = config.optimizer.copy_and_resolve_references()
    settings.update({"learning_rate": 1e-3, "warmup": 4, "halve_every": 10})
    steps = np.array([0, 1, 3, 4, 9, 10, 19, 20, 35])
    expected = 1e-3 * np.minimum(1, (steps + 1) / 4) * 0.5 ** (steps // 10)
    np.testing.assert_allclose([float(schedule(settings)(jnp.asarray(s))) for s in steps], expected, rtol=1e-6)


def single(a):
    """A copy, float64 as float32: orbax' threads may know nothing of enable_x64."""
    return np.array(a, np.float32 if a.dtype == np.float64 else None)


def test_a_save_under_donated_steps_holds_the_state_of_its_moment(
    system, config, four_devices, batches, start, tmp_path
):
    parallel, step = four_devices["jit"]
    state = jax.device_put(start, parallel.replicated)
    checkpoints, then = Checkpoints(tmp_path, config, configs.mel_of(config)), {}
    for i in range(1, 6):
        state, _ = step(state, (), parallel.batch(batches[i % 6]))
        then[i] = jax.tree.map(single, state)
        checkpoints.save(i, *state.split(), None)
        for _ in range(3):
            state, _ = step(state, (), parallel.batch(batches[0]))
        checkpoints.wait()
        found = State.merge(*checkpoints.load(i, *state.split()))
        jax.tree.map(np.testing.assert_array_equal, jax.tree.map(single, found), then[i])
    checkpoints.close()


@pytest.mark.parametrize(("written", "read"), [("jit", "zero"), ("zero", "jit")])
def test_a_checkpoint_of_one_mode_is_read_in_another(written, read, config, start, tmp_path):
    """The same numbers, and each where the mode that reads has it."""
    checkpoints = Checkpoints(tmp_path, config, configs.mel_of(config))
    state = jax.tree.map(single, start)
    checkpoints.save(1, *placed(state, Parallel(written, 4)).split())
    checkpoints.wait()
    like = placed(jax.tree.map(np.zeros_like, state), Parallel(read, 4))
    found = State.merge(*checkpoints.load(1, *like.split()))
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, found, state)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(like), strict=True):
        assert a.sharding.is_equivalent_to(b.sharding, a.ndim)


def test_silence_and_full_scale_can_be_trained_on(start, one_device, batches):
    """With weights that heard speech: the step is taken, its loss and gradient finite."""
    for audio in (np.zeros_like(batches[0]["audio"]), np.sign(batches[0]["audio"])):
        _, metrics = one_device(start, batches[0] | {"audio": audio})
        assert np.isfinite(metrics["loss"])
        assert np.isfinite(metrics["gradient_norm"])
        assert metrics["skipped"] == 0
