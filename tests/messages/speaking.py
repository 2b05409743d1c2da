"""Errors of models that are told who speaks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import small

import fwn
from data_prep.layouts import Options
from data_prep.prepare import prepare
from data_prep.recordings import Kind
from fwn.data.corpus import Corpus
from fwn.mel import PRESETS

from . import EVALUATE, PREPARE, SAMPLE, TRAIN, Place, Row
from .fields import tiny

FLAT = np.full((8, 80), 0.5, np.float32)
SAMPLED = "--mel={mels}/a.npy --output={here}/out "
FOLDER = "--corpus=folder --input={recordings} --output={here}/out --workers=1 "
TOLD = "--workdir={here}/new --config=tiny --config.data={here}/data --config.frames=8 --config.speakers.kind="


def speaking(model: str, speaker: Any) -> Callable[[Place], Any]:
    return lambda place: fwn.load(place.shelf[model])(FLAT, speaker=speaker)


def vectors(**arrays: Any) -> Callable[[Place], None]:
    """Files of arrays by name in vectors/."""

    def make(place: Place) -> None:
        (place.here / "vectors").mkdir()
        for name, array in arrays.items():
            np.save(place.here / "vectors" / f"{name}.npy", array)

    return make


def data(name: str) -> Callable[[Place], None]:
    """A data set of the recordings of one speaker's folder, in data/."""

    def make(place: Place) -> None:
        small.record(place.here / "in" / name, [4000, 4200, 9000])
        kind = Kind(PRESETS["flowavenet"], "int16", "float32")
        given = place.here / "in", place.here / "data", kind, 0.4, None, 1
        prepare("folder", *given, speakers=Options(folders=True))

    return make


def with_vectors(place: Place) -> None:
    """A data set with a vector for each of three recordings."""
    vectors(u00=np.ones(3), u01=np.ones(3), u02=np.ones(3))(place)
    kind = Kind(PRESETS["flowavenet"], "int16", "float32")
    given = place.shelf["recordings"], place.here / "out", kind, 0.4, None, 1
    prepare("folder", *given, embeddings=place.here / "vectors")


def spoilt(place: Place) -> None:
    with_vectors(place)
    (file,) = (place.here / "out").glob("speakers-*.npy")
    content = bytearray(file.read_bytes())
    content[-3] ^= 4
    file.write_bytes(content)


