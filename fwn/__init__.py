"""fwn: FloWaveNet, a flow-based neural vocoder, in JAX and Flax.

vocoder = fwn.load("runs/base"); audio = vocoder(mel, temperature=0.8, key=jax.random.key(0))
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["UserError", "Vocoder", "bijectors", "load"]

if TYPE_CHECKING:
    from fwn import bijectors
    from fwn.errors import UserError
    from fwn.synthesis.vocoder import Vocoder, load
else:

    def __getattr__(name):
        """What __all__ names, imported on first use: data preparation needs no JAX."""
        if name in ("load", "Vocoder"):
            from fwn import posix

            posix.require()
            from fwn.synthesis import vocoder

            return getattr(vocoder, name)
        if name == "bijectors":
            import importlib

            return importlib.import_module("fwn.bijectors")
        if name == "UserError":
            from fwn.errors import UserError

            return UserError
        raise AttributeError(f"module 'fwn' has no attribute {name!r}")
