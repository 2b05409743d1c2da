"""The auxiliary losses of distillation: what a student's audio has in common with the recording, phase left out.

Audio is [B, T]; each loss is a scalar, 0 where both are equal.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from fwn.audio.spectral import line_excess, stft

Array = jax.Array
N_FFT, HOP = 1024, 256
SILENCE = 1e-10  # the power below which a level is not told apart


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


def feature_loss(features: Mapping[str, Array], recording: Mapping[str, Array]) -> Array:
    """Mean squared difference of a network's activations [B, T, C], over all of its layers."""
    return mean_square(features, recording)


def style_loss(features: Mapping[str, Array], recording: Mapping[str, Array]) -> Array:
    """The same of their Gram matrices over time [B, C, C]: which features go together, and not when."""

    def gram(a: Array) -> Array:
        return jnp.einsum("btc,btd->bcd", a, a) / a.shape[1]

    return mean_square(jax.tree.map(gram, features), jax.tree.map(gram, recording))


def mean_square(a: Mapping[str, Array], b: Mapping[str, Array]) -> Array:
    """The mean over leaves of the mean squared difference."""
    return jnp.mean(jnp.stack([jnp.mean(jnp.square(a[name] - b[name])) for name in a]))


def signs(audio: Array, recording: Array) -> dict[str, Array]:
    """What to watch: students that learn by the divergence alone fall silent (a whisper), others overshoot or hum.

    Each is a mean over examples, as what is averaged over devices must be.
    level_ratio_db: of the powers of audio and recording, each no less than SILENCE. peak: largest |sample|.
    line_noise: mean of spectral.line_excess, dB.
    """
    a, b = (jnp.maximum(jnp.mean(jnp.square(x), axis=-1), SILENCE) for x in (audio, recording))
    return {
        "level_ratio_db": jnp.mean(10 * jnp.log10(a / b)),
        "peak": jnp.mean(jnp.max(jnp.abs(audio), axis=-1)),
        "line_noise": jnp.mean(line_excess(audio, jnp)),
    }
