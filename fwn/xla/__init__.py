"""Workarounds for XLA on CPUs only."""
