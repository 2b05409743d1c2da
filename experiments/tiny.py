"""A small FloWaveNet that trains on two CPU cores: the demo's, and the tests'.

make demo
"""

from ml_collections import ConfigDict

from experiments import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.model.update({"n_block": 6, "n_flow": 4, "channels": 64, "block_per_split": 3, "prior_channels": 64})
    config.update({"frames": 24, "batch_size": 8, "dequantise": True, "ema_decay": 0.999, "num_steps": 2_000})
    config.optimiser.update({"warmup": 50, "halve_every": 1_000})
    config.update({"log_every": 20, "eval_every": 200, "eval_batches": 8, "save_every": 100})
    return config
