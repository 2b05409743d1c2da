"""Experiments and voices that come with fwn. Their folders are beside fwn/ in a checkout, and inside it in a wheel."""

import importlib.util
import inspect
from pathlib import Path

from ml_collections import ConfigDict

from fwn.errors import UserError, nearest

HERE = Path(__file__).parent
VOICE = "lj-mini"  # of programs that run a model, if no other is given


def folder(name: str) -> Path:
    """The folder "experiments" or "voices"."""
    return HERE / name if (HERE / name).is_dir() else HERE.parent / name


def voice() -> str:
    """The folder of VOICE. Raises UserError if it is missing."""
    path = folder("voices") / VOICE
    if not path.is_dir():
        raise UserError(f"{path}: the voice that comes with fwn is missing; give --ckpt=DIR")
    return str(path)


def _split(given: str) -> tuple[str, str]:
    """ "finetune:lite" -> ("finetune", "lite"); a file that has a colon in its name is no argument."""
    name, _, argument = (given, "", "") if Path(given).is_file() else given.partition(":")
    return name, argument


def experiment_file(given: str) -> str:
    """The file of an experiment, given as a path ("mine/big.py") or as a name that comes with fwn ("lite").

    What stands after a colon ("finetune:lite") is the argument of its get_config, and stays.
    """
    name, argument = _split(given)
    path = Path(name)
    shipped = {file.stem: file for file in folder("experiments").glob("[a-z]*.py")}
    if not path.is_file() and path.suffix != ".py" and len(path.parts) <= 1:
        if name not in shipped:
            raise UserError(
                f"{given!r} is neither a file nor an experiment of fwn{nearest(name, shipped)}; there are: "
                + ", ".join(sorted(shipped))
            )
        path = shipped[name]
    return f"{path}:{argument}" if argument else str(path)


def experiment(given: str) -> ConfigDict:
    """The config of an experiment, given as in `experiment_file`. Raises UserError if it has none."""
    name, argument = _split(experiment_file(given))
    file = Path(name)
    if not file.is_file():
        raise UserError(f"{file}: no such file; give an experiment, for example experiments/base.py or base")
    spec = importlib.util.spec_from_file_location(f"fwn_experiment_{file.stem}", file)
    assert spec is not None  # true for any .py file
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise UserError(f"{file}: has no get_config(); give a file like experiments/base.py")
    if argument and not inspect.signature(module.get_config).parameters:
        raise UserError(f"{given}: {file.name} takes no argument after a colon; leave it out")
    config: ConfigDict = module.get_config(*filter(None, [argument]))
    return config
