"""Experiments and voices that come with fwn: beside fwn/ in a checkout, inside it in a wheel."""

import importlib.util
from pathlib import Path

from ml_collections import ConfigDict

from fwn.errors import UserError, nearest

HERE = Path(__file__).parent


def folder(name: str) -> Path:
    """The folder of that name: experiments, voices."""
    return HERE / name if (HERE / name).is_dir() else HERE.parent / name


def experiment_file(given: str) -> Path:
    """The file of an experiment, by its path or, if it comes with fwn, by its name: "mine/big.py", "lite"."""
    path = Path(given)
    shipped = {file.stem: file for file in folder("experiments").glob("[a-z]*.py")}
    if path.is_file() or path.suffix == ".py" or len(path.parts) > 1:
        return path
    if given not in shipped:
        raise UserError(
            f"{given!r} is neither a file nor an experiment of fwn{nearest(given, shipped)}; there are: "
            + ", ".join(sorted(shipped))
        )
    return shipped[given]


def experiment(given: str) -> ConfigDict:
    """get_config() of an experiment, given as `experiment_file` has it. Raises UserError where there is none."""
    file = experiment_file(given)
    if not file.is_file():
        raise UserError(f"{file}: no such file; give an experiment, as experiments/base.py or base")
    spec = importlib.util.spec_from_file_location(f"fwn_experiment_{file.stem}", file)
    assert spec is not None  # of a file whose name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise UserError(f"{file}: has no get_config(); give files like experiments/base.py")
    config: ConfigDict = module.get_config()
    return config
