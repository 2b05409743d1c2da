"""A data set of data_prep.prepare: is it whole, and are its clips fit to train on? One utterance is read at a time."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from fwn.data import manifest
from fwn.data.corpus import REPAIR, Corpus, to_float
from fwn.diagnosis.clips import Clip, as_recorded, is_copy, measured, mel_difference
from fwn.diagnosis.finding import ERROR, NOTE, WARNING, Examination, Finding, named
from fwn.disk import file_crc32
from fwn.errors import UserError
from fwn.evaluation.measure import evenly_spaced
from fwn.mel.agreement import agreement
from fwn.terminal import progress

CLIPPED = 1e-4  # share of samples in flat tops
OFFSET = 0.1  # |mean| relative to the RMS
QUIET = 0.5  # share of frames below -60 dB of full scale
SILENT = -60.0  # level of a clip, dB of full scale
ODD_LEVEL = 12.0  # dB from the median clip
LOW_LEVEL = -40.0  # median level, dB of full scale
FEW_MINUTES = 10.0
COMPARED = 4  # utterances of which the mel is computed again
MEL_DIFFERENCE = 0.02  # mean difference relative to the range of values; 16-bit rounding makes 0.001


def examine(folder: Path, frames: int | None = None) -> Examination:
    """frames: mel frames of a crop of the run that uses the data, whose short clips are left out; None: no run.

    Raises UserError if the folder has no data set.
    """
    if not (folder / manifest.FILE).is_file():
        manifest.read_values(folder)  # raises UserError, with what is missing
    corpus = Corpus(folder)
    yield from _overview(corpus, frames)
    yield from _files(folder)
    clips: dict[int, Clip] = {}
    damaged = []
    for i in progress(range(len(corpus)), "examining clips", len(corpus)):
        try:
            mel = corpus.mel(i)
            clips[i] = measured(corpus.audio(i), mel, corpus.contract.hop_length)
        except UserError:
            damaged.append(i)

    def names(chosen: Sequence[int]) -> str:
        return named([corpus.utterances[i].name for i in chosen])

    if damaged:
        what = f"{len(damaged)} utterances do not have their checksums: {names(damaged)}"
        yield Finding(ERROR, f"{folder}: {what}", REPAIR)
    yield from _defects(clips, names)
    yield from _copies(corpus, clips, names)
    yield from _mels(corpus, [i for i, clip in clips.items() if clip.finite], names)


def _overview(corpus: Corpus, frames: int | None) -> Examination:
    seconds = corpus.contract.hop_length / corpus.contract.sample_rate
    lengths = np.array([utterance.frames for utterance in corpus.utterances])
    minutes = seconds * lengths.sum() / 60
    splits = Counter(utterance.split for utterance in corpus.utterances)
    low, middle, high = seconds * np.percentile(lengths, (0, 50, 100))
    yield (
        f"{len(corpus)} utterances, {minutes:.1f} minutes: {splits['train']} to train, {splits['test']} held out; "
        f"lengths {low:.1f} to {high:.1f} s, median {middle:.1f} s"
    )
    yield f"mel contract: {corpus.contract.title}, {corpus.contract.sample_rate} Hz"
    for split in manifest.SPLITS:
        if not splits[split]:
            yield Finding(
                ERROR, f"no utterance is in the {split} split", "prepare the data set again with another --test_share"
            )
        elif frames and not any(u.frames >= frames for u in corpus.utterances if u.split == split):
            yield Finding(
                ERROR,
                f"no {split} utterance has the {frames} frames of a crop ({frames * seconds:.2f} s)",
                "lower config.frames, or prepare longer recordings",
            )
    short = int((lengths < frames).sum()) if frames else 0
    if short:
        severity = WARNING if short > len(corpus) / 4 else NOTE
        yield Finding(
            severity,
            f"{short} of {len(corpus)} utterances are shorter than a crop of {frames} frames and never used",
            "lower config.frames, or join short recordings before preparing them",
        )
    if minutes < FEW_MINUTES:
        yield Finding(
            NOTE,
            f"{minutes:.1f} minutes of speech are few: expect held-out likelihood to fall behind soon",
            "record more, or begin with a trained voice: fwn.train --init_from=voices/lj-mini",
        )
    if corpus.left_out:
        reasons = Counter(entry["reason"] for entry in corpus.left_out).most_common(2)
        why = "; ".join(f"{count} × {reason}" for reason, count in reasons)
        yield Finding(
            NOTE,
            f"{len(corpus.left_out)} recordings were left out when it was prepared ({why})",
            f"{manifest.FILE} lists them under left_out; repair them and run data_prep.prepare again",
        )


def _files(folder: Path) -> Examination:
    """Compares every file with its checksum."""
    shards = manifest.read(folder).shards
    files = {name: saved for s in shards for name, saved in ((s.audio, s.audio_crc32), (s.mel, s.mel_crc32))}
    if not all(files.values()):
        yield Finding(
            NOTE,
            "version 0.1 stored no checksums: damage cannot be told",
            "run data_prep.prepare again, which adds them",
        )
        return
    wrong = [
        name
        for name, saved in progress(files.items(), "checksums of files", len(files))
        if file_crc32(folder / name) != saved
    ]
    yield f"checksums: {len(files) - len(wrong)} of {len(files)} files are as they were saved"
    if wrong:
        yield Finding(ERROR, f"{folder}: {len(wrong)} files are damaged: {named(wrong)}", REPAIR)


def _defects(clips: Mapping[int, Clip], names: Callable[[Sequence[int]], str]) -> Examination:
    """Levels, offsets, clipping and silence of all clips."""
    broken = [i for i, clip in clips.items() if not clip.finite]
    if broken:
        yield Finding(
            ERROR,
            f"{len(broken)} utterances have NaN or infinite values: {names(broken)}",
            "training on them skips steps; run data_prep.prepare again in a new folder",
        )
    clips = {i: clip for i, clip in clips.items() if clip.finite}
    if not clips:
        return
    levels = np.array([clip.level for clip in clips.values()])
    median = float(np.median(levels))
    quiet = float(np.mean([clip.quiet for clip in clips.values()]))
    yield (
        f"level: median {median:.1f} dB of full scale, {levels.min():.1f} to {levels.max():.1f}; "
        f"{100 * quiet:.1f}% of all frames are below -60 dB"
    )

    def worst(wrong: Callable[[Clip], float]) -> list[int]:
        """Clips of which `wrong` is above 0, the worst first."""
        return sorted((i for i, clip in clips.items() if wrong(clip) > 0), key=lambda i: -wrong(clips[i]))

    silent = worst(lambda c: SILENT - c.level)
    checks = [
        (silent, "are silent (below -60 dB)", "remove them: ActNorm initialised on silence has huge scales, up to NaN"),
        (
            [i for i in worst(lambda c: c.quiet - QUIET) if i not in silent],
            "are mostly silent (over half of their frames below -60 dB)",
            "cut their pauses; and set config.dequantise=True, without which silence has no bound of likelihood",
        ),
        (
            worst(lambda c: c.clipped - CLIPPED),
            "are clipped (flat tops at their highest level)",
            "record them again with less gain, or remove them: the model learns the distortion",
        ),
        (
            worst(lambda c: c.offset - OFFSET),
            "have a DC offset (mean over a tenth of the RMS)",
            "high-pass the recordings at 20 to 50 Hz and prepare them again",
        ),
        (
            [i for i in worst(lambda c: abs(c.level - median) - ODD_LEVEL) if i not in silent],
            f"are over {ODD_LEVEL:.0f} dB louder or quieter than the median",
            "listen to them: other rooms, clicks that set the peak, or noise; level or remove them",
        ),
    ]
    for chosen, what, remedy in checks:
        if chosen:
            yield Finding(WARNING, f"{len(chosen)} of {len(clips)} clips {what}: {names(chosen)}", remedy)
    if median < LOW_LEVEL:
        yield Finding(
            WARNING,
            f"the whole data set is low: median level {median:.1f} dB of full scale",
            "raise the gain of the recordings: 16-bit steps are loud beside them",
        )


def _copies(corpus: Corpus, clips: Mapping[int, Clip], names: Callable[[Sequence[int]], str]) -> Examination:
    """The same recording more than once, up to level and silence around it. Only clips of equal span are compared."""
    alike: dict[int, list[int]] = defaultdict(list)
    for i, clip in clips.items():
        if clip.finite and clip.level > SILENT:
            alike[clip.span].append(i)
    copies, leaked = [], set()
    for same in alike.values():
        for n, j in enumerate(same[1:], 1):
            audio, top = corpus[j]["audio"], clips[j].top
            equal = [i for i in same[:n] if is_copy(corpus[i]["audio"], clips[i].top, audio, top)]
            copies += [j] * bool(equal)
            if len({corpus.utterances[i].split for i in [*equal, j]}) > 1:
                leaked |= {i for i in [*equal, j] if corpus.utterances[i].split == "test"}
    if leaked:
        yield Finding(
            ERROR,
            f"{len(leaked)} held-out clips are also in the training split: {names(sorted(leaked))}",
            "remove the copies and prepare the data set again in a new folder: held-out figures are too good",
        )
    if copies:
        yield Finding(
            WARNING, f"{len(copies)} clips are copies of others: {names(copies)}", "remove them: they count twice"
        )
    if not copies:
        yield "no clip is a copy of another, at any level and with any silence around it"


def _mels(corpus: Corpus, whole: Sequence[int], names: Callable[[Sequence[int]], str]) -> Examination:
    """Compares a few stored mels with those of the stored audio."""
    contract = corpus.contract
    least = 4 * -(-contract.n_fft // contract.hop_length)  # frames, of which both ends are not compared
    chosen = evenly_spaced([i for i in whole if corpus.utterances[i].frames >= least], COMPARED)
    if corpus.given_mels:
        yield from _given_mels(corpus, chosen, names)
        return
    differences = {
        i: mel_difference(to_float(corpus[i]["audio"]), corpus.mel(i), corpus.utterances[i].samples, contract)
        for i in chosen
    }
    if not differences:
        return
    yield (
        f"mels of {len(chosen)} utterances computed again: they differ by at most "
        f"{100 * max(differences.values()):.2g}% of the range of values, in the mean of an utterance"
    )
    wrong = [i for i, difference in differences.items() if difference > MEL_DIFFERENCE]
    if wrong:
        yield Finding(
            ERROR,
            f"{len(wrong)} of {len(chosen)} mels are not those of their audio: {names(wrong)}",
            "prepare the data set again in a new folder: a model trained on it learns nothing from the mel",
        )


def _given_mels(corpus: Corpus, chosen: Sequence[int], names: Callable[[Sequence[int]], str]) -> Examination:
    """Compares a few mels of an acoustic model with those of their audio."""
    audio = {i: as_recorded(corpus.audio(i), corpus.utterances[i].samples, corpus.contract) for i in chosen}
    found = {i: agreement(corpus.mel(i), heard, corpus.contract) for i, heard in audio.items() if heard.any()}
    differ = [i for i, one in found.items() if one is None or not one.same]
    yield f"mels are given ones: {len(found) - len(differ)} of {len(found)} agree with {corpus.contract.name}"
    if differ:
        what = f"{len(differ)} of {len(found)} given mels do not agree with their audio: {names(differ)}"
        yield Finding(WARNING, what, "look at them with `python -m fwn.mel inspect FILE --wav=RECORDING`")
