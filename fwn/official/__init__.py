"""Reads checkpoints of the official PyTorch codes, without PyTorch."""
