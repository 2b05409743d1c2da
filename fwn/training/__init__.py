"""The training step, optimizers, devices, checkpoints and the journal of a run."""