ROWS = [
    tiny(
        "--config.speakers.kind=ids",
        "--config: speakers.kind is 'ids'; there are: none, id, embedding; did you mean 'id'?",
    ),
    tiny(
        "--config.speakers.names=a",
        "--config: speakers.names is ['a']; it must be different names, for kind id alone; leave it empty for those of "
        "the data set",
    ),
    tiny(
        "--config.speakers.size=3",
        "--config: speakers.size is 3; it must be a whole number, for kind embedding alone; 0: that of the data set's "
        "vectors",
    ),
    Row(
        SAMPLE,
        SAMPLED + "--ckpt={run} --speaker=ann",
        "--speaker is 'ann', but the model is not told who speaks; leave it out",
    ),
    Row(SAMPLE, SAMPLED + "--ckpt={told}", "--speaker: the model must be told who speaks; it knows ann, bob"),
    Row(
        SAMPLE,
        SAMPLED + "--ckpt={told} --speaker=bop",
        "--speaker is 'bop', whom the model does not know; did you mean 'bob'?; it knows ann, bob",
    ),
    Row(
        EVALUATE,
        "--ckpt={told} --data={corpus} --speaker=cy",
        "--speaker is 'cy', whom the model does not know; it knows ann, bob",
    ),
    Row(
        EVALUATE,
        "--ckpt={told} --data={corpus}",
        "{corpus}: does not say who speaks in 10 of 10 utterances, as u08; prepare it again, a folder with "
        "--speaker_folders, the layout of LJSpeech with --speaker_column",
    ),
    Row(
        EVALUATE,
        "--ckpt={by_vector} --data={corpus}",
        "{corpus}: has no vectors of speakers, which the model must be given; prepare it again with "
        "--speaker_embeddings",
    ),
    Row(
        SAMPLE,
        SAMPLED + "--ckpt={by_vector}",
        "--speaker is None; the model is told who speaks by a vector of 3 numbers: give one, to a program in a file",
    ),
    Row(
        SAMPLE,
        SAMPLED + "--ckpt={by_vector} --speaker={here}/vectors/a.npy",
        "--speaker={here}/vectors/a.npy has the shape [4]; give a vector of 3 numbers",
        vectors(a=np.ones(4)),
    ),
    Row(
        SAMPLE,
        SAMPLED + "--ckpt={by_vector} --speaker=ann",
        "--speaker is 'ann'; the model is told who speaks by a vector of 3 numbers: give one, to a program in a file",
    ),
    Row(
        SAMPLE,
        SAMPLED + "--ckpt={by_vector} --speaker={here}/ann.npy",
        "{here}/ann.npy: no such file",
    ),
    Row(
        SAMPLE,
        SAMPLED + "--ckpt={by_vector} --speaker={here}/vectors/a.npy",
        "{here}/vectors/a.npy: its vector of 3 numbers is empty, or not finite",
        vectors(a=np.array([1, np.nan, 2])),
    ),
    Row(
        SAMPLE,
        SAMPLED + "--ckpt={by_vector} --speaker={here}/vectors/a.npy",
        "{here}/vectors/a.npy: is an array [2, 3] of float64; the vector of a speaker is an array of numbers [n]",
        vectors(a=np.ones((2, 3))),
    ),
    Row(
        SAMPLE,
        SAMPLED + "--ckpt={by_vector} --speaker={here}/two.npz",
        "{here}/two.npz: has 2 arrays; save the speaker's vector alone",
        lambda place: np.savez(place.here / "two.npz", a=np.ones(3), b=np.ones(3)),
    ),
    Row(speaking("by_vector", [1, 2, np.inf]), "", "speaker: 1 of 3 numbers are not finite"),
    Row(
        lambda place: fwn.load(place.shelf["told"])([FLAT, FLAT], speaker=["ann"]),
        "",
        "speaker: 1 speakers for 2 mels; give one, or one for each",
    ),
    Row(
        TRAIN,
        TOLD + "id --config.speakers.names=\"('ann','bob')\"",
        "{here}/data: the speaker of dee/u00 is 'dee', whom the model does not know; it knows ann, bob",
        data("dee"),
        creates=("new",),
    ),
    Row(
        TRAIN,
        "--workdir={here}/new --config=tiny_clarinet --config.data={corpus} --config.frames=8 "
        "--config.teacher={told_wavenet} --config.speakers.kind=embedding",
        "config.speakers: embedding 0, but the teacher, whose upsampling the student uses, has id ['ann', 'bob'] "
        "({told_wavenet}); leave config.speakers out, or give the same",
        creates=("new",),
    ),
    Row(
        PREPARE,
        FOLDER + "--speaker_embeddings={here}/vectors",
        "{here}/vectors/u01.npy: has 4 numbers, and {here}/vectors/u00.npy has 3; give vectors of one speaker encoder",
        vectors(u00=np.ones(3), u01=np.ones(4)),
    ),
    Row(
        PREPARE,
        FOLDER + "--test_share=0.4",
        "--output={here}/out: was prepared with vectors of speakers; give --speaker_embeddings, or another --output",
        with_vectors,
        creates=("out/.parts/lock",),
    ),
    Row(
        lambda place: Corpus(place.here / "out"),
        "",
        "{here}/out/speakers-<hash>.npy: damaged: its checksum is <hash>, <hash> was saved; run data_prep.prepare "
        "again, which makes damaged files again",
        spoilt,
    ),
]
