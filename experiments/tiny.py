"""A small FloWaveNet that trains on two CPU cores, for the demo and the tests.

    make demo
    python -m fwn.train --config=experiments/tiny.py --workdir=runs/tiny --config.data=data/lj

2,269,134 parameters, 587,778 of them for linear prediction (docs/prediction.md). The mel upsampling starts as linear
interpolation: from random weights, so short a training does not learn to use the mel.
"""

from ml_collections import ConfigDict

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config = experiment("base")
    config.model.update({"n_block": 4, "n_flow": 4, "channels": 48, "block_per_split": 2, "prior_channels": 48})
    config.model.upsample_init = "linear"
    config.model.prediction.order = 256
    config.update({"frames": 16, "batch_size": 4, "dequantise": True, "ema_decay": 0.999, "num_steps": 1_000})
    config.optimizer.update({"learning_rate": 5e-4, "warmup": 50, "halve_every": 250})
    config.update({"log_every": 20, "eval_every": 100, "eval_batches": 16, "save_every": 100})
    return config
