"""Judges recordings by a flow's likelihood: are they what the model knows, where are they odd, where were they cut?

    python -m fwn.score recording.flac recordings 'more/*.wav' --output=out
    python -m fwn.score recording.flac --ckpt=runs/base --data=data/ljspeech --save_reference

FILES are recordings (wav, flac, ogg, mp3), folders of them or patterns. For each it prints nats/sample, with noise of
one 16-bit step as in fwn.evaluate; whether it is typical, which is how it lies among held-out speech of about its
length, since a high likelihood alone says little; and moments at which it may have been cut or mended. --output keeps
scores.json, and for each file NAME.png, likelihood along the waveform, and NAME.csv, the figures of each mel frame.
docs/score.md says what the figures mean and how often they are right.

The held-out distribution comes with the voices of fwn. For another model, --data computes it from the held-out part of
a prepared data set, and --save_reference keeps it beside the model, after which --data is not needed.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from fwn import cli, shipped
from fwn.audio import audio_file
from fwn.data.corpus import Corpus
from fwn.disk import write_text
from fwn.errors import UserError
from fwn.evaluation import score_plots, splices, typical_file
from fwn.evaluation.measure import chosen
from fwn.evaluation.scored import STATISTICS, Scored, scored, surprise
from fwn.evaluation.typicality import Reference, Verdict, judge, reference
from fwn.files.found import distinct, matching
from fwn.mel import MelContract, align
from fwn.synthesis import exported
from fwn.synthesis.vocoder import Vocoder
from fwn.training.checkpoints import Run
from fwn.xla.malloc import keep_memory

CKPT = cli.ckpt()
STEP = cli.step()
WAV = flags.DEFINE_multi_string(
    "wav", [], "Recording to score (wav, flac, ogg, mp3): a file, a folder or a pattern; may be repeated."
)
DATA = flags.DEFINE_string(
    "data", None, "Data set made by data_prep.prepare, whose held-out part the recordings are compared with."
)
UTTERANCES = flags.DEFINE_integer("utterances", 0, "Number of held-out utterances of --data, evenly spaced; 0: all.", 0)
SAVE_REFERENCE = flags.DEFINE_bool(
    "save_reference", False, f"Keep what --data gives beside the model, as {typical_file.FILE}. Needs no recordings."
)
OUTPUT = flags.DEFINE_string(
    "output", None, "Folder for scores.json, plots and tables. By default only lines are printed."
)
SPEAKER = cli.speaker("the only one that it knows.")
SEED = flags.DEFINE_integer("seed", 0, "Seed of the dequantisation noise.", 0, 2**32 - 1)
SHOWN = 3  # moments in a line


class Recording(NamedTuple):
    """16-bit audio float32 [F · hop] and its mel [F, M]."""

    file: Path
    audio: np.ndarray
    mel: np.ndarray


def read(file: Path, mel: MelContract) -> Recording:
    """Raises UserError."""
    samples, notes = audio_file.read(file, mel.sample_rate, mel.n_fft)
    if notes:
        cli.say(f"{file}: {', '.join(notes)}")
    audio, frames = align(samples, mel)
    return Recording(file, audio_file.pcm16(audio)[0].astype(np.float32) / np.float32(32768), frames)


def held_out(run: Run, vocoder: Vocoder, ckpt: str, speaker: Any) -> Reference:
    """The reference of --data, or else that beside the model. Raises UserError without either."""
    if DATA.value is None:
        found = typical_file.read(Path(ckpt), run)
        if found is None:
            raise UserError(
                f"{ckpt}: has no {typical_file.FILE}, so there is no held-out speech to compare with; give a data set: "
                "--data=DIR (--save_reference keeps what it gives)"
            )
        return found
    corpus = Corpus(DATA.value)
    corpus.check_contract(vocoder.mel, ckpt)
    rng, clips = np.random.default_rng(SEED.value), []
    told = {i: vocoder.speakers.of(corpus, i) if speaker is None else speaker for i in chosen(corpus, UTTERANCES.value)}
    for i, who in cli.progress(told.items(), "scoring held-out speech", len(told)):
        clips.append(scored(vocoder, corpus.audio(i), corpus.mel(i), rng, who))
    of = reference(clips, vocoder.mel.sample_rate / vocoder.mel.hop_length)
    if SAVE_REFERENCE.value:
        cli.say(f"written: {typical_file.write(Path(ckpt), run, of, DATA.value)}")
    return of


def line(name: str, nats: float, verdict: Verdict, moments: list[splices.Moment]) -> str:
    """What is printed of one recording."""
    said = f"{name}: {nats:.3f} nats/sample"
    if verdict.p is None or verdict.statistics is None or verdict.deviations is None or verdict.furthest is None:
        said += ", too short to say whether it is typical"
    else:
        far, value = verdict.deviations[verdict.furthest], verdict.statistics[verdict.furthest]
        said += (
            f", {'typical' if verdict.typical else 'not typical'}: {100 * verdict.p:.2g}% of held-out speech is as "
            f"far; furthest is the {STATISTICS[verdict.furthest]}, {value:.3g}, {abs(far):.1f} standard deviations "
            f"{'above' if far > 0 else 'below'} the mean"
        )
    if moments:
        shown = ", ".join(f"{m.seconds:.2f} s (score {m.score:.1f})" for m in moments[:SHOWN])
        more = f" and {len(moments) - SHOWN} more" if len(moments) > SHOWN else ""
        said += f"; cut or mended? {shown}{more}"
    return said


def written(output: Path, s: Scored, of: Reference, moments: list[splices.Moment], title: str, rate: float) -> None:
    """Writes NAME.csv and NAME.png; output: their path without an ending."""
    below, cuts = surprise(s, np.array(of.weights)), splices.score(s, rate)
    usual = s.nats + below
    rows = np.stack([np.arange(len(s.mel)) / rate, s.nats, usual, below, cuts], axis=1)
    heading = "seconds,nats_per_sample,usual,surprise,splice_score\n"
    text = "".join(",".join(f"{value:.6g}" for value in row) + "\n" for row in rows)
    write_text(f"{output}.csv", heading + text)
    score_plots.along(f"{output}.png", s, rate, title, usual, of.band, cuts, of.alarm, moments)


def judged(
    vocoder: Vocoder, recordings: list[Recording], of: Reference, speaker: Any, output: Path | None
) -> Iterator[dict[str, Any]]:
    """Prints the line of each recording, writes its files, and yields what scores.json says of it."""
    rate = vocoder.mel.sample_rate / vocoder.mel.hop_length
    for recording in recordings:
        rng = np.random.default_rng(SEED.value)
        s = scored(vocoder, recording.audio, recording.mel, rng, speaker)
        verdict, moments = judge(s, of, rate), splices.moments(splices.score(s, rate), rate, of.alarm)
        nats = float(s.nats.mean())
        cli.say(line(str(recording.file), nats, verdict, moments))
        if output:
            title = f"{recording.file.stem}: {nats:.3f} nats/sample"
            if verdict.p is not None:
                title += f", {'typical' if verdict.typical else 'not typical'} ({100 * verdict.p:.2g}%)"
            written(output / recording.file.stem, s, of, moments, title, rate)
        yield {
            "file": str(recording.file),
            "seconds": len(s.mel) / rate,
            "nats_per_sample": nats,
            "typical": verdict.typical,
            **verdict._asdict(),
            "moments": [moment._asdict() for moment in moments],
        }


def main(args: list[str]) -> int | None:
    keep_memory(jax.default_backend())
    named = sorted(
        file
        for flag, patterns in (("--wav=", WAV.value), ("", args))
        for pattern in patterns
        for file in matching(pattern, audio_file.EXTENSIONS, flag)
    )
    if SAVE_REFERENCE.value and DATA.value is None:
        raise UserError("--save_reference keeps what a data set gives; give it too: --data=DIR")
    if not named and not SAVE_REFERENCE.value:
        raise UserError("nothing to score: give recordings, or folders of them")
    if OUTPUT.value and named:
        distinct([(file.stem, file) for file in named], ".png", "score them")
    ckpt = CKPT.value or shipped.voice()
    run = exported.read_run(ckpt, STEP.value)
    vocoder = Vocoder(run)
    speaker = vocoder.speakers.given(SPEAKER.value, "speaker")
    recordings: list[Recording] = []
    refused: list[str] = []
    if named:
        vocoder.speakers.numbers(speaker, "--speaker")
        recordings, refused = cli.each_readable([(file, vocoder.mel) for file in named], read)
    output = Path(OUTPUT.value) if OUTPUT.value and named else None
    of = held_out(run, vocoder, ckpt, speaker)
    cli.say_left_out(refused)
    cli.say(
        f"{vocoder.config.system}, {vocoder.n_params:,} parameters, step {vocoder.step}; compared with "
        f"{of.utterances} held-out utterances, {of.seconds:.1f} s"
    )
    if output:
        output.mkdir(parents=True, exist_ok=True)
    found = list(cli.progress(judged(vocoder, recordings, of, speaker, output), "scoring", len(recordings)))
    if output:
        values = {"ckpt": ckpt, "step": vocoder.step, "seed": SEED.value, "speaker": SPEAKER.value}
        compared = {"data": DATA.value, "utterances": of.utterances, "seconds": of.seconds, "alarm": of.alarm}
        result = values | {"held_out": compared, "recordings": found, "left_out": refused}
        write_text(output / "scores.json", json.dumps(result, indent=2) + "\n")  # last: then all is there
    return cli.LEFT_OUT if refused else None


if __name__ == "__main__":
    cli.run(main)
