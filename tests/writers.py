"""The programs that write, for tests/kills.py, and what of each output a reader may take for whole at any moment."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import small

from fwn.errors import UserError
from fwn.synthesis import exported
from fwn.training import checkpoints

GOLDEN = Path(__file__).parent / "golden"
OLD = 3  # the step of the voice before


class Program(NamedTuple):
    """A command that writes into the folder `output`, alone in its parent folder.

    visible: raises AssertionError or UserError unless all that a reader may take for whole is: called after each kill
    with (output, the files of the uninterrupted program). begin: fills the output before the command, if given.
    uniform: the share of kills at random times. once: whether it refuses an output that is finished.
    """

    module: str
    flags: list[str]
    output: Path
    visible: Callable[[Path, dict[str, Any]], None]
    begin: Callable[[Path], Any] | None = None
    uniform: float = 0.5
    once: bool = False


def files_are_whole(output: Path, whole: dict[str, Any]) -> None:
    """Each file that is not hidden is as the uninterrupted program wrote it."""
    for path in output.rglob("*"):
        parts = path.relative_to(output.parent).parts
        if path.is_file() and not any(part.startswith(".") for part in parts):
            name = "/".join(parts)
            assert path.read_bytes() == whole[name], f"{name} is not whole"


def data_set_is_whole(output: Path, whole: dict[str, Any]) -> None:
    """Also the records of shards, which are hidden."""
    files_are_whole(output, whole)
    for path in output.glob(".parts/[!.]*"):
        name = path.relative_to(output.parent).as_posix()
        assert path.read_bytes() == whole[name], f"{name} is not whole"


def run_is_whole(output: Path, whole: dict[str, Any]) -> None:
    """Whatever checkpoint is there can be loaded, the newest too, and config.json is whole."""
    config = output / "config.json"
    assert not config.exists() or config.read_bytes() == whole[f"{output.name}/config.json"]
    folder = output / checkpoints.FOLDER
    steps = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
    if steps and config.exists():  # without it a run is refused
        checkpoints.read(output)
        checkpoints.read(output, max(steps))


def voice_is_whole_or_refused(output: Path, whole: dict[str, Any]) -> None:
    """It is the new voice, the one before, or refused in one line."""
    if exported.kind(output):
        with contextlib.suppress(UserError):
            voice = exported.read(output)
            config = (output / "config.json").read_bytes()
            assert voice.step == OLD or config == whole[f"{output.name}/config.json"], "a mixture of two voices"


def programs(folder: Path, recordings: Path, data: Path, workdir: Path) -> dict[str, Program]:
    """The programs to kill. workdir: a run of 8 steps on `data`, which was prepared from `recordings`."""
    train = small.config_flags(data, save_every=3, eval_every=4)
    often = small.config_flags(data, save_every=1, eval_every=4)
    three = [f"--wav={recordings}/u0{i}.wav" for i in range(3)]
    model, old = [f"--ckpt={workdir}"], checkpoints.read(workdir)._replace(step=OLD)

    def program(name: str, module: str, flags: list[str], visible: Any, target: str = "output", **rest: Any) -> Program:
        output = folder / name / "out"
        return Program(module, [*flags, f"--{target}={output}"], output, visible, **rest)

    return {
        "training": program("train", "fwn.train", train, run_is_whole, "workdir", uniform=0.8),
        "checkpointing": program("save", "fwn.train", often, run_is_whole, "workdir", uniform=0.0),
        "preparation": program(
            "prepare",
            "data_prep.prepare",
            ["--corpus=folder", f"--input={recordings}", "--workers=2"],
            data_set_is_whole,
        ),
        "conversion": program("convert", "fwn.convert", [str(GOLDEN / "flowavenet_tiny.pth")], run_is_whole, once=True),
        "sampling": program("sample", "fwn.sample", [*model, *three, "--plot"], files_are_whole),
        "evaluation": program("evaluate", "fwn.evaluate", [*model, f"--data={data}"], files_are_whole),
        "export": program("export", "fwn.export", [*model, "--format=voice"], voice_is_whole_or_refused),
        "export over a voice": program(
            "voice",
            "fwn.export",
            [*model, "--format=voice"],
            voice_is_whole_or_refused,
            begin=lambda output: exported.write_voice(output, old),
        ),
        "speech": program("speak", "data_prep.speak", ["--sentences=6"], files_are_whole),
        "a listening test": program(
            "listening",
            "fwn.listening",
            ["build", f"--reference={recordings}", f"--systems=A={recordings}"],
            files_are_whole,
            once=True,
        ),
    }
