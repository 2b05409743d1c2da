"""What can be trained: each system is a few pure functions (base.System), built from a config by its name."""

import importlib
import pkgutil
from typing import Any

from fwn.errors import UserError, nearest
from fwn.mel import MelContract
from fwn.systems.base import System

PARTS = {"base", "losses", "predictor", "student"}  # of systems, and none themselves


def build(config: Any, teacher: Any = None, mel: MelContract | None = None) -> System:
    """The system that `config.system` names, at the sizes of `config.model`.

    teacher: the config of the model that config.teacher names. A student built without one has no loss. mel: the
    contract of its mels, where it is known; None: the one that config.mel names.
    """
    names = sorted({m.name for m in pkgutil.iter_modules(__path__)} - PARTS)
    if config.system not in names:
        raise UserError(f"config.system is {config.system!r}; there are: {', '.join(names)}")
    module = importlib.import_module(f"fwn.systems.{config.system}")
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
