"""Densities in nats, elementwise, and what a network says of one sample of audio: a `Distribution`.

The log-scale floors of this project are written here and nowhere else.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
LOG_2PI = float(np.log(2 * np.pi))

GAUSSIAN_FLOOR = -9.0  # of log_sd, in the likelihood of a Gaussian WaveNet (official ClariNet: loss.py, gaussian_loss)
KL_FLOOR = -6.0  # of both log_sd in the divergence that a student learns by (official ClariNet: loss.py, KL_gaussians)
LOGISTIC_FLOOR = -14.0  # of log_scale: one so narrow has all of its mass in one of the bins, narrower changes nothing
BINS = 2**16  # the values of 16-bit audio: -1, -1 + LSB, …, 1 - LSB
LSB = 2 / BINS  # one step of it


class Base(NamedTuple):
    """The noise that an inverse autoregressive flow begins with, of location 0 and scale 1.

    log_prob: z [...] -> log-density [...].  draw: (key, shape) -> z.  entropy: in nats; of scale exp(log_s) it is
    entropy + log_s, in closed form.
    """

    log_prob: Callable[[Array], Array]
    draw: Callable[..., Array]
    entropy: float


class Distribution(NamedTuple):
    """p(x | θ) of one sample of audio x [...], where a network gives θ [..., features].

    log_prob: (θ, x) -> log-density in nats, [...].
    noise: (key, shape) -> [*shape, n], what `sample` is a function of; it does not depend on θ.
    sample: (θ, noise [..., n], temperature) -> x [...]. Temperature scales the noise: 1 is the density, 0 its mode or,
        of a mixture, the location of its most probable component.
    integers: the distribution is over the BINS values of 16-bit audio, not over real numbers.
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
    """KL(q ‖ p) of two Gaussians, elementwise, neither log_sd below `floor` (ClariNet, equation 6)."""
    log_sd_q, log_sd_p = jnp.maximum(log_sd_q, floor), jnp.maximum(log_sd_p, floor)
    d = log_sd_p - log_sd_q
    return d + 0.5 * (jnp.exp(-2 * d) + jnp.square((mean_q - mean_p) * jnp.exp(-log_sd_p)) - 1)


def gaussian() -> Distribution:
    """θ = (mean, log_sd), log_sd not below GAUSSIAN_FLOOR (ClariNet, section 3.1).

    What is sampled is not cut to ±1, as the official code does: it has the density that is reported.
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
    """log of the mass of a logistic in the bin [x - LSB/2, x + LSB/2]; the outermost of the BINS reach to infinity.

    Beyond them, where only a student's audio gets to, x has a bin like any other: overshooting wins no tail's mass.

    F(b) - F(a) = σ(b) · σ(-a) · (1 - exp(a - b)), with a - b = -LSB / scale whatever x: no difference of nearly equal
    numbers, so it is exact far into the tails. x need not be the centre of a bin; the result is smooth in it.
    """
    rate = jnp.exp(-log_scale)
    distance, half = (x - mean) * rate, 0.5 * LSB * rate
    lowest, highest = jnp.abs(x + 1) < LSB / 2, jnp.abs(x - (1 - LSB)) < LSB / 2
    below_top = jnp.where(highest, 0, jax.nn.log_sigmoid(distance + half))
    above_bottom = jnp.where(lowest, 0, jax.nn.log_sigmoid(half - distance))
    # 1 - exp(-w): of a bin narrow against the scale by its series, which does not underflow however flat the logistic
    w, enough = 2 * half, 1e-2
    series = np.log(LSB) - log_scale - w / 2 + jnp.square(w) / 24
    inner = jnp.where(w < enough, series, jnp.log(-jnp.expm1(-jnp.maximum(w, enough))))
    return below_top + above_bottom + jnp.where(lowest | highest, 0, inner)


def mixture_of_logistics(components: int = 10) -> Distribution:
    """θ = (logits, means, log_scales) of logistics over the BINS values of 16-bit audio (Salimans et al. 2017, 2.1).

    log_prob is comparable to a density's: log P(bin) - log LSB, the log-density of audio plus noise uniform over one
    16-bit step. Its largest value is -log LSB = 10.4 nats. What is sampled is one of the BINS values exactly.
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
