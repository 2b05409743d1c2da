"""The paper's FloWaveNet with causal WaveNets in the couplings (section 4.4): MOS 3.36 in the paper, against 3.95.

make train CONFIG=experiments/flowavenet_causal.py ARGS="--config.data=data/ljspeech"
"""

from ml_collections import ConfigDict

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config = experiment("base")
    config.model.causal = True
    return config
