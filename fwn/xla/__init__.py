"""Workarounds for XLA on CPUs, and nothing else."""
