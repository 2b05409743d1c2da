"""Examines the environment, a data set, a run and a checkpoint: what is wrong, and what to do about it.

    python -m fwn.doctor
    python -m fwn.doctor --data=data/mine
    python -m fwn.doctor --workdir=runs/lite
    python -m fwn.doctor --ckpt=voices/lj-mini --data=data/mine

Prints what it measured, then its findings by severity, each with its remedy. Is this loss normal, why NaN, why noise,
why tones: docs/doctor.md. It reads, and changes nothing.
Exit codes: 0 nothing found but notes, 5 warnings, 6 errors; 1 if there is nothing of the kind in a folder.
"""

from pathlib import Path

from absl import flags

from fwn import cli
from fwn import config as configs
from fwn.data import manifest
from fwn.diagnosis import checkpoint, data_set, environment, run
from fwn.diagnosis.finding import ERROR, NOTE, WARNING, Examination, Finding, guarded, ordered
from fwn.errors import UserError
from fwn.training import checkpoints, journal

CKPT = flags.DEFINE_string(
    "ckpt", None, "Model to examine: a workdir, a voice (fwn.export) or an output folder of fwn.convert."
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Run of fwn.train to examine, with its checkpoints, and with its data set if that is there."
)
DATA = flags.DEFINE_string(
    "data", None, "Data set of data_prep.prepare to examine. Models are measured on its held-out utterances."
)


def examinations() -> list[tuple[str, Examination]]:
    """(heading, examination) of all that the flags name. Raises UserError if a folder has nothing of the kind."""
    workdir, ckpt, data = (Path(flag.value) if flag.value is not None else None for flag in (WORKDIR, CKPT, DATA))
    parts = [("environment", environment.examine(workdir))]
    frames = None
    if data is not None and not (data / manifest.FILE).is_file():
        manifest.read_values(data)  # raises UserError, with what is missing
    for folder in (workdir, ckpt):
        if folder is not None and not (folder / configs.FILE).is_file():
            configs.read(folder)  # the same
    if workdir is not None:
        if not (workdir / journal.FILE).is_file():
            raise UserError(f"{workdir}: no {journal.FILE} in it, so it is no run; give a model alone as --ckpt")
        parts.append((f"run {workdir}", run.examine(workdir)))
        trained_on, frames = _of_config(workdir)
        if data is None and trained_on is not None and (trained_on / manifest.FILE).is_file():
            data = trained_on
    if data is not None:
        parts.append((f"data set {data}", data_set.examine(data, frames)))
    if workdir is not None and checkpoints.checkpoints_in(workdir):
        parts.append((f"checkpoint of {workdir}", checkpoint.examine(workdir, data)))
    if ckpt is not None and ckpt != workdir:
        parts.append((f"checkpoint {ckpt}", checkpoint.examine(ckpt, data)))
    return parts


def _of_config(workdir: Path) -> tuple[Path | None, int | None]:
    """The data set and the frames of a crop that a run's config names; (None, None) if it is damaged."""
    try:
        config, _ = configs.read(workdir)
    except UserError:
        return None, None
    return Path(config.data), config.frames


def main(args: list[str]) -> int:
    cli.flags_alone(args)
    findings: list[Finding] = []
    for heading, examination in examinations():
        cli.say(f"-- {heading}")
        for said in guarded(examination, heading):
            if isinstance(said, Finding):
                findings.append(said)
            else:
                cli.say(f"   {said}")
    counts = {severity: sum(f.severity == severity for f in findings) for severity in (ERROR, WARNING, NOTE)}
    cli.say(f"-- findings: {counts[ERROR]} errors, {counts[WARNING]} warnings, {counts[NOTE]} notes")
    for finding in ordered(findings):
        cli.say(f"{finding.severity}: {finding.what}\n   remedy: {finding.remedy}")
    return cli.ERRORS if counts[ERROR] else cli.WARNINGS if counts[WARNING] else 0


if __name__ == "__main__":
    cli.run(main)
