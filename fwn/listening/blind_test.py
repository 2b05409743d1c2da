"""Writes a blind listening test as a static folder, and its key.

OUTPUT/test/index.html   MOS and A/B. Clip names, file order and the page do not reveal the system of a clip.
OUTPUT/key.json          clip -> system and utterance, for fwn.listening analyse. Not for listeners.
"""

import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from importlib import resources
from itertools import combinations
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from fwn.audio import audio_file
from fwn.errors import UserError, nearest
from fwn.listening.stimuli import ANCHOR, REFERENCE, Audio, Stimuli

MOS_PAUSE, AB_PAUSE = 4.0, 6.0  # seconds to answer, for the estimated duration of the test


def pairs_of(stimuli: Stimuli, wanted: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of A/B: NAME,NAME of --pairs, or else all pairs of systems, or a single system and the reference."""
    names = [*stimuli.systems, REFERENCE]
    if not wanted:
        systems = stimuli.systems if len(stimuli.systems) > 1 else names
        return list(combinations(systems, 2))
    pairs: list[tuple[str, str]] = []
    for spec in wanted:
        a, _, b = (part.strip() for part in spec.partition(","))
        for name in (a, b):
            if name not in names:
                raise UserError(f"--pairs={spec}: no system is named {name!r}{nearest(name, names)}; give NAME,NAME")
        if a == b or {a, b} in map(set, pairs):
            raise UserError(f"--pairs={spec}: {'a pair needs two systems' if a == b else 'given twice'}")
        pairs.append((a, b))
    return pairs


def clip_id(seed: int, system: str, utterance: str) -> str:
    """A clip's file name in test/: a hash, so that neither the name nor the sorted order reveals the system."""
    return hashlib.sha256(f"{seed}/{system}/{utterance}".encode()).hexdigest()[:10]


def write_test(
    folder: Path, stimuli: Stimuli, pairs: Sequence[tuple[str, str]], title: str, seed: int, half_steps: bool
) -> dict[str, Any]:
    """Writes the blind test into `folder` and returns its key."""
    rng = np.random.default_rng(seed)
    ids = {(s, u): clip_id(seed, s, u) for s, u in stimuli.clips}
    if len(set(ids.values())) < len(ids):
        raise UserError(f"--seed={seed}: two clips have the same hash; use another seed")
    ordered = sorted(ids, key=lambda key: ids[key])
    sentence = dict(zip(stimuli.utterances, rng.permutation(len(stimuli.utterances)).tolist(), strict=True))
    mos = [[ids[key], sentence[key[1]]] for key in ordered]
    ab = sorted([*sorted([ids[a, u], ids[b, u]]), sentence[u]] for a, b in pairs for u in stimuli.utterances)
    digest = hashlib.sha256(json.dumps([title, half_steps, mos, ab]).encode())
    (folder / "clips").mkdir(parents=True)
    for key in ordered:
        digest.update(audio_file.pcm16(stimuli.clips[key])[0].tobytes())
        write_clip(folder / "clips" / f"{ids[key]}.wav", stimuli.clips[key], stimuli.sample_rate)
    test = digest.hexdigest()[:12]
    data = {"id": test, "half_steps": half_steps, "mos": mos, "ab": ab}
    seconds = {key: len(clip) / stimuli.sample_rate for key, clip in stimuli.clips.items()}
    total = sum(s + MOS_PAUSE for s in seconds.values())
    total += sum(seconds[a, u] + seconds[b, u] + AB_PAUSE for a, b in pairs for u in stimuli.utterances)
    minutes = max(1, round(total / 60))
    intro = f"You rate {len(mos)} short clips of speech one by one, from 1 (bad) to 5 (excellent)"
    intro += f", and then compare {len(ab)} pairs" if ab else ""
    intro += f". That takes about {minutes} minute{'s' * (minutes > 1)}."
    write_page(folder, "test", ("order.js", "test.js", "style.css"), title=title, intro=intro)
    (folder / "data.js").write_text(f"const TEST = {json.dumps(data)};\n", encoding="utf-8")
    clips = {ids[system, u]: {"system": system, "utterance": u} for system, u in ordered}
    systems = [REFERENCE, *stimuli.systems, ANCHOR]
    return {"test": test, "title": title, "seed": seed, "half_steps": half_steps, "minutes": minutes} | {
        "systems": systems,
        "clips": clips,
        "pairs": [pair[:2] for pair in ab],
    }


def write_page(folder: Path, name: str, assets: Iterable[str], sections: str = "", **words: str) -> None:
    """Writes index.html from pages/NAME.html, and copies `assets` (scripts, style). words are escaped, sections not."""
    pages = resources.files("fwn.listening") / "pages"
    escaped = {field: html.escape(text) for field, text in words.items()}
    page = Template((pages / f"{name}.html").read_text(encoding="utf-8")).substitute(escaped, sections=sections)
    (folder / "index.html").write_text(page, encoding="utf-8")
    for asset in assets:
        (folder / asset).write_text((pages / asset).read_text(encoding="utf-8"), encoding="utf-8")


def write_clip(path: Path, clip: Audio, sample_rate: int) -> None:
    saturated = audio_file.write(path, clip, sample_rate)
    assert saturated == 0, f"{path}: levels were not matched"  # match_levels leaves 1 dB of headroom
