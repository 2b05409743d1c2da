"""The smallest model that keeps the sound: conditioned at the frame rate, with narrow networks.

make train CONFIG=experiments/lite.py WORKDIR=runs/lite ARGS="--config.data=data/ljspeech"
"""

from ml_collections import ConfigDict

from experiments import base


def get_config() -> ConfigDict:
    config = base.get_config()
    with config.model.ignore_type():
        config.model.channels = (64, 64, 96, 96, 96, 96, 96, 96)
    config.model.update({"conditioner": "frames", "prior_channels": 96, "s_max": 2.0})
    return config
