"""Synthesises speech from mels, or copies recordings by way of their mels, with a trained or converted model.

    python -m fwn.sample --ckpt=runs/base --mel=utterance.npy --output=out
    python -m fwn.sample --ckpt=runs/base --wav=recordings --output=out --temperature=0.8 --plot

A mel is a .npy array, [frames, bands] or [bands, frames], made by the model's mel contract (its mel settings). The mel
of a recording is computed. Writes OUTPUT/NAME.wav (16 bit, frames × hop samples) for each input, and prints the speed
as a multiple of real time.
"""

import glob
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from absl import flags

from fwn import cli, shipped
from fwn.audio import audio_file
from fwn.errors import UserError
from fwn.mel import MelContract, align, difference, read_contract, read_mel
from fwn.synthesis.chunked import bucket
from fwn.synthesis.vocoder import Vocoder, load
from fwn.xla.malloc import keep_memory

VOICE = shipped.folder("voices") / "lj-mini"

CKPT = flags.DEFINE_string(
    "ckpt",
    None,
    f"Workdir of fwn.train, or output folder of fwn.convert or fwn.export. By default voices/{VOICE.name}.",
)
STEP = flags.DEFINE_integer(
    "step", None, "Step of the checkpoint. By default the best one by held-out nats/sample (for a student, by loss)."
)
MEL = flags.DEFINE_multi_string(
    "mel", [], "Mel to sample from: a .npy file, a folder of them or a pattern ('mels/*.npy'); may be repeated."
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
LOW_TEMPERATURE = cli.low_temperature()
SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of the noise. Each file gets its own noise, by its place among the sorted paths.", 0, 2**32 - 1
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 1, "Utterances per batch.", lower_bound=1)
CHUNK = flags.DEFINE_integer(
    "chunk",
    None,
    "Mel frames per chunk; 0: one chunk. Each chunk is computed with its receptive field, so the samples do not depend "
    "on the chunk size, and memory does not grow with the length. By default up to 1024, as free memory allows.",
    lower_bound=0,
)
PLOT = flags.DEFINE_bool("plot", False, "Also plot the waveform and mel of each result as NAME.png.")


def files(more: list[str]) -> list[Path]:
    """Files given by --mel, --wav and the arguments, sorted. Raises UserError without files, or if names are equal."""
    named: list[Path] = []
    given = [("--mel=", p) for p in MEL.value] + [("--wav=", p) for p in WAV.value] + [("", p) for p in more]
    for flag, pattern in given:
        path = Path(pattern)
        wanted = {"--mel=": {".npy"}, "--wav=": audio_file.EXTENSIONS}.get(flag, audio_file.EXTENSIONS | {".npy"})
        if path.is_dir():
            found = [file for file in path.iterdir() if file.suffix.lower() in wanted and file.is_file()]
        else:
            found = [path] if path.exists() else [Path(name) for name in glob.glob(pattern)]
            if not found and not glob.has_magic(pattern):
                found = [path]  # read() reports what is wrong with it
            if any((file.suffix == ".npy") != (".npy" in wanted) for file in found if flag):
                raise UserError(f"{flag}{pattern}: give mels (.npy) by --mel and recordings by --wav")
        if not found:
            kind = "no mel (.npy)" if flag == "--mel=" else "no recording"
            raise UserError(f"{flag}{pattern}: {kind + ' in this folder' if path.is_dir() else 'no such file'}")
        named += found
    named.sort()
    name, count = Counter(file.stem for file in named).most_common(1)[0]
    if count > 1:
        same = " and ".join(str(file) for file in named if file.stem == name)
        raise UserError(f"{same} would all be written to {name}.wav; sample them in separate runs")
    return named


def read(file: Path, mel: MelContract) -> np.ndarray:
    """The mel [F, M] in a .npy file, or the mel of a recording. Raises UserError."""
    if file.suffix != ".npy":
        samples, notes = audio_file.read(file, mel.sample_rate, mel.n_fft)
        if notes:
            cli.say(f"{file}: {', '.join(notes)}")
        return align(samples, mel)[1]
    return read_mel(file, mel)


