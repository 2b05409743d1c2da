"""Experiments and voices that come with fwn. Their folders are beside fwn/ in a checkout, and inside it in a wheel."""

import importlib.util
from pathlib import Path

from ml_collections import ConfigDict

from fwn.errors import UserError, nearest

HERE = Path(__file__).parent


def folder(name: str) -> Path:
    """The folder "experiments" or "voices"."""
    return HERE / name if (HERE / name).is_dir() else HERE.parent / name


def experiment_file(given: str) -> Path:
    """The file of an experiment, given as a path ("mine/big.py") or as a name that comes with fwn ("lite")."""
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
    """The config of an experiment, given as in `experiment_file`. Raises UserError if it has none."""
    file = experiment_file(given)
    if not file.is_file():
        raise UserError(f"{file}: no such file; give an experiment, for example experiments/base.py or base")
    spec = importlib.util.spec_from_file_location(f"fwn_experiment_{file.stem}", file)
    assert spec is not None  # true for any .py file
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise UserError(f"{file}: has no get_config(); give a file like experiments/base.py")
    config: ConfigDict = module.get_config()
    return config
