"""fwn: FloWaveNet, a flow-based neural vocoder, in JAX and Flax."""

__version__ = "0.1.0"
