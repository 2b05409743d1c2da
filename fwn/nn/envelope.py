"""Filters of linear prediction from a mel: the spectrum by inverting the mel contract, corrected by a network."""

import math
from functools import lru_cache

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fwn.flows.prediction import two_stages
from fwn.mel import MelContract
from fwn.mel.compression import log_bands, plain_mel
from fwn.mel.filterbank import hz_to_mel
from fwn.mel.spectrogram import band_weights
from fwn.nn.conv import Conv, ZeroConv
from fwn.nn.encoder import before, extended, interpolate
from fwn.nn.speaker import UNTOLD, SpeakerBias, SpeakerInput

Array = jax.Array
KERNEL, LAYERS = 3, 3  # convolutions over frames
QUIET, LOUD = 1e-9, 1e4  # range of powers: white noise of one 16-bit step, more than a sine of full scale
RANGE = 2.0  # inputs of the network, ±1 for mels of the contract, are clipped to ±2, so that no mel overflows
CORRECTION = 6.0  # largest correction by the network, ± nepers of power
FLOORS = 1e-5, 1e-4  # white noise added in the two stages of prediction, relative to the signal's power


class Envelope(nn.Module):
    """mel [B, F, M] -> (a [B, S, order], log_g [B, S]): filters for S = F · hop / subframe subframes of audio.

    The mel's log spectrum (`log_spectrum`) plus a correction by convolutions over frames, zero at initialisation, is
    interpolated between frames. Levinson-Durbin gives the filter of each subframe, in two stages, the first of order
    first_order. Stable for every finite mel. mask [B, F, 1]: which frames are real. speakers: the network also gets the
    speaker's bias.
    """

    contract: MelContract
    order: int = 256
    first_order: int = 16
    subframe: int = 64
    channels: int = 256
    speakers: SpeakerInput = UNTOLD

    @property
    def receptive_field(self) -> int:
        """Frames before and after its own that a subframe depends on: by the convolutions, and one by interpolation."""
        return LAYERS * (KERNEL // 2) + 1

    @property
    def bins(self) -> int:
        """Number of bins, a power of two plus one: enough for autocorrelations up to the order."""
        return 2 ** math.ceil(math.log2(max(64, 2 * self.order))) + 1

    @nn.compact
    def __call__(self, mel: Array, mask: Array | None = None) -> tuple[Array, Array]:
        def inside(h: Array) -> Array:
            return h if mask is None else jnp.where(mask, h, 0)

        mel, who = self.speakers.split(mel)
        low, high = self.contract.plain.value_range
        h = jnp.clip(2 * (plain_mel(mel, self.contract) - low) / (high - low) - 1, -RANGE, RANGE)
        for n in range(LAYERS):
            update = Conv(self.channels, KERNEL, name=f"conv_{n}")(inside(h))
            update = SpeakerBias(self.speakers, name="speaker")(update, who) if n == 0 else update
            h = nn.gelu(update) if n == 0 else h + nn.gelu(update)
        correction = CORRECTION * jnp.tanh(ZeroConv(self.bins, name="out")(h) / CORRECTION)
        log_power = log_spectrum(mel, self.contract, self.bins) + correction
        log_power = log_power if mask is None else jnp.where(mask, log_power, before(log_power))
        log_power = interpolate(extended(log_power), self.contract.hop_length // self.subframe, centre(self.contract))
        spectrum = jnp.exp(log_power).reshape(-1, self.bins).T
        a, power = two_stages(spectrum, self.order, self.first_order, FLOORS)
        return a.T.reshape(mel.shape[0], -1, self.order), 0.5 * jnp.log(power).reshape(mel.shape[0], -1)


def log_spectrum(mel: Array, contract: MelContract, bins: int) -> Array:
    """Inverse of the mel contract: log power [B, F, bins] at 0 … π, which is 0 for white noise of variance 1.

    A band's energy divided by the sum of its weights is the mean |STFT|² in it; divided by the window's energy, it is
    the power of the signal. Linear between the centres of bands on the contract's mel scale, constant outside of them.
    Bounded by QUIET and LOUD, so that no finite mel leaves the range of float32.
    """
    offset, between = _inverse(contract, bins)
    log_power = (2 / contract.power) * (log_bands(mel, contract) - offset.astype(mel.dtype))
    log_power = jnp.clip(log_power, math.log(QUIET), math.log(LOUD))
    return jnp.logaddexp(log_power @ between.astype(mel.dtype), math.log(QUIET))


@lru_cache(maxsize=8)
def _inverse(contract: MelContract, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """(log of each band's value for white noise of variance 1 [M], interpolation from bands to bins [M, bins])."""
    windows = contract.win_length * 3 / 8  # Σ of a squared Hann window
    # Bands may sum magnitudes: the mean of a Rayleigh magnitude is √(π / 4) of its root mean square.
    magnitude = windows if contract.power == 2 else math.sqrt(windows * math.pi / 4)
    weights = band_weights(contract).sum(axis=1, dtype=np.float64)
    used = weights > 0  # bands narrower than a bin of the STFT are empty
    offset = np.log(magnitude * np.where(used, weights, 1))
    low, high = hz_to_mel(np.array([contract.fmin, contract.fmax]), contract.filter_scale)
    centres = np.linspace(low, high, contract.n_mels + 2)[1:-1]
    places = hz_to_mel(np.linspace(0, contract.sample_rate / 2, bins), contract.filter_scale)
    return offset, np.stack([np.interp(places, centres[used], row[used]) for row in np.eye(contract.n_mels)])


def centre(contract: MelContract) -> float:
    """Place of the centre of a frame's window in the frame's own audio: 0 at its first sample, 1 after its last.

    Alignment "half" moves audio by up to half a frame, a quarter on average.
    """
    return (0.5 if contract.padding == "same" else 0.0) + (0.25 if contract.alignment == "half" else 0.0)
