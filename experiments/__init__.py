"""Experiment configs. base.py is the FloWaveNet of the paper; the others start from it and override a few fields."""
