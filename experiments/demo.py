"""The demo's: tiny.py with autoregression over blocks, and odd.

make demo
"""

from ml_collections import ConfigDict

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config = experiment("tiny")
    config.model.odd = True
    config.model.autoregression.update(
        experiment("lj_mini").model.autoregression
    )  # so that it may begin with a voice's
    config.update({"frames": 32, "batch_size": 2})
    config.optimizer.learning_rate = 1e-3
    return config
