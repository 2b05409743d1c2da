"""Reads checkpoints of the official PyTorch code, without PyTorch."""
