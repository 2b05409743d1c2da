"""Densities integrate to one, bins sum to one, samples have the density that is reported; all finite at the edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fwn.flows.densities import (
    BINS,
    DISTRIBUTIONS,
    GAUSSIAN_FLOOR,
    LOGISTIC_FLOOR,
    LSB,
    gaussian,
    logistic_bin_log_prob,
    mixture_of_logistics,
    normal_log_prob,
)

LEVELS = -1 + LSB * np.arange(BINS)
# Of one logistic: in the middle, between two bins, at and beyond either end, from far below a bin to flat.
MEANS = [0.0, 0.3 + LSB / 2, -1.0, 1.0, 1 - LSB / 2, -3.0, 50.0]
LOG_SCALES = [-40.0, LOGISTIC_FLOOR, -10.0, -5.8, -5.0, 0.0, 3.0, 100.0]


@pytest.mark.parametrize(("dtype", "close"), [("float64", 1e-9), ("float32", 1e-3)])
@pytest.mark.parametrize("mean", MEANS)
def test_bins_sum_to_one(mean, dtype, close):
    """Of a mixture whose components are this one at every scale, each in turn nearly certain, and all alike."""
    with jax.enable_x64(dtype == "float64"):
        n = len(LOG_SCALES)
        logits = np.concatenate([20 * np.eye(n), np.zeros((1, n))])
        theta = np.concatenate([logits, np.full_like(logits, mean), np.broadcast_to(LOG_SCALES, logits.shape)], axis=-1)
        log_prob = jax.jit(mixture_of_logistics(n).log_prob)
        log_bins = jnp.stack([log_prob(t[None], LEVELS.astype(dtype)) for t in theta.astype(dtype)]) + np.log(LSB)
        assert log_bins.dtype == dtype
        assert np.all(np.isfinite(log_bins))
        assert np.all(log_bins < close)
        np.testing.assert_allclose(np.exp(np.asarray(log_bins, float)).sum(axis=1), 1, atol=close)


def test_bin_is_a_difference_of_distribution_functions(x64):
    """In the middle, where the plain formula holds; and far out against its leading term."""
    mean, log_scale = 0.1, -5.0
    x = np.linspace(0.02, 0.18, 17)

    def cdf(x):
        return 1 / (1 + np.exp(-(x - mean) / np.exp(log_scale)))

    expected = np.log(cdf(x + LSB / 2) - cdf(x - LSB / 2))
    np.testing.assert_allclose(logistic_bin_log_prob(x, mean, log_scale), expected, rtol=1e-6)
    density = -0.9 * np.exp(5.0) - log_scale + np.log(LSB)  # e^-|z| / s · width at 0.9 from the mean
    np.testing.assert_allclose(logistic_bin_log_prob(mean - 0.9, mean, log_scale), density, rtol=1e-6)


@pytest.mark.parametrize("log_sd", [GAUSSIAN_FLOOR, -20.0, -5.0, 0.0])
def test_gaussian_integrates_to_one(x64, log_sd):
    """At and below its floor as well, where it is the floor's."""
    sd = np.exp(max(log_sd, GAUSSIAN_FLOOR))
    x = 0.3 + sd * np.linspace(-12, 12, 4001)
    density = np.exp(gaussian().log_prob(np.array([0.3, log_sd]), x))
    np.testing.assert_allclose(np.trapezoid(density, x), 1, rtol=1e-9)


def test_mixture_integrates_to_one(x64):
    """Between the bins' centres, too: it is the density of a mixture plus noise uniform over one step."""
    theta = np.array([0.3, -1.0, 0.2, -0.1, -9.0, -6.0])
    x = np.linspace(-0.4, 0.4, 800_001)
    density = np.exp(mixture_of_logistics(2).log_prob(theta, x))
    np.testing.assert_allclose(np.trapezoid(density, x), 1, rtol=1e-6)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("x", [0.0, -1.0, 1.0, 1 - LSB, 0.999])
def test_finite_on_silence_and_full_scale(name, x):
    """Value and gradient in float32, with parameters as wild as a first training step makes them."""
    distribution = DISTRIBUTIONS[name]()
    thetas = np.random.default_rng(0).normal(size=(64, distribution.features)) * np.logspace(-2, 2, 64)[:, None]
    thetas = np.concatenate([thetas, -thetas, np.zeros_like(thetas[:1])]).astype("float32")
    value, slope = jax.vmap(jax.value_and_grad(distribution.log_prob), (0, None))(thetas, np.float32(x))
    assert np.all(np.isfinite(value))
    assert np.all(np.isfinite(slope))


def test_gradient_matches_differences(x64):
    """In θ and in x, which a distilled student needs; at the outermost bins as well."""
    theta = np.random.default_rng(1).normal(size=6)
    theta[4:] -= 3
    log_prob = mixture_of_logistics(2).log_prob
    for x in np.array([0.1, -1.0, 1 - LSB]):
        for i, step in enumerate(1e-6 * np.eye(6)):
            expected = (log_prob(theta + step, x) - log_prob(theta - step, x)) / 2e-6
            np.testing.assert_allclose(jax.grad(log_prob)(theta, x)[i], expected, rtol=1e-5, atol=1e-6)
    x = np.array(0.1)
    expected = (log_prob(theta, x + 1e-6) - log_prob(theta, x - 1e-6)) / 2e-6
    np.testing.assert_allclose(jax.grad(log_prob, 1)(theta, x), expected, rtol=1e-5)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("log_scale", [-3.0, -9.0])
def test_samples_have_the_density(x64, name, log_scale):
    """Shares of many samples in intervals, against the density's integral over them (Kolmogorov's distance)."""
    distribution = DISTRIBUTIONS[name]()
    theta = np.random.default_rng(2).normal(size=distribution.features) * 0.3
    theta[-(distribution.features // 3 or 1) :] = log_scale
    n = 40_000
    noise = distribution.noise(jax.random.key(0), (n,))
    x = np.sort(distribution.sample(theta, noise, 1.0))
    mass = np.exp(jax.jit(distribution.log_prob)(theta, LEVELS)) * LSB
    shares = np.searchsorted(x, LEVELS + LSB / 2) / n
    assert np.abs(shares - np.cumsum(mass)).max() < 2 / np.sqrt(n)


def test_mixture_samples_are_levels_and_temperature_zero_is_the_likeliest_component():
    distribution = mixture_of_logistics(3)
    theta = np.array([0.0, 5.0, 1.0, -0.5, 0.25, 0.5, 2.0, 2.0, 2.0], "float32")
    noise = distribution.noise(jax.random.key(0), (1000,))
    x = np.asarray(distribution.sample(theta, noise, 1.0))
    assert np.isin(x, LEVELS.astype("float32")).all()
    assert x.min() == -1
    assert x.max() == np.float32(1 - LSB)
    np.testing.assert_array_equal(distribution.sample(theta, noise, 0.0), 0.25)


def test_normal(x64):
    np.testing.assert_allclose(normal_log_prob(jnp.array(1.3), 0.3, np.log(2.0)), -0.5 * np.log(8 * np.pi) - 0.125)
