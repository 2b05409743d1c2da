"""fwn: FloWaveNet, a flow-based neural vocoder, in JAX and Flax.

vocoder = fwn.load("runs/base"); audio = vocoder(mel, temperature=0.8, key=jax.random.key(0))
"""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["UserError", "Vocoder", "bijectors", "load"]


def __getattr__(name: str) -> Any:
    """What __all__ names, imported on first use: data preparation needs no JAX."""
    if name in ("load", "Vocoder"):
        from fwn.synthesis import vocoder

        return getattr(vocoder, name)
    if name == "bijectors":
        return importlib.import_module("fwn.bijectors")
    if name == "UserError":
        from fwn.errors import UserError

        return UserError
    raise AttributeError(f"module 'fwn' has no attribute {name!r}")
