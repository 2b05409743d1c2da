"""Systems that can be trained: each is a few pure functions (base.System), built from a config by name."""

import importlib
import pkgutil
from typing import Any

from fwn.errors import UserError, nearest
from fwn.mel import MelContract, fitted
from fwn.systems.base import System

__all__ = ["PARTS", "System", "build"]

PARTS = {"base", "losses", "predictor", "student"}  # shared parts, not systems


def build(config: Any, teacher: Any = None, mel: MelContract | None = None) -> System:
    """The system that `config.system` names, with the sizes of `config.model`.

    teacher: config of the model in config.teacher; a student without one cannot be trained. mel: the mel contract;
    None: the one that config.mel names.
    """
    names = sorted({m.name for m in pkgutil.iter_modules(__path__)} - PARTS)
    if config.system not in names:
        raise UserError(f"config.system is {config.system!r}; there are: {', '.join(names)}")
    module = importlib.import_module(f"fwn.systems.{config.system}")
    config, teacher = fitted(config, mel), None if teacher is None else fitted(teacher, mel)
    terms = getattr(module, "TERMS", ())
    for name, value in config.loss.items():
        if name not in terms:
            has = f"has {', '.join(terms)}" if terms else "is trained by likelihood alone and has none"
            raise UserError(f"config.loss: no such field: {name!r}{nearest(name, terms)}; {config.system} {has}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise UserError(f"config.loss.{name} is {value!r}; it must be a number, 0 for a term that is left out")
    if missing := [name for name in terms if name not in config.loss]:
        raise UserError(f"config.loss: missing {', '.join(missing)}; start from experiments/{config.system}.py")
    if terms:
        return module.build(config, teacher)
    if config.teacher is not None:
        raise UserError(f"config.teacher is {config.teacher!r}, but {config.system} learns without one; leave it out")
    return module.build(config, mel)
