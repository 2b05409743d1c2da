"""Who speaks: what a model is told of the speaker, by number or by a vector (config.speakers, docs/speakers.md)."""

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from fwn.errors import UserError, nearest, short
from fwn.files.vector import read_vector
from fwn.mel import as_array, several

FIELDS = "kind", "names", "size"
KINDS = "none", "id", "embedding"
DEFAULT: dict[str, Any] = {"kind": "none", "names": [], "size": 0}  # as in JSON
LISTED = 300  # most names in a message


class Speakers:
    """config.speakers: kind "none", "id" with names, or "embedding" with the size of the vectors.

    A model gets numbers in channels after those of the mel (fwn/nn/speaker.py): a speaker's place among the names, a
    vector, or none.
    """

    def __init__(self, config: Any):
        fields = config.get("speakers") or DEFAULT
        self.kind, self.names = fields["kind"], tuple(fields["names"])
        self.size = fields["size"] or int(self.kind == "embedding")  # 1 before a data set was read, as in fwn.bench

    def numbers(self, speaker: Any, source: str = "speaker") -> np.ndarray:
        """float32 [channels] of a speaker: a name, a vector, or None. Raises UserError, starting with `source`.

        None is enough for a model that is not told the speaker, or that knows only one.
        """
        if self.kind == "none":
            if speaker is not None:
                raise UserError(f"{source} is {short(speaker)}, but the model is not told who speaks; leave it out")
            return np.zeros(0, np.float32)
        if self.kind == "embedding":
            return self._vector(speaker, source)
        if speaker is None and len(self.names) <= 1:  # no name before a data set was read
            return np.zeros(1, np.float32)
        if speaker is None:
            raise UserError(f"{source}: the model must be told who speaks; it knows {listed(self.names)}")
        speaker = str(speaker) if isinstance(speaker, int | np.integer) else speaker  # LibriTTS' names are numbers
        if not isinstance(speaker, str) or speaker not in self.names:
            close = nearest(speaker, self.names) if isinstance(speaker, str) else ""
            raise UserError(
                f"{source} is {short(speaker)}, whom the model does not know{close}; it knows {listed(self.names)}"
            )
        return np.array([self.names.index(speaker)], np.float32)

    def each(self, speaker: Any, n: int) -> list[Any]:
        """Who speaks in each of n mels: one speaker in all, or as a list (for vectors an array too) says."""
        levels = 2 if self.kind == "embedding" else 1
        if not several(speaker, levels) or (levels == 2 and len(speaker) == 1):
            return [speaker] * n
        if len(speaker) != n:
            raise UserError(f"speaker: {len(speaker)} speakers for {n} mels; give one, or one for each")
        return list(speaker)

    def given(self, text: str | None, flag: str) -> Any:
        """The speaker that a flag gives: a name, the vector in a file, or None. Raises UserError if none can be it."""
        if text is None:
            return None
        file = Path(text)
        by_file = self.kind == "embedding" and (file.suffix or file.exists())
        speaker = read_vector(file) if by_file else text
        self.numbers(speaker, f"--{flag}={text}" if by_file else f"--{flag}")
        return speaker

    @property
    def example(self) -> Any:
        """Any speaker, where it does not matter who speaks: the first name, a vector of zeros, or None."""
        if self.kind == "embedding":
            return np.zeros(self.size, np.float32)
        return self.names[0] if self.names else None

    def of(self, corpus: Any, i: int) -> Any:
        """Who speaks in utterance i of a data set: a name, a vector, or None for a model that is not told.

        Raises UserError if the data set does not say, or if the model does not know the speaker.
        """
        speaker = self.said(corpus, i)
        self.numbers(speaker, f"{corpus.path}: the speaker of {corpus.utterances[i].name}")
        return speaker

    def said(self, corpus: Any, i: int) -> Any:
        """The same, of speakers whom the model need not know."""
        if self.kind == "none":
            return None
        if self.kind == "embedding":
            if corpus.speaker_embeddings is None:
                raise UserError(
                    f"{corpus.path}: has no vectors of speakers, which the model must be given; prepare it again with "
                    "--speaker_embeddings"
                )
            return corpus.speaker_embeddings[i]
        if not corpus.utterances[i].speaker and len(self.names) != 1:
            silent = sum(not utterance.speaker for utterance in corpus.utterances)
            raise UserError(
                f"{corpus.path}: does not say who speaks in {silent} of {len(corpus)} utterances, as "
                f"{corpus.utterances[i].name}; prepare it again, a folder with --speaker_folders, the layout of "
                "LJSpeech with --speaker_column"
            )
        return corpus.utterances[i].speaker or None

    def table(self, corpus: Any) -> np.ndarray | None:
        """float32 [utterances, channels] of a data set; None for a model that is not told. Raises UserError."""
        if self.kind == "none":
            return None
        return np.stack([self.numbers(self.of(corpus, i)) for i in range(len(corpus))])

    def _vector(self, speaker: Any, source: str) -> np.ndarray:
        vector = np.asarray([] if speaker is None else as_array(speaker, source))
        if vector.dtype.kind not in "fiub" or not vector.size:
            raise UserError(
                f"{source} is {short(speaker)}; the model is told who speaks by a vector of {self.size} numbers: give "
                "one, to a program in a file"
            )
        vector = vector.astype(np.float32)
        vector = vector[0] if vector.ndim == 2 and len(vector) == 1 else vector
        if vector.shape != (self.size,):
            raise UserError(f"{source} has the shape {list(vector.shape)}; give a vector of {self.size} numbers")
        if not np.isfinite(vector).all():
            raise UserError(f"{source}: {np.count_nonzero(~np.isfinite(vector))} of {self.size} numbers are not finite")
        return vector


