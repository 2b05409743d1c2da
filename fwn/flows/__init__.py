"""The mathematics of flows: bijectors as pairs of pure functions, their composition, and densities; without Flax."""
