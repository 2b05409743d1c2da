"""Prepares a corpus for training: converts recordings to memory-mapped shards of audio and mels, with a manifest.

    python -m data_prep.prepare --corpus=ljspeech --input=LJSpeech-1.1 --output=data/ljspeech

--corpus=ljspeech reads metadata.csv, transcripts included, and wavs/. --corpus=folder reads every recording in a folder
and its subfolders. --corpus=vctk, libritts, arctic (CMU ARCTIC), jsut and csmsc read these as they are published, with
transcripts and speakers. The last tenth of each speaker's utterances is for testing. All formats of libsndfile are read
(wav, flac, ogg, mp3, …). Recordings are resampled to the sample rate of the mel contract (all parameters of a
mel-spectrogram, see fwn.mel) and mixed down to mono; the program says how many.

With --mels a data set has mels that an acoustic model made of the recordings' texts, aligned to the recordings. A
vocoder trained on them hears in training what it hears in use (docs/mels.md). With --speaker_embeddings each recording
comes with a vector of its speaker, for models that are told who speaks by such vectors (docs/speakers.md).

A recording that is missing, unreadable, empty, silent, too short or not finite is left out. Its name and the reason are
printed and listed in manifest.json, and the exit code is 3.

manifest.json is written last, so a folder that contains it is complete. After an interruption run the same command
again: finished shards (about 13 minutes of speech each) are kept. When recordings or transcripts were added, changed or
removed, the same command updates the data set and converts only the new recordings. It verifies the checksums of the
files in it, and makes damaged ones again.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags

from fwn import cli
from fwn.cli import say
from fwn.data.manifest import FILE, FORMAT, read_values
from fwn.disk import atomic, locked
from fwn.errors import UserError
from fwn.mel import PRESETS, read_contract

from . import layouts, pairs, shards, speaker_embeddings
from .contents import GIVEN, changed, check_same_corpus, check_settings, contents
from .recordings import Kind, fingerprint

SHOWN = 20  # print at most this many of the recordings left out; the manifest lists all


def prepare(
    corpus: str,
    source: Path,
    output: Path,
    kind: Kind,
    test_share: float,
    seed: int | None,
    workers: int,
    shard_bytes: int = shards.SHARD_BYTES,
    unchecked: bool = False,
    speakers: layouts.Options = layouts.UNSAID,
    embeddings: Path | None = None,
) -> list[dict[str, str]]:
    """Creates or updates the data set in `output` from the recordings in `source`.

    unchecked: do not compare given mels (Kind.mels) with the recordings. speakers: where the corpus has their names.
    embeddings: folder with a vector of the speaker of each recording.

    Returns {name, source, reason} of each recording left out. Raises UserError if no recording is usable, or if
    `output` holds anything but a data set of this corpus with these settings.
    """
    recordings, missing = layouts.find(corpus, source, speakers)
    if kind.mels is not None:
        recordings, without = pairs.paired(recordings, kind.mels)
        missing += without
    vectors = None
    if embeddings is not None:
        recordings, without, vectors = speaker_embeddings.given(recordings, embeddings)
        missing += without
    settings = {
        "format": FORMAT,
        "corpus": corpus,
        "mel": kind.contract.to_dict(),
        "mel_hash": kind.contract.hash(),
        "sample_rate": kind.contract.sample_rate,
        "audio_dtype": kind.audio_dtype,
        "mel_dtype": kind.mel_dtype,
        "test_share": test_share,
        "seed": seed,
    } | ({} if kind.mels is None else dict(zip(GIVEN, ("given", kind.tolerance), strict=True)))
    with _locked(output), shards.workers(min(workers, max(1, len(recordings)))) as pool:
        old = read_values(output) if (output / FILE).exists() else None
        if old is not None:
            check_settings(old, settings, vectors is not None, output)
        if kind.mels is not None and recordings and not unchecked:
            say(pairs.compared(recordings, source, kind.mels, kind.contract, pool))
        hashed = shards.in_order(
            lambda recording: pool.submit(fingerprint, source, recording, kind.mels), recordings, 8 * workers
        )
        recordings = list(cli.progress(hashed, "checksums", len(recordings)))
        if old is not None:
            check_same_corpus(old, recordings, output)
        plan = shards.plan(recordings, kind, shard_bytes)
        parts = sorted((output / shards.PARTS).glob("*.json"))
        done = shards.finished(output, cli.progress(parts, "checksums of shards"))
        todo = [(key, group) for key, group in plan if key not in done]
        if damaged := {part.stem for part in parts} & {key for key, _ in todo}:
            say(f"{len(damaged)} shards are damaged, or of version 0.1, which had no checksums: they are made again")
        count = sum(len(group) for _, group in todo)
        if done and todo:
            say(f"{len(recordings) - count} of {len(recordings)} recordings are already prepared")
        for _ in cli.progress(shards.build(todo, done, source, output, kind, pool, 2 * workers + 2), "prepare", count):
            pass
        said = {recording.name: {"text": recording.text, "speaker": recording.speaker} for recording in recordings}
        manifest, files = contents(settings, [done[key] for key, _ in plan], missing, said, vectors)
        if not manifest["utterances"]:
            why = "; ".join(f"{entry['name']}: {entry['reason']}" for entry in manifest["left_out"][:3]) or "none found"
            raise UserError(f"--input={source}: no usable recording among {len(recordings) + len(missing)} ({why})")
        files = changed(output, files) | ({} if manifest == old else {FILE: json.dumps(manifest, indent=1).encode()})
        if not files:
            say("nothing to do: the data set is up to date")
        for name, content in files.items():  # the manifest is the last
            with atomic(output / name) as file:
                file.write(content)
        stored = manifest.get("speaker_embeddings", {"file": ""})["file"]
        shards.sweep(output, {key for key, _ in plan} | {Path(stored).stem.removeprefix("speakers-")})
    _report(manifest, output)
    return manifest["left_out"]


@contextlib.contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Creates the folder and locks it. Raises UserError if it holds anything but a prepared data set."""
    if output.exists() and not output.is_dir():
        raise UserError(f"--output={output}: is a file; give a folder")
    parts = output / shards.PARTS
    if output.is_dir() and any(output.iterdir()) and not parts.is_dir() and not (output / FILE).exists():
        raise UserError(f"--output={output}: not empty and not a prepared data set; give a new folder")
    parts.mkdir(parents=True, exist_ok=True)
    with locked(
        parts / "lock", f"--output={output}: another data_prep.prepare is running there; wait for it, or stop it"
    ):
        yield


