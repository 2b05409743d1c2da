"""The paper's FloWaveNet without the multi-scale split: all channels pass through all blocks.

make train CONFIG=experiments/flowavenet_no_split.py ARGS="--config.data=data/ljspeech"
"""

from ml_collections import ConfigDict

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config = experiment("base")
    config.model.block_per_split = config.model.n_block
    return config
