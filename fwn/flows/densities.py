"""Log-densities in nats, elementwise, and the distributions of one sample of audio that a network parametrises.

All log-scale floors of this project are here.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
LOG_2PI = float(np.log(2 * np.pi))

GAUSSIAN_FLOOR = -9.0  # least log_sd of a Gaussian WaveNet (official ClariNet: loss.py, gaussian_loss)
KL_FLOOR = -6.0  # least log_sd of both sides in a student's KL divergence (official ClariNet: loss.py, KL_gaussians)
LOGISTIC_FLOOR = -14.0  # least log_scale: all of the mass is in one bin then, so a lower one changes nothing
BINS = 2**16  # 16-bit audio has the values -1, -1 + LSB, …, 1 - LSB
LSB = 2 / BINS  # one 16-bit step


class Base(NamedTuple):
    """Base distribution of an inverse autoregressive flow, with location 0 and scale 1.

    log_prob: z [...] -> log-density [...]. draw: (key, shape) -> z. entropy: in nats; with scale exp(log_s) it is
    entropy + log_s.
    """

    log_prob: Callable[[Array], Array]
    draw: Callable[..., Array]
    entropy: float


class Distribution(NamedTuple):
    """p(x | θ) for one sample of audio x [...], with θ [..., features] from a network.

    log_prob: (θ, x) -> log-density in nats, [...].
    noise: (key, shape) -> [*shape, n], independent of θ.
    sample: (θ, noise [..., n], temperature) -> x [...]. Temperature scales the noise: 1 samples from the density, 0
        gives its mode, or the location of a mixture's most probable component.
    integers: whether the distribution is over the BINS values of 16-bit audio instead of real numbers.
    """

    features: int
    log_prob: Callable[[Array, Array], Array]
    noise: Callable[..., Array]
    sample: Callable[..., Array]
    integers: bool = False


def normal_log_prob(x: Array, mean: Array | float = 0.0, log_sd: Array | float = 0.0) -> Array:
    """log N(x; mean, exp(log_sd)²)."""
    return -0.5 * LOG_2PI - log_sd - 0.5 * jnp.square((x - mean) * jnp.exp(-jnp.asarray(log_sd)))


def logistic_log_prob(x: Array) -> Array:
    """log of the standard logistic density, 1 / (e^{x/2} + e^{-x/2})²."""
    return jax.nn.log_sigmoid(x) + jax.nn.log_sigmoid(-x)


def draw_logistic(key: Array, shape: tuple[int, ...]) -> Array:
    """Standard logistic noise, within ±17: jax.random.logistic is -87, a click, once in 2^23 draws (6 minutes)."""
    u = jax.random.uniform(key, shape, minval=2.0**-24)
    return jnp.log(u) - jnp.log1p(-u)


BASES = {
    "gaussian": Base(normal_log_prob, jax.random.normal, 0.5 * (LOG_2PI + 1)),
    "logistic": Base(logistic_log_prob, draw_logistic, 2.0),
}


def gaussian_kl(mean_q: Array, log_sd_q: Array, mean_p: Array, log_sd_p: Array, floor: float = KL_FLOOR) -> Array:
    """KL(q ‖ p) of two Gaussians, elementwise, with both log_sd at least `floor` (ClariNet, equation 6)."""
    log_sd_q, log_sd_p = jnp.maximum(log_sd_q, floor), jnp.maximum(log_sd_p, floor)
    d = log_sd_p - log_sd_q
    return d + 0.5 * (jnp.exp(-2 * d) + jnp.square((mean_q - mean_p) * jnp.exp(-log_sd_p)) - 1)


def gaussian() -> Distribution:
    """θ = (mean, log_sd), log_sd at least GAUSSIAN_FLOOR (ClariNet, section 3.1).

    Samples are not clipped to ±1, so that they have the reported density; the official code clips them.
    """

    def parameters(theta: Array) -> tuple[Array, Array]:
        return theta[..., 0], jnp.maximum(theta[..., 1], GAUSSIAN_FLOOR)

    def log_prob(theta: Array, x: Array) -> Array:
        return normal_log_prob(x, *parameters(theta))

    def noise(key: Array, shape: tuple[int, ...]) -> Array:
        return jax.random.normal(key, (*shape, 1))

    def sample(theta: Array, noise: Array, temperature: Array | float) -> Array:
        mean, log_sd = parameters(theta)
        return mean + temperature * jnp.exp(log_sd) * noise[..., 0]

    return Distribution(2, log_prob, noise, sample)


def logistic_bin_log_prob(x: Array, mean: Array, log_scale: Array) -> Array:
    """log of the mass of a logistic in the bin [x - LSB/2, x + LSB/2]; the lowest and highest bin include the tails.

    x outside of ±1 has a bin of ordinary width, so a student gains nothing by overshooting.

    F(b) - F(a) = σ(b) · σ(-a) · (1 - exp(a - b)) with a - b = -LSB / scale. This does not subtract nearly equal
    numbers, so it is exact far into the tails. It is smooth in x, which need not be the centre of a bin.
    """
    rate = jnp.exp(-log_scale)
    distance, half = (x - mean) * rate, 0.5 * LSB * rate
    lowest, highest = jnp.abs(x + 1) < LSB / 2, jnp.abs(x - (1 - LSB)) < LSB / 2
    below_top = jnp.where(highest, 0, jax.nn.log_sigmoid(distance + half))
    above_bottom = jnp.where(lowest, 0, jax.nn.log_sigmoid(half - distance))
    # log(1 - exp(-w)): by its series where the bin is narrow against the scale, which does not underflow
    w, enough = 2 * half, 1e-2
    series = np.log(LSB) - log_scale - w / 2 + jnp.square(w) / 24
    inner = jnp.where(w < enough, series, jnp.log(-jnp.expm1(-jnp.maximum(w, enough))))
    return below_top + above_bottom + jnp.where(lowest | highest, 0, inner)


def mixture_of_logistics(components: int = 10) -> Distribution:
    """θ = (logits, means, log_scales) of logistics over the BINS values of 16-bit audio (Salimans et al. 2017, 2.1).

    log_prob compares with a density: log P(bin) - log LSB is the log-density of audio plus noise uniform over one
    16-bit step, at most -log LSB = 10.4 nats. Samples are exactly among the BINS values.
    """

    def parameters(theta: Array) -> tuple[Array, Array, Array]:
        logits, means, log_scales = jnp.split(theta, 3, axis=-1)
        return logits, means, jnp.maximum(log_scales, LOGISTIC_FLOOR)

    def log_prob(theta: Array, x: Array) -> Array:
        logits, means, log_scales = parameters(theta)
        each = jax.nn.log_softmax(logits) + logistic_bin_log_prob(x[..., None], means, log_scales)
        return jax.nn.logsumexp(each, axis=-1) - np.log(LSB)

    def noise(key: Array, shape: tuple[int, ...]) -> Array:
        which, where = jax.random.split(key)
        gumbel = jax.random.gumbel(which, (*shape, components))
        return jnp.concatenate([gumbel, draw_logistic(where, (*shape, 1))], axis=-1)

    def sample(theta: Array, noise: Array, temperature: Array | float) -> Array:
        logits, means, log_scales = parameters(theta)
        chosen = jax.nn.one_hot(jnp.argmax(logits + temperature * noise[..., :-1], axis=-1), components, dtype=bool)
        mean, log_scale = (jnp.sum(jnp.where(chosen, a, 0), axis=-1) for a in (means, log_scales))
        x = mean + temperature * jnp.exp(log_scale) * noise[..., -1]
        return jnp.clip(jnp.round(x / LSB) * LSB, -1, 1 - LSB)  # the outermost bins reach to infinity

    return Distribution(3 * components, log_prob, noise, sample, integers=True)


DISTRIBUTIONS = {"gaussian": gaussian, "mixture_of_logistics": mixture_of_logistics}