def _report(manifest: dict[str, Any], output: Path) -> None:
    utterances, left_out = manifest["utterances"], manifest["left_out"]
    for note, count in manifest["notes"].items():
        say(f"{note}: {count} recordings")
    for entry in left_out[:SHOWN]:
        say(f"left out {entry['name']} ({entry['source']}): {entry['reason']}")
    if len(left_out) > SHOWN:
        say(f"… and {len(left_out) - SHOWN} more, listed in {output / FILE}")
    seconds = sum(utterance["samples"] for utterance in utterances) / manifest["sample_rate"]
    test = sum(utterance["split"] == "test" for utterance in utterances)
    speakers = len({utterance.get("speaker") for utterance in utterances})
    of = f" of {speakers} speakers" if speakers > 1 else ""
    say(
        f"{output}: {len(utterances)} utterances{of}, {seconds / 60:.1f} min ({len(utterances) - test} train, {test} "
        f"test), mel {manifest['mel']['name']} {manifest['mel_hash']}"
        + (f"; {len(left_out)} left out" if left_out else "")
    )


CORPUS = flags.DEFINE_enum("corpus", None, list(layouts.LAYOUTS), "Layout of --input.", required=True)
INPUT = flags.DEFINE_string("input", None, "Folder with the recordings.", required=True)
SPEAKER_COLUMN = flags.DEFINE_integer(
    "speaker_column",
    0,
    "With --corpus=ljspeech: column of metadata.csv that names the speaker, counted from 1; 0: there is none.",
    lower_bound=0,
)
SPEAKER_FOLDERS = flags.DEFINE_bool(
    "speaker_folders", False, "With --corpus=folder: the first folder below --input is the speaker's."
)
OUTPUT = flags.DEFINE_string("output", None, "Folder for the prepared data set; created if missing.", required=True)
MEL = flags.DEFINE_string(
    "mel", "flowavenet", f"Mel contract: {', '.join(PRESETS)}, or a JSON file with all fields of fwn.mel.MelContract."
)
MELS = flags.DEFINE_string(
    "mels",
    None,
    "Folder of mels that an acoustic model made for these recordings, of the contract --mel, to store instead of the "
    "recordings' own. A mel is a file with the name of its recording (.npy, .npz, .pt, .pth, .safetensors, .h5). "
    "Some are compared with the recordings first.",
)
MELS_TOLERANCE = flags.DEFINE_integer(
    "mels_tolerance",
    2,
    "With --mels: frames by which a mel may be longer or shorter than its recording; the longer is cut at its end. "
    "Others are left out.",
    lower_bound=0,
)
MELS_UNCHECKED = flags.DEFINE_bool("mels_unchecked", False, "With --mels: do not compare mels with the recordings.")
SPEAKER_EMBEDDINGS = flags.DEFINE_string(
    "speaker_embeddings",
    None,
    "Folder with a vector of the speaker for each recording: a file of one array with the recording's name (.npy, "
    ".npz, .pt, .pth, .safetensors, .h5).",
)
AUDIO_DTYPE = flags.DEFINE_enum("audio_dtype", "int16", ["int16", "float16"], "Type of the stored audio.")
MEL_DTYPE = flags.DEFINE_enum("mel_dtype", "float32", ["float16", "float32"], "Type of the stored mels.")
TEST_SHARE = flags.DEFINE_float(
    "test_share", 0.1, "Fraction of the utterances in the test split.", lower_bound=0.0, upper_bound=0.9
)
SEED = flags.DEFINE_integer(
    "seed",
    None,
    "Seed of a random test split. By default the last utterances are the test split, as in the official code.",
)
WORKERS = flags.DEFINE_integer("workers", None, "Worker processes. By default one per CPU core.", lower_bound=1)


