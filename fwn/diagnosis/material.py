"""What a model is measured on: held-out utterances of a data set, mels beside a voice, or a synthetic signal."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fwn.config import Speakers
from fwn.data.corpus import Corpus
from fwn.errors import UserError
from fwn.evaluation.measure import chosen
from fwn.mel import MelContract, align, read_mels

UTTERANCES = 3
FRAMES = 128  # of each, from its beginning: a second and a half


class Material(NamedTuple):
    """what: in words. audio: float32 [B, T]; None: the model is to make it. mel: float32 [B, F, M]. speakers: [B]."""

    what: str
    audio: np.ndarray | None
    mel: np.ndarray
    speakers: list[Any]  # names, vectors or None, as the model is told who speaks
    real: bool  # recordings of the speech that the model is for


def held_out(corpus: Corpus, told: Speakers) -> Material:
    """The beginnings of UTTERANCES whole held-out utterances. Raises UserError if there are none.

    told: the speakers of the model.
    """
    found = []
    for i in chosen(corpus, 4 * UTTERANCES):
        try:
            found.append((corpus.audio(i), corpus.mel(i), i))
        except UserError:  # damaged, as data_set.examine says
            continue
    found = [(audio, mel, i) for audio, mel, i in found if np.isfinite(audio).all() and np.isfinite(mel).all()]
    found = sorted(found, key=lambda one: -len(one[1]))[:UTTERANCES]
    if not found:
        raise UserError(f"{corpus.path}: no held-out utterance can be read; run data_prep.prepare again")
    frames = min([FRAMES, *(len(mel) for _, mel, _ in found)])
    samples = frames * corpus.contract.hop_length
    audio, mel = np.stack([a[:samples] for a, _, _ in found]), np.stack([m[:frames] for _, m, _ in found])
    what = f"{len(found)} held-out utterances of {corpus.path}"
    try:
        speakers = [told.of(corpus, i) for _, _, i in found]
    except UserError as error:
        speakers, what = [told.example] * len(found), f"{what}, as any speaker ({error})"
    return Material(what, audio, mel, speakers, True)


def mels(folder: Path, contract: MelContract, told: Speakers) -> Material | None:
    """The .npy files in a folder beside a voice's weights; None if there is none of this contract."""
    found = []
    for file in sorted(folder.glob("*.npy"))[:UTTERANCES]:
        try:
            found += read_mels(file, contract)
        except UserError:
            continue
    if not found:
        return None
    frames = min([FRAMES, *(len(mel) for mel in found)])
    what, mel = f"samples of its own, for {len(found)} mels in {folder}", np.stack([mel[:frames] for mel in found])
    return Material(what, None, mel, [told.example] * len(found), False)


def synthetic(contract: MelContract, told: Speakers) -> Material:
    """Two voiced signals in syllables, with some breath. It is not speech: only the arithmetic can be judged by it."""
    rate, pairs = contract.sample_rate, []
    samples = FRAMES * contract.hop_length + contract.n_fft
    for i, pitch in enumerate((110.0, 190.0)):
        t = np.arange(samples) / rate
        phase = 2 * np.pi * np.cumsum(pitch + 20 * np.sin(2 * np.pi * 1.5 * t)) / rate
        voiced = np.sum([np.sin(k * phase + k) / k**1.2 for k in range(1, 16)], axis=0)
        breath = np.random.default_rng(i).normal(size=samples)
        sound = 0.12 * voiced * np.clip(np.sin(2 * np.pi * 4 * t), 0, None) + 0.003 * breath
        pairs.append(align(sound.astype(np.float32), contract))
    audio = np.stack([a[: FRAMES * contract.hop_length] for a, _ in pairs])
    mel, speakers = np.stack([m[:FRAMES] for _, m in pairs]), [told.example] * len(pairs)
    return Material("a synthetic signal, which is not speech", audio, mel, speakers, False)
