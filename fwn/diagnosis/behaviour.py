"""What a model does with audio: inverse error, likelihood, the couplings' scales, the level of its samples."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fwn.config import Speakers
from fwn.diagnosis import scales
from fwn.diagnosis.finding import ERROR, NOTE, WARNING, Examination, Finding
from fwn.diagnosis.material import Material
from fwn.evaluation.measure import dequantised
from fwn.flows.densities import LSB
from fwn.mel import with_speaker
from fwn.systems import build
from fwn.training.checkpoints import Run

INVERSE_ERROR, BROKEN_INVERSE = 1e-3, 1e-2  # of audio in ±1; a healthy model has less than 1e-4
LARGE_LOG_S = 10.0  # a coupling that scales by e^10
SATURATED = 0.99  # of s_max
NO_BETTER_THAN_NOISE = 0.3  # nats/sample over white noise of the same power
USES_MEL = 0.02  # nats/sample by which the right mel must be better than another
LEVEL = 15.0  # dB between samples and recordings


def examine(run: Run, params: Any, material: Material) -> Examination:
    """params: those of the run, plain. Systems without an inverse, or sequential ones, are examined as far as they go.

    The likelihood is measured with dequantisation noise, or on 16-bit integers for models of those.
    """
    system, kind = build(run.config, mel=run.mel), run.config.system
    params = jax.tree.map(jnp.asarray, params)
    audio, told = material.audio, Speakers(run.config)
    who = [told.numbers(speaker) for speaker in material.speakers]
    mel = np.stack([with_speaker(*pair) for pair in zip(material.mel, who, strict=True)])
    yield f"measured on {material.what}, {len(material.mel)} × {material.mel.shape[1]} frames"
    if kind == "wavenet":
        yield "samples: not made, as this system samples one value at a time; no inverse, no ActNorm: it is no flow"
    else:
        keys = jax.random.split(jax.random.key(0), len(material.mel))
        sampled = jax.jit(system.sample)(params, mel, keys, np.float32(system.temperature))
        yield from samples(np.asarray(sampled), audio if material.real else None, system.temperature)
        if audio is None and np.isfinite(sampled).all():
            audio = np.asarray(sampled)
    yield from tones(run.config, system.temperature)
    if audio is None:
        return
    if system.roundtrip is not None:
        error = np.asarray(jax.jit(system.roundtrip)(params, audio, mel)) - audio
        yield from inverse(float(np.abs(error).max()))
    if kind == "flowavenet" and run.config.model.n_block:
        yield from couplings(scales.largest(run.config, run.mel, params, audio, mel), run.config.model.s_max)
    elif kind == "flowavenet":
        yield "couplings: none, this model has no flow (n_block is 0)"
    if run.config.loss:
        yield "likelihood: not measured; that of a student is low by design, and takes one pass for each sample"
        return
    heard = np.round(audio / LSB) * LSB if system.integers else dequantised(audio, np.random.default_rng(0))
    likelihood = jax.jit(system.log_likelihood)
    another = np.concatenate([np.roll(material.mel, 1, axis=0), mel[..., material.mel.shape[-1] :]], axis=-1)
    nats = np.asarray(likelihood(params, heard.astype(np.float32), mel))
    other = np.asarray(likelihood(params, heard.astype(np.float32), another))
    yield from likelihoods(nats, other, white_noise(audio), material.real)


def white_noise(audio: np.ndarray) -> float:
    """Nats/sample of audio [B, T] under white Gaussian noise of its power: what is known without any model."""
    return -0.5 * math.log(2 * math.pi * math.e * max(float(np.mean(np.square(audio))), 1e-12))


def samples(sampled: np.ndarray, audio: np.ndarray | None, temperature: float) -> Examination:
    """Samples [B, T] and, if there are any, the recordings of the same mels."""
    if not np.isfinite(sampled).all():
        share = 100 * float(np.mean(~np.isfinite(sampled)))
        yield Finding(
            ERROR,
            f"its samples at T = {temperature} have NaN or infinite values ({share:.1f}% of them)",
            "go back to an earlier checkpoint; a bound such as config.model.s_max=2 keeps the inverse finite",
        )
        return
    rms = float(np.sqrt(np.mean(np.square(sampled))))
    beyond = 100 * float(np.mean(np.abs(sampled) > 1))
    level = None if audio is None else 20 * math.log10(max(rms, 1e-9) / max(float(np.sqrt(np.mean(audio**2))), 1e-9))
    against = "" if level is None else f", {level:+.1f} dB against the recordings"
    yield f"samples at T = {temperature}: RMS {rms:.3g}{against}; {beyond:.2f}% beyond full scale"
    if level is not None and abs(level) > LEVEL:
        yield Finding(
            WARNING,
            f"samples are {level:+.1f} dB against the recordings: " + ("near silence" if level < 0 else "they explode"),
            "train for longer, and compare the mel contract; a student by the divergence alone needs another loss term",
        )


def tones(config: Any, temperature: float) -> Examination:
    """temperature: the default of the system."""
    if config.system == "flowavenet" and config.model.n_block and not config.model.odd and temperature < 1:
        yield Finding(
            NOTE,
            f"its samples at the default T = {temperature} have faint tones at multiples of a sixteenth of the sample "
            "rate, as couplings are not odd (docs/tones.md)",
            "sample with --temperature=1, or train with config.model.odd=True",
        )


def inverse(error: float) -> Examination:
    """error: the largest, of audio in ±1."""
    yield f"largest |x - inverse(forward(x))|: {error:.2g} of full scale"
    if not error <= INVERSE_ERROR:
        severity = WARNING if error <= BROKEN_INVERSE else ERROR
        yield Finding(
            severity,
            f"the inverse does not undo the map: it errs by {error:.2g} of full scale, so samples are noisy",
            "look at log_s and ActNorm above: bound the scales with config.model.s_max=2, or go back to a checkpoint "
            "before they grew",
        )


def couplings(found: Mapping[str, np.ndarray], s_max: float | None) -> Examination:
    """found: as from scales.largest."""
    worst = {name: float(np.max(values)) for name, values in found.items()}
    for name, values in found.items():
        yield f"largest |log_s| of {name}, by flow: {' '.join(f'{value:.2f}' for value in values)}"
    name = max(worst, key=lambda n: worst[n] if math.isfinite(worst[n]) else math.inf)
    if not worst[name] <= LARGE_LOG_S:
        yield Finding(
            WARNING if math.isfinite(worst[name]) else ERROR,
            f"a coupling of {name} scales by e^{worst[name]:.1f}: rounding grows by as much, up to NaN",
            "begin a run with config.model.s_max=2 and a lower config.optimizer.learning_rate, or go back to an "
            "earlier checkpoint",
        )
    elif s_max is not None and worst[name] > SATURATED * s_max:
        yield Finding(
            NOTE,
            f"couplings of {name} reach their bound, |log s| = {worst[name]:.3g} of s_max = {s_max:g}",
            "nothing, if the audio is unusual; if held-out audio does it, train with a larger config.model.s_max",
        )


def likelihoods(nats: np.ndarray, other: np.ndarray, noise: float, real: bool) -> Examination:
    """nats [B]: per sample, with the right mels; other: with those of other utterances; noise: of `white_noise`.

    real: recordings of the speech that the model is for. Of other audio only NaN and infinity are judged.
    """
    mean, gain = float(nats.mean()), float(nats.mean() - other.mean())
    yield (
        f"likelihood: {mean:.3f} nats/sample (higher is better), of white noise with the same power {noise:.3f}"
        + (f"; with the mels of other utterances {mean - gain:.3f}" if len(nats) > 1 else "")
    )
    if not math.isfinite(mean):
        yield Finding(
            ERROR,
            f"the likelihood is {mean}",
            "go back to an earlier checkpoint; see the weights and scales above for the cause",
        )
    elif real and mean < noise + NO_BETTER_THAN_NOISE:
        yield Finding(
            WARNING,
            f"the model knows hardly more than the power of the audio ({mean - noise:+.2f} nats/sample over white "
            "noise): its copies are noise",
            "train for longer; if the loss does not rise, compare the mel contract and lower the rate",
        )
    elif real and len(nats) > 1 and gain < USES_MEL:
        yield Finding(
            WARNING,
            f"the model does not use the mel: the right mels are worth {gain:+.3f} nats/sample over those of other "
            "utterances, so its copies are stationary noise",
            "begin with config.model.upsample_init='linear' or conditioner='frames', or with linear prediction "
            "(experiments/lite.py)",
        )
