"""README.md of an export, its model card: data, mel contract, parity, metrics, licence, limits."""

import json
from pathlib import Path

import jax

from fwn.data.corpus import Corpus
from fwn.errors import UserError, short
from fwn.mel import MelContract
from fwn.portable.parity import LIMIT, Parity
from fwn.synthesis.exported import sha256
from fwn.synthesis.vocoder import Vocoder

FILE = "README.md"
MARK = "\n<!-- written by fwn.export, sha256 of the text above: "
NOT_STATED = "not stated; whoever exported the model can say it by --licence"
USE = """In this folder:

```python
from load_fwn import load  # needs jax and flatbuffers, not fwn

sample = load()
audio = sample(mel)  # [frames, {bands}] -> [frames * {hop}], float32 in ±1, {rate} Hz
```"""
LIMITS = (
    "It knows one mel contract, the one above. A mel by another sounds wrong, and nothing in the programs notices it.",
    "It speaks like the recordings that it was trained on. Other voices, noise and music were not tried for this card.",
    "It makes speech from a mel, and no mel from text.",
    "A mel is computed at once, so that memory grows with its length. `fwn.load` computes long mels in chunks.",
    "JAX promises to run the programs for six months after its version {jax}. The weights do not age: `fwn.export` "
    "writes the programs anew from this folder.",
)


def text(
    folder: str, vocoder: Vocoder, parity: Parity, measured: dict[str, str], tables: str, licence: str | None
) -> str:
    """The card, with a mark in its last line by which `edited` knows it. measured: figures by what they are."""
    mel, config = vocoder.mel, vocoder.config
    lengths = ", ".join(map(str, parity.frames))
    rows = {
        "model": f"{config.system}, step {vocoder.step}, {vocoder.n_params:,} parameters in float32",
        "data": data(config.data),
        "mels": f"contract {mel.title}, below and in contract.json",
        "who speaks": _speakers(vocoder),
        "licence": licence or NOT_STATED,
    }
    parity_words = (
        f"The programs were compared with the model on {parity.platform}, on mels of {lengths} frames: the largest "
        f"difference is {parity.largest:.1e} of full scale. More than {LIMIT:.0e} is refused."
    )
    metrics = "\n".join(f"- {what}: {figure}" for what, figure in measured.items()) or "Nothing else was measured."
    parts = [
        f"# {folder}",
        "A vocoder: it makes speech from a mel spectrogram. Written by `fwn.export`.",
        USE.format(bands=mel.n_mels, hop=mel.hop_length, rate=mel.sample_rate),
        _table(rows),
        "## Mel contract",
        _table(mel_rows(mel)),
        "## Measured",
        parity_words,
        *filter(None, [metrics, tables]),
        "## Limits",
        "\n".join(f"- {limit.format(jax=jax.__version__)}" for limit in LIMITS),
    ]
    body = "\n\n".join(parts) + "\n"
    return f"{body}{MARK}{sha256(body.encode())} -->\n"


def edited(file: Path) -> bool:
    """Whether a card is there that is not as `text` made it."""
    if not file.exists():
        return False
    body, mark, stated = file.read_text(encoding="utf-8", errors="replace").rpartition(MARK)
    return not mark or stated != f"{sha256(body.encode())} -->\n"


def data(folder: str) -> str:
    """What the model was trained on, by the data set of its config, if it is there."""
    if not folder:
        return "not stated: the weights were converted"
    name = Path(folder).name
    try:
        corpus = Corpus(folder)
    except (UserError, OSError):
        return f"`{name}`; it was not there when the model was exported, so its size is not stated"
    train, held_out = (corpus.split(part) for part in ("train", "test"))
    hours = sum(corpus.utterances[i].samples for i in train) / corpus.contract.sample_rate / 3600
    voices = f", {len(corpus.speakers)} speakers" if len(corpus.speakers) > 1 else ""
    return f"`{name}`: {len(train)} utterances, {hours:.2g} hours{voices}; {len(held_out)} more were held out"


def results(folder: Path, vocoder: Vocoder) -> str:
    """The table of fwn.evaluate in its --output. Raises UserError if it is not of this model."""
    file = folder / "results.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        stated = found["step"], found["card"]["parameters"], found["card"]["mel"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: not the results of fwn.evaluate ({short(error)}); give its --output") from error
    if stated != (own := (vocoder.step, vocoder.n_params, vocoder.mel.title)):
        raise UserError(
            f"{file}: of another model (step, parameters, mel contract: {stated} there, {own} here); evaluate this one"
        )
    return (folder / "table.md").read_text(encoding="utf-8").strip()


def mel_rows(mel: MelContract) -> dict[str, str]:
    """A mel contract in words."""
    compression = {
        "ln": f"natural logarithm of the larger of the band and {mel.floor:g}",
        "log10": f"logarithm to base 10 of the larger of the band and {mel.floor:g}",
        "db20_normalised": f"(20 log10 of the larger of the band and {mel.floor:g}, minus {mel.reference_db} dB, minus "
        f"{mel.min_db} dB) / {-(mel.min_db or 0)} dB, clipped to 0 … 1",
    }
    align = {
        "half": "zeros on both sides",
        "start": "zeros at the end",
        "edge": "its last sample repeated at the end",
    }
    padding = {
        "centre": f"by {mel.n_fft // 2} samples, which centres frame i on sample i · {mel.hop_length}",
        "same": f"by {(mel.n_fft - mel.hop_length) // 2} samples, which centres a frame on its own {mel.hop_length}",
    }
    rows = {
        "sample rate": f"{mel.sample_rate} Hz",
        "audio before": "as it is" if mel.peak is None else f"each utterance scaled to a peak of {mel.peak}",
        "whole frames": f"audio is filled to a multiple of {mel.hop_length} samples by {align[mel.alignment]}",
        "STFT": f"{mel.n_fft} points, periodic Hann window of {mel.win_length}, hop {mel.hop_length}",
        "reflection at the ends": padding[mel.padding],
        "magnitude": f"to the power of {mel.power}",
        "bands": f"{mel.n_mels} of {mel.fmin:g} … {mel.fmax:g} Hz, scale {mel.filter_scale}, norm {mel.filter_norm}",
        "compression": compression[mel.compression],
        "normalisation": "none" if mel.mean is None else "(mel - mean) / scale by band, as in contract.json",
    }
    if mel.power_epsilon or mel.power_floor:
        rows["squared magnitude"] = f"plus {mel.power_epsilon:g}, at least {mel.power_floor:g}"
    return rows


def _speakers(vocoder: Vocoder) -> str:
    speakers = vocoder.speakers
    if speakers.kind == "none":
        return "the model is not told"
    if speakers.kind == "id":
        return f"one of {len(speakers.names)} names, which contract.json lists: `sample(mel, speaker=name)`"
    return f"a vector of {speakers.size} numbers: `sample(mel, speaker=vector)`"


def _table(rows: dict[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])
