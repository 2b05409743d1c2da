"""Errors of fwn.score, but for those of single files."""

import json

from . import SCORE, Place, Row

CLIP = "{recordings}/u02.wav "


def reference(changes: str, voice: str = "voice"):
    """A voice with a typical.json: "damaged", of "other" weights, or with a wrong "checksum"."""

    def make(place: Place) -> None:
        from fwn.evaluation import typical_file
        from fwn.evaluation.typicality import Length, Reference
        from fwn.synthesis import exported

        folder = place.copy(voice)
        run = exported.read_run(folder)
        length = Length(43, 20, (0.0,) * 6, (1.0,) * 6, (0.0,) * 101)
        of = Reference((0.0,) * 81, (0.0,) * 3, (length,), 4.0, 2, 10.0)
        file = typical_file.write(folder, run, of, "data")
        if changes == "other":
            typical_file.write(folder, run._replace(step=7), of, "data")
        if changes == "damaged":
            file.write_text(file.read_text()[:-20])
        if changes == "format":
            file.write_text(json.dumps(json.loads(file.read_text()) | {"checksum": None, "format": "fwn-typical-2"}))
        if changes == "checksum":
            file.write_text(file.read_text().replace('"alarm": 4.0', '"alarm": 5.0'))

    return make


AGAIN = "make it again: --data=DIR --save_reference"
ROWS = [
    Row(SCORE, "", "nothing to score: give recordings, or folders of them"),
    Row(SCORE, "--wav={mels}", "--wav={mels}: no recording in this folder"),
    Row(SCORE, "{here}/none*.wav", "{here}/none*.wav: no such file"),
    Row(SCORE, "{here}/none.wav --ckpt={run}", "{here}/none.wav: no such file"),
    Row(
        SCORE,
        CLIP + "--save_reference --ckpt={run}",
        "--save_reference keeps what a data set gives; give it too: --data=DIR",
    ),
    Row(
        SCORE,
        CLIP + CLIP + "--ckpt={run} --output={here}/out",
        "{recordings}/u02.wav and {recordings}/u02.wav would all be written to u02.png; score them in separate runs",
    ),
    Row(
        SCORE,
        CLIP + "--ckpt={run}",
        "{run}: has no typical.json, so there is no held-out speech to compare with; give a data set: --data=DIR "
        "(--save_reference keeps what it gives)",
    ),
    Row(
        SCORE,
        CLIP + "--ckpt={run} --data={corpus}",
        "2 held-out utterances, 0.9 s in all, are too few to compare with: at least 20 stretches of 0.5 s in two or "
        "more utterances are needed; hold out more",
    ),
    Row(
        SCORE,
        CLIP + "--ckpt={wavenet} --data={corpus}",
        "wavenet is not a flow, so it has no inverse",
    ),
    Row(
        SCORE,
        CLIP + "--ckpt={here}/voice",
        "{here}/voice/typical.json: damaged, or of another version (<reason>); " + AGAIN,
        reference("damaged"),
    ),
    Row(
        SCORE,
        CLIP + "--ckpt={here}/voice",
        "{here}/voice/typical.json: damaged, or of another version (<reason>'fwn-typical-2'<reason>); " + AGAIN,
        reference("format"),
    ),
    Row(
        SCORE,
        CLIP + "--ckpt={here}/voice",
        "{here}/voice/typical.json: damaged (its checksum is <hash>, '<hash>' was saved); restore it, or, if you "
        'changed it on purpose, delete its entry "checksum"',
        reference("checksum"),
    ),
    Row(
        SCORE,
        CLIP + "--ckpt={here}/voice",
        "{here}/voice/typical.json: belongs to another model (step 7, weights <hash>); this one is of step 8, weights "
        "<hash>; " + AGAIN,
        reference("other"),
    ),
    Row(
        SCORE, "{recordings} {here}/x.wav --ckpt={here}/voice", "left out {here}/x.wav: no such file", reference(""), 3
    ),
]