def settle(config: ConfigDict, begun: Any, teacher: Any) -> str:
    """Completes config.speakers, which is open before anything is read, and says what was taken from elsewhere, or "".

    begun: config of the run that is continued, whose speakers it keeps; None: a new run. teacher: config of a student's
    teacher, whose speakers are the student's too; None: it has none.
    """
    fields = config.speakers
    if teacher is not None and fields.kind == "none" and Speakers(teacher).kind != "none":
        _set(config, Speakers(teacher))
        return f"config.speakers: those of the teacher, kind {fields.kind}"
    for other in (begun, teacher):
        if other is not None and fields.kind == Speakers(other).kind and not fields.names and not fields.size:
            _set(config, Speakers(other))
    return ""


def settle_by_data(config: ConfigDict, corpus: Any) -> str:
    """Completes config.speakers of a new run by its data set, and says who speaks, or "" for one unnamed speaker."""
    fields, there = config.speakers, corpus.speakers
    if fields.kind == "none":
        return f"{corpus.path}: {len(there)} speakers; the model is not told who speaks" if len(there) > 1 else ""
    if fields.kind == "embedding":
        if not fields.size:
            fields.size = len(Speakers(config).said(corpus, 0))
        return f"{corpus.path}: the model is told who speaks by vectors of {fields.size} numbers"
    if not fields.names:
        Speakers(config).said(corpus, next((i for i, u in enumerate(corpus.utterances) if not u.speaker), 0))
        fields.names = tuple(there)
    return f"{corpus.path}: {len(there)} speakers, of {len(fields.names)} whom the model knows"


def _set(config: ConfigDict, speakers: Speakers) -> None:
    config.speakers.update({"kind": speakers.kind, "names": speakers.names, "size": speakers.size})


def listed(names: tuple[str, ...]) -> str:
    """Names for a message."""
    more = f" and {len(names) - LISTED} more (config.json)" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def check(fields: Any, source: str) -> None:
    """Raises UserError unless config.speakers can be right."""
    kind, names, size = (fields[name] for name in FIELDS)
    if kind not in KINDS:
        raise UserError(
            f"{source}: speakers.kind is {short(kind)}; there are: {', '.join(KINDS)}{nearest(str(kind), KINDS)}"
        )
    texts = isinstance(names, list | tuple) and all(isinstance(name, str) and name for name in names)
    if not texts or len(set(names)) < len(names) or (names and kind != "id"):
        raise UserError(
            f"{source}: speakers.names is {short(names)}; it must be different names, for kind id alone; leave it "
            "empty for those of the data set"
        )
    if type(size) is not int or not 0 <= size <= 2**16 or (size and kind != "embedding"):
        raise UserError(
            f"{source}: speakers.size is {short(size)}; it must be a whole number, for kind embedding alone; 0: that "
            "of the data set's vectors"
        )
