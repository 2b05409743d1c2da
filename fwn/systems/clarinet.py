"""Gaussian IAF, distilled from a Gaussian WaveNet in closed form (ClariNet: Ping et al. 2019, section 3).

Official code: ksw0306/ClariNet, train_student.py and loss.py, KL_gaussians. There the first sample has no part in it.
"""

from typing import Any

import jax
import jax.numpy as jnp

from fwn.flows.densities import Distribution, gaussian_kl
from fwn.systems.base import System
from fwn.systems.losses import frame_loss
from fwn.systems.student import Lesson, Terms, student

Array = jax.Array
TERMS = ("kl", "regularisation", "frame")  # the weights that config.loss has


def build(config: Any, teacher: Any = None) -> System:
    """config.model: IAF's fields. config.loss: weights of TERMS; the paper's forms kl, frame and kl+frame are two of
    them at 0, or none. teacher: as in systems.student.
    """

    def terms(said: Distribution) -> Terms:
        del said  # its θ is (mean, log_sd), and the divergence has a floor of its own

        def kl(lesson: Lesson) -> Array:
            theta, _ = lesson.of_audio
            return jnp.mean(gaussian_kl(lesson.mu, lesson.log_s, theta[..., 0], theta[..., 1]))

        def regularisation(lesson: Lesson) -> Array:
            theta, _ = lesson.of_audio
            return jnp.mean(jnp.square(lesson.log_s - theta[..., 1]))

        def frame(lesson: Lesson) -> Array:
            return frame_loss(lesson.audio, lesson.recording)

        return {"kl": kl, "regularisation": regularisation, "frame": frame}

    return student(config, teacher, "gaussian", "gaussian", terms)
