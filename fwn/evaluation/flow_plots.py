"""Pictures of the flow itself: noise that becomes speech, a recording beside its noise, tones in a spectrum."""

import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fwn.audio.spectral import LINE_FFT, hann, stft_magnitude
from fwn.evaluation.plots import COLOURS, TITLE, new_figure, save

Array = npt.NDArray[np.floating]
N_FFT, RANGE = 1024, 80.0  # of spectrograms: samples, and dB from the brightest to black
HELD, FADES, FADE = 700, 4, 60  # of animations: milliseconds of a picture, pictures between two, milliseconds of these


def becoming(path: str | Path, stages: Sequence[tuple[str, Array]], rate: int) -> None:
    """An animated WebP: signals [T] with their titles, one after the other, each by its waveform and spectrogram.

    Each is drawn relative to its own largest values.
    """
    from PIL import Image

    pictures = []
    for title, signal in stages:
        figure, (top, bottom) = new_figure(2, height=4.6)
        _signal(top, bottom, signal, rate)
        top.set_title(title, **TITLE)
        bottom.set_ylabel("kHz")
        figure.savefig(drawn := io.BytesIO(), dpi=80)
        pictures.append(Image.open(drawn).convert("RGB"))
    frames, times = [pictures[0]], [HELD]
    for before, after in itertools.pairwise(pictures):
        frames += [Image.blend(before, after, i / (FADES + 1)) for i in range(1, FADES + 1)] + [after]
        times += [FADE] * FADES + [HELD]
    times[0] = times[-1] = 3 * HELD
    shown = {"append_images": frames[1:], "duration": times, "loop": 0, "quality": 60, "method": 6}
    save(path, lambda file: frames[0].save(file, format="WebP", save_all=True, **shown))


def beside(path: str | Path, signals: Mapping[str, Array], rate: int) -> None:
    """Signals [T] by title side by side, each by its waveform and spectrogram, relative to its own largest values."""
    figure, axes = new_figure(2, height=4.6, columns=len(signals))
    for column, (title, signal) in enumerate(signals.items()):
        top, bottom = axes[column], axes[column + len(signals)]
        _signal(top, bottom, signal, rate)
        top.set_title(title, **TITLE)
    axes[len(signals)].set_ylabel("kHz")
    save(path, figure.savefig)


def spectra(path: str | Path, panels: Mapping[str, Mapping[str, Array]], rate: int) -> None:
    """Long-term spectra of signals by label, one panel below the other. Multiples of rate / 16 are marked."""
    figure, axes = new_figure(len(panels), height=0.8 + 2.2 * len(panels))
    for axis, (title, signals) in zip(axes, panels.items(), strict=True):
        for j in range(1, 8):
            axis.axvline(j * rate / 16000, color="0.85", linewidth=4, zorder=0)
        for (label, signal), colour in zip(signals.items(), itertools.cycle(COLOURS), strict=False):
            power = np.square(stft_magnitude(signal, LINE_FFT, LINE_FFT // 4)).mean(axis=0)
            db = 10 * np.log10(power / np.square(hann(LINE_FFT)).sum() + 1e-12)
            axis.plot(np.fft.rfftfreq(LINE_FFT, 1000 / rate), db, label=label, color=colour, linewidth=1)
        axis.set_title(title, **TITLE)
        axis.set_ylabel("dB of full scale")
        axis.legend(frameon=False, ncols=len(signals), fontsize="small", loc="lower right", bbox_to_anchor=(1, 0.98))
    axes[-1].set_xlim(0, rate / 2000)
    axes[-1].set_xlabel("frequency (kHz); grey: multiples of a sixteenth of the sample rate")
    save(path, figure.savefig)


def _signal(top: Any, bottom: Any, signal: Array, rate: int) -> None:
    """Draws the waveform, with its largest value at full height, above the spectrogram."""
    seconds = len(signal) / rate
    top.plot(np.arange(len(signal)) / rate, signal / max(np.abs(signal).max(), 1e-9), linewidth=0.4, color=COLOURS[0])
    top.set_ylim(-1.05, 1.05)
    top.set_yticks([])
    db = 20 * np.log10(stft_magnitude(signal, N_FFT, N_FFT // 4) + 1e-9)
    extent = (0, seconds, 0, rate / 2000)
    shown = {"cmap": "magma", "vmin": db.max() - RANGE, "vmax": db.max(), "extent": extent}
    bottom.imshow(db.T, origin="lower", aspect="auto", **shown)
    bottom.grid(visible=False)
    bottom.set_xlabel("time (s)")
    bottom.set_xlim(0, seconds)
