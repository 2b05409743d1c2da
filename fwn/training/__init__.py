"""The training step, optimisers, devices, checkpoints and the journal of a run."""