def readable(named: list[Path], mel: MelContract) -> dict[Path, np.ndarray]:
    """The mels of the files that can be read. Says which cannot, and raises UserError if none can."""
    mels, refused = {}, []
    for file in named:
        try:
            mels[file] = read(file, mel)
        except UserError as error:
            refused.append(str(error))
    if not mels:
        raise UserError("\n  ".join(refused))
    for message in refused:
        cli.say(f"left out {message}")
    return mels


def synthesise(vocoder: Vocoder, named: list[Path], mels: dict[Path, np.ndarray], output: Path) -> Iterator[Path]:
    """Samples in order of length, shortest first, and yields the path of each file once it is written.

    The noise of a file depends on its place among `named`, and not on which of them can be read.
    """
    keys = {file: jax.random.fold_in(jax.random.key(SEED.value), i) for i, file in enumerate(named)}
    order = sorted(mels, key=lambda file: bucket(len(mels[file])))
    results = vocoder.synthesise(
        [mels[file] for file in order],
        [keys[file] for file in order],
        vocoder.temperature if TEMPERATURE.value is None else TEMPERATURE.value,
        BATCH_SIZE.value,
        chunk=CHUNK.value,
    )
    for file, samples in zip(order, results, strict=True):
        path = output / f"{file.stem}.wav"
        if saturated := audio_file.write(path, samples, vocoder.mel.sample_rate):
            cli.say(f"{path}: {saturated} of {len(samples)} samples beyond full scale were saturated")
        if PLOT.value:
            from fwn.evaluation import plots

            plots.waveform_and_mel(
                path.with_suffix(".png"), samples, mels[file], vocoder.mel.sample_rate, vocoder.mel.hop_length
            )
        yield path


def main(args: list[str]) -> int | None:
    keep_memory(jax.default_backend())
    if not MEL.value and not WAV.value:
        raise UserError("nothing to sample: give --mel=FILE.npy or --wav=FILE")
    if TEMPERATURE.value is not None:
        cli.temperatures(TEMPERATURE.value)
    named, output = files(args), Path(OUTPUT.value)
    for file in named:
        if (output / f"{file.stem}.wav").resolve() == file.resolve():
            raise UserError(f"--output={output}: {file} would be overwritten by its own copy; give another folder")
    if CKPT.value is None and not VOICE.is_dir():
        raise UserError(f"{VOICE}: the voice that comes with fwn is missing; give --ckpt=DIR")
    ckpt = CKPT.value or str(VOICE)
    vocoder = load(ckpt, STEP.value, LOW_TEMPERATURE.value)
    if CONVENTION.value and (stated := read_contract(CONVENTION.value, "--mel_contract")).hash() != vocoder.mel.hash():
        raise UserError(
            f"--mel_contract={CONVENTION.value} is {stated.title}, but {ckpt} was trained on mels of "
            f"{vocoder.mel.title}; compute the mels by that\n{difference(vocoder.mel, stated)}"
        )
    start = time.perf_counter()
    mels = readable(named, vocoder.mel)  # all before the first write
    output.mkdir(parents=True, exist_ok=True)
    cli.say(
        f"{vocoder.config.system}, {vocoder.n_params:,} parameters, step {vocoder.step}, on {jax.default_backend()}"
    )
    context = sum(vocoder.system.receptive_field)
    if CHUNK.value and context > CHUNK.value:
        cli.say(
            f"--chunk={CHUNK.value}: each chunk is computed with {context} frames of context, which takes "
            f"{(context + CHUNK.value) / CHUNK.value:.1f} times the work of one long chunk"
        )
    written = list(cli.progress(synthesise(vocoder, named, mels, output), "sampling", len(mels)))
    seconds = time.perf_counter() - start
    duration = vocoder.sampled_seconds
    cli.say(
        f"{len(written)} file(s), {duration:.2f} s of audio: {duration / vocoder.run_seconds:.2f} × real time; "
        f"{duration / seconds:.2f} × including {vocoder.compile_seconds:.1f} s of compilation, and reading and writing"
    )
    for path in written:
        cli.say(f"  {path}")
    return cli.LEFT_OUT if len(mels) < len(named) else None


if __name__ == "__main__":
    cli.run(main)
