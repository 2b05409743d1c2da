"""What a model is measured on: held-out utterances of a data set, mels beside a voice, or a synthetic signal."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from fwn.data.corpus import Corpus
from fwn.errors import UserError
from fwn.evaluation.measure import chosen
from fwn.mel import MelContract, align, read_mels

UTTERANCES = 3
FRAMES = 128  # of each, from its beginning: a second and a half


class Material(NamedTuple):
    """what: in words. audio: float32 [B, T]; None: the model is to make it. mel: float32 [B, F, M]."""

    what: str
    audio: np.ndarray | None
    mel: np.ndarray
    real: bool  # recordings of the speech that the model is for


def held_out(corpus: Corpus) -> Material:
    """The beginnings of UTTERANCES whole held-out utterances. Raises UserError if there are none."""
    pairs = []
    for i in chosen(corpus, 4 * UTTERANCES):
        try:
            pairs.append((corpus.audio(i), corpus.mel(i)))
        except UserError:  # damaged, as data_set.examine says
            continue
    pairs = [(audio, mel) for audio, mel in pairs if np.isfinite(audio).all() and np.isfinite(mel).all()]
    pairs = sorted(pairs, key=lambda pair: -len(pair[1]))[:UTTERANCES]
    if not pairs:
        raise UserError(f"{corpus.path}: no held-out utterance can be read; run data_prep.prepare again")
    frames = min([FRAMES, *(len(mel) for _, mel in pairs)])
    samples = frames * corpus.contract.hop_length
    audio, mel = np.stack([a[:samples] for a, _ in pairs]), np.stack([m[:frames] for _, m in pairs])
    return Material(f"{len(pairs)} held-out utterances of {corpus.path}", audio, mel, True)


def mels(folder: Path, contract: MelContract) -> Material | None:
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
    return Material(
        f"samples of its own, for {len(found)} mels in {folder}", None, np.stack([mel[:frames] for mel in found]), False
    )


def synthetic(contract: MelContract) -> Material:
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
    return Material("a synthetic signal, which is not speech", audio, np.stack([m[:FRAMES] for _, m in pairs]), False)
