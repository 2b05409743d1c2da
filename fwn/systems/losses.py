"""Auxiliary losses of distillation: they compare a student's audio with the recording, without its phase.

Audio is [B, T]; each loss is a scalar, 0 where both are equal.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from fwn.audio.spectral import line_excess, stft

Array = jax.Array
N_FFT, HOP = 1024, 256
SILENCE = 1e-10  # powers below this count as equal


def power_spectrogram(audio: Array) -> Array:
    """|STFT|² [B, frames, N_FFT // 2 + 1] with a Hann window, not scaled."""
    spectrum = stft(audio, N_FFT, HOP, xp=jnp)
    return jnp.square(spectrum.real) + jnp.square(spectrum.imag)


def frame_loss(audio: Array, recording: Array) -> Array:
    """Mean squared difference of STFT magnitudes (ClariNet, section 3.2.3).

    Official code: ksw0306/ClariNet, modules.py, stft: there no window.
    """
    a, b = (jnp.sqrt(power_spectrogram(x) + SILENCE) for x in (audio, recording))
    return jnp.mean(jnp.square(a - b))


def power_loss(audio: Array, recording: Array) -> Array:
    """‖φ(audio) - φ(recording)‖² / bins, φ the power of each frequency averaged over time (Parallel WaveNet, 4.2)."""
    a, b = (jnp.mean(power_spectrogram(x), axis=1) for x in (audio, recording))
    return jnp.mean(jnp.square(a - b))


def style_loss(features: Mapping[str, Array], recording: Mapping[str, Array]) -> Array:
    """Mean squared difference of Gram matrices over time [B, C, C] of activations [B, T, C], averaged over layers.

    They say which features occur together, not when (Parallel WaveNet, 4.3).
    """

    def gram(a: Array) -> Array:
        return jnp.einsum("btc,btd->bcd", a, a) / a.shape[1]

    differences = [jnp.mean(jnp.square(gram(a) - gram(recording[layer]))) for layer, a in features.items()]
    return jnp.mean(jnp.stack(differences))


def signs(audio: Array, recording: Array) -> dict[str, Array]:
    """Signs of a failing student: with the divergence alone it whispers; others overshoot or hum.

    Each is a mean over examples, so that it can be averaged over devices.
    level_ratio_db: ratio of the powers of audio and recording, each at least SILENCE. peak: largest |sample|.
    line_noise: mean of spectral.line_excess, dB.
    """
    a, b = (jnp.maximum(jnp.mean(jnp.square(x), axis=-1), SILENCE) for x in (audio, recording))
    return {
        "level_ratio_db": jnp.mean(10 * jnp.log10(a / b)),
        "peak": jnp.mean(jnp.max(jnp.abs(audio), axis=-1)),
        "line_noise": jnp.mean(line_excess(audio, jnp)),
    }
