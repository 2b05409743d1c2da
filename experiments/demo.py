"""The config of the demo: tiny.py with autoregression over blocks, and odd.

make demo
"""

from ml_collections import ConfigDict

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config = experiment("tiny")
    config.model.odd = True
    # the sizes of voices/lj-mini, so that training can start from its weights
    config.model.autoregression.update(experiment("lj_mini").model.autoregression)
    config.update({"frames": 32, "batch_size": 2})
    config.optimizer.learning_rate = 1e-3
    return config