def main(args: list[str]) -> int | None:
    if args:
        raise UserError(f"unexpected argument {args[0]!r}; give the recordings with --input=DIR")
    if not MELS.value and (MELS_UNCHECKED.value or MELS_TOLERANCE.present):
        flag = "--mels_unchecked" if MELS_UNCHECKED.value else f"--mels_tolerance={MELS_TOLERANCE.value}"
        raise UserError(f"{flag}: needs --mels, the folder of given mels")
    for flag, value, layout in (
        ("speaker_column", SPEAKER_COLUMN.value, "ljspeech"),
        ("speaker_folders", SPEAKER_FOLDERS.value, "folder"),
    ):
        if value and CORPUS.value != layout:
            raise UserError(f"--{flag}: is for --corpus={layout}, and this is --corpus={CORPUS.value}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers inherit it: each uses one core
    left_out = prepare(
        corpus=CORPUS.value,
        source=Path(INPUT.value),
        output=Path(OUTPUT.value),
        kind=Kind(
            read_contract(MEL.value, "--mel"),
            AUDIO_DTYPE.value,
            MEL_DTYPE.value,
            Path(MELS.value) if MELS.value else None,
            MELS_TOLERANCE.value,
        ),
        test_share=TEST_SHARE.value,
        seed=SEED.value,
        workers=WORKERS.value or os.cpu_count() or 1,
        unchecked=MELS_UNCHECKED.value,
        speakers=layouts.Options(SPEAKER_COLUMN.value, SPEAKER_FOLDERS.value),
        embeddings=Path(SPEAKER_EMBEDDINGS.value) if SPEAKER_EMBEDDINGS.value else None,
    )
    return cli.LEFT_OUT if left_out else None


if __name__ == "__main__":
    cli.run(main)
