"""Parallel WaveNet: logistic IAFs, distilled from a mixture-of-logistics WaveNet (van den Oord et al. 2018).

The perceptual loss is the paper's style loss. It compares the skip outputs of the teacher's layers; the paper takes a
network that was trained to classify phones.
"""

from typing import Any

import jax
import jax.numpy as jnp

from fwn.errors import UserError
from fwn.flows.densities import BASES, Distribution
from fwn.systems.base import System
from fwn.systems.losses import power_loss, style_loss
from fwn.systems.student import Lesson, Terms, student

Array = jax.Array
TERMS = ("kl", "power", "style", "contrastive", "samples")  # the fields of config.loss


def build(config: Any, teacher: Any = None) -> System:
    """config.model: IAF's fields. teacher: as in systems.student. config.loss: weights of

    kl: H(P_S, P_T) - H(P_S), in nats per sample (equations 5-7). The entropy is in closed form, the cross-entropy of
        `samples` values at each position, drawn from P_S given the noise before it.
    power, style: losses.power_loss; losses.style_loss of the teacher's activations.
    contrastive: minus the divergence from the teacher that hears the mel of another example (section 4.4).
    """
    base, samples = BASES["logistic"], config.loss.samples
    if not isinstance(samples, int) or samples < 1:
        raise UserError(f"config.loss.samples is {samples!r}; it must be a whole number, at least 1")
    if config.loss.contrastive and config.batch_size == 1:
        raise UserError(
            "config.loss.contrastive needs the mel of another example: a config.batch_size of 2 or more, not 1"
        )

    def terms(said: Distribution) -> Terms:
        def divergence(lesson: Lesson, theta: Array) -> Array:
            shape = samples, lesson.mu.shape[1]
            z = jax.vmap(lambda key: base.draw(key, shape), out_axes=1)(lesson.keys).astype(lesson.mu.dtype)
            x = lesson.mu + jnp.exp(lesson.log_s) * z
            return -jnp.mean(said.log_prob(theta, x)) - jnp.mean(base.entropy + lesson.log_s)

        def kl(lesson: Lesson) -> Array:
            return divergence(lesson, lesson.of_audio[0])

        def power(lesson: Lesson) -> Array:
            return power_loss(lesson.audio, lesson.recording)

        def style(lesson: Lesson) -> Array:
            return style_loss(lesson.of_audio[1], lesson.of_recording[1])

        def contrastive(lesson: Lesson) -> Array:
            theta, _ = lesson.heard(lesson.audio, lesson.other)
            return -divergence(lesson, theta)

        return {"kl": kl, "power": power, "style": style, "contrastive": contrastive}

    return student(config, teacher, "logistic", "mixture_of_logistics", terms)
