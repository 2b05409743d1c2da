"""Synthesises speech from mels, or copies recordings by way of their mels, with a trained or converted model.

    python -m fwn.sample --ckpt=runs/base --mel=utterance.npy --output=out
    python -m fwn.sample --ckpt=runs/base --wav=recordings --output=out --temperature=0.8 --plot

A mel is an array [frames, bands] or [bands, frames], made by the model's mel contract (its mel settings), in a file of
NumPy (.npy, .npz), PyTorch (.pt, .pth: a tensor, or lists and dicts of them; PyTorch is not needed, and nothing in the
file is executed), safetensors or HDF5 (.h5, by h5py). The mel of a recording is computed. Writes OUTPUT/NAME.wav (16
bit, frames × hop samples) for each input, and OUTPUT/NAME-000.wav, NAME-001.wav, … for a file with a batch [B, frames,
bands] or a list of several mels. Prints the speed as a multiple of real time.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from fwn import cli, shipped
from fwn.audio import audio_file
from fwn.errors import UserError
from fwn.files import arrays
from fwn.files.found import distinct, matching
from fwn.mel import MelContract, align, difference, read_contract, read_mels
from fwn.synthesis.chunked import bucket
from fwn.synthesis.vocoder import Vocoder, load
from fwn.xla.malloc import keep_memory

MELS = ", ".join(sorted(arrays.KINDS))

CKPT = cli.ckpt()
STEP = cli.step()
MEL = flags.DEFINE_multi_string(
    "mel", [], f"Mel to sample from: a file ({MELS}), a folder of them or a pattern ('mels/*.npy'); may be repeated."
)
MEL_KEY = flags.DEFINE_string(
    "mel_key",
    None,
    "Name of the mel in the --mel files that have several arrays by name; a.b is b in a. Not needed where one array "
    "alone has the shape of a mel.",
)
WAV = flags.DEFINE_multi_string(
    "wav", [], "Recording to copy (wav, flac, ogg, mp3): a file, a folder or a pattern; may be repeated."
)
OUTPUT = flags.DEFINE_string("output", None, "Folder for the results. Required.", required=True)
CONVENTION = flags.DEFINE_string(
    "mel_contract",
    None,
    "Mel contract of the --mel files, if you know it: a preset or a JSON file. It must be the model's own.",
)
TEMPERATURE = flags.DEFINE_float(
    "temperature",
    None,
    "Standard deviation of the noise, 0 or more. By default 0.8, or 1 for a model with linear prediction.",
    lower_bound=0.0,
)
SAMPLING = cli.sampling()
SPEAKER = cli.speaker("the only one that it knows.")
SEED = flags.DEFINE_integer(
    "seed",
    0,
    "Seed of the noise. Each file gets its own noise, by its place among the sorted paths, and so does each mel of a "
    "file with several.",
    0,
    2**32 - 1,
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 1, "Utterances per batch.", lower_bound=1)
CHUNK = flags.DEFINE_integer(
    "chunk",
    None,
    "Mel frames per chunk; 0: one chunk. Each chunk is computed with its receptive field, so the samples do not depend "
    "on the chunk size, and memory does not grow with the length. By default up to 1024, as free memory allows. It is "
    "rounded up, and said, for a hop that positions of the flow do not divide (docs/mels.md).",
    lower_bound=0,
)
PLOT = flags.DEFINE_bool("plot", False, "Also plot the waveform and mel of each result as NAME.png.")


def files(more: list[str]) -> list[Path]:
    """Files given by --mel, --wav and the arguments, sorted. Raises UserError without files, or if names are equal."""
    named: list[Path] = []
    given = [("--mel=", p) for p in MEL.value] + [("--wav=", p) for p in WAV.value] + [("", p) for p in more]
    for flag, pattern in given:
        kinds = {"--mel=": {*arrays.KINDS}, "--wav=": audio_file.EXTENSIONS}
        wanted = kinds.get(flag, audio_file.EXTENSIONS | {*arrays.KINDS})
        found = matching(pattern, wanted, flag, f"mel ({MELS})" if flag == "--mel=" else "recording")
        if any(is_mel(file) != (flag == "--mel=") for file in found if flag):
            raise UserError(f"{flag}{pattern}: give mels ({MELS}) by --mel and recordings by --wav")
        named += found
    named.sort()
    distinct([(file.stem, file) for file in named], ".wav", "sample them")
    return named


def is_mel(file: Path) -> bool:
    """Whether it is a file of arrays, by its name."""
    return file.suffix.lower() in arrays.KINDS


class Utterance(NamedTuple):
    """A mel [F, M], the key of its noise, the file that it is from and the name of its output."""

    mel: np.ndarray
    key: jax.Array
    file: Path
    name: str


def read(file: Path, mel: MelContract, key: jax.Array) -> list[Utterance]:
    """The mels in a file, or the mel of a recording. Raises UserError."""
    if is_mel(file):
        mels = read_mels(file, mel, MEL_KEY.value)
    else:
        samples, notes = audio_file.read(file, mel.sample_rate, mel.n_fft)
        if notes:
            cli.say(f"{file}: {', '.join(notes)}")
        mels = [align(samples, mel)[1]]
    if len(mels) == 1:
        return [Utterance(mels[0], key, file, file.stem)]
    return [Utterance(m, jax.random.fold_in(key, i), file, f"{file.stem}-{i:03d}") for i, m in enumerate(mels)]


def readable(named: list[Path], mel: MelContract) -> tuple[list[Utterance], bool]:
    """(the utterances of the files that can be read, whether all can). Says which cannot; UserError if none can.

    The noise of a file depends on its place among `named`, and not on which of them can be read.
    """
    key = jax.random.key(SEED.value)
    read_one, refused = cli.each_readable(enumerate(named), lambda i, file: read(file, mel, jax.random.fold_in(key, i)))
    utterances = [utterance for found in read_one for utterance in found]
    distinct([(utterance.name, utterance.file) for utterance in utterances], ".wav", "sample them")
    cli.say_left_out(refused)
    return utterances, not refused


def synthesise(vocoder: Vocoder, utterances: list[Utterance], speaker: Any, output: Path) -> Iterator[Path]:
    """Samples in order of length, shortest first, and yields the path of each file once it is written."""
    order = sorted(utterances, key=lambda utterance: bucket(len(utterance.mel)))
    results = vocoder.synthesise(
        [utterance.mel for utterance in order],
        [utterance.key for utterance in order],
        vocoder.temperature if TEMPERATURE.value is None else TEMPERATURE.value,
        BATCH_SIZE.value,
        chunk=CHUNK.value,
        speakers=[speaker] * len(order),
    )
    for utterance, samples in zip(order, results, strict=True):
        path = output / f"{utterance.name}.wav"
        if saturated := audio_file.write(path, samples, vocoder.mel.sample_rate):
            cli.say(f"{path}: {saturated} of {len(samples)} samples beyond full scale were saturated")
        if PLOT.value:
            from fwn.evaluation import plots

            plots.waveform_and_mel(
                path.with_suffix(".png"), samples, utterance.mel, vocoder.mel.sample_rate, vocoder.mel.hop_length
            )
        yield path


def main(args: list[str]) -> int | None:
    keep_memory(jax.default_backend())
    if not MEL.value and not WAV.value:
        raise UserError("nothing to sample: give --mel=FILE or --wav=FILE")
    if TEMPERATURE.value is not None:
        cli.temperatures(TEMPERATURE.value)
    named, output = files(args), Path(OUTPUT.value)
    for file in named:
        if (output / f"{file.stem}.wav").resolve() == file.resolve():
            raise UserError(f"--output={output}: {file} would be overwritten by its own copy; give another folder")
    ckpt = CKPT.value or shipped.voice()
    vocoder = load(ckpt, STEP.value, **SAMPLING())
    if CONVENTION.value and (stated := read_contract(CONVENTION.value, "--mel_contract")).hash() != vocoder.mel.hash():
        raise UserError(
            f"--mel_contract={CONVENTION.value} is {stated.title}, but {ckpt} was trained on mels of "
            f"{vocoder.mel.title}; compute the mels by that\n{difference(vocoder.mel, stated)}"
        )
    speaker = vocoder.speakers.given(SPEAKER.value, "speaker")
    vocoder.speakers.numbers(speaker, "--speaker")
    start = time.perf_counter()
    utterances, all_read = readable(named, vocoder.mel)  # all before the first write
    output.mkdir(parents=True, exist_ok=True)
    cli.say(
        f"{vocoder.config.system}, {vocoder.n_params:,} parameters, step {vocoder.step}, on {jax.default_backend()}"
    )
    context = sum(vocoder.system.receptive_field)
    chunk = vocoder.whole(CHUNK.value or 0)
    if CHUNK.value and (context > chunk or chunk > CHUNK.value):
        rounded = f", rounded up to {chunk}" if chunk > CHUNK.value else ""
        cli.say(
            f"--chunk={CHUNK.value}{rounded}: each chunk is computed with {context} frames of context, which takes "
            f"{(context + chunk) / chunk:.1f} times the work of one long chunk"
        )
    written = list(cli.progress(synthesise(vocoder, utterances, speaker, output), "sampling", len(utterances)))
    seconds = time.perf_counter() - start
    duration = vocoder.sampled_seconds
    cli.say(
        f"{len(written)} file(s), {duration:.2f} s of audio: {duration / vocoder.run_seconds:.2f} × real time; "
        f"{duration / seconds:.2f} × including {vocoder.compile_seconds:.1f} s of compilation, and reading and writing"
    )
    for path in written:
        cli.say(f"  {path}")
    return None if all_read else cli.LEFT_OUT


if __name__ == "__main__":
    cli.run(main)
