"""Experiments: base.py is the paper's FloWaveNet; every other file imports it and overrides a few lines."""
