"""What can be trained: each system is three pure functions (base.System), built from a config by its name."""

import importlib
import pkgutil
from typing import Any

from fwn.errors import UserError
from fwn.systems.base import System


def build(config: Any) -> System:
    """The system that `config.system` names, at the sizes of `config.model`."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base")
    if config.system not in names:
        raise UserError(f"config.system is {config.system!r}; there are: {', '.join(names)}")
    return importlib.import_module(f"fwn.systems.{config.system}").build(config)
