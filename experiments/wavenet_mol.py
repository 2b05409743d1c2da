"""The teacher of Parallel WaveNet: an autoregressive WaveNet with a mixture of ten logistics over 16-bit audio.

    make train CONFIG=experiments/wavenet_mol.py ARGS="--config.data=data/ljspeech"

It differs from wavenet_gaussian.py only in the distribution of a sample. The FloWaveNet paper reports a MOS of 4.30 for
a MoL WaveNet.
"""

from ml_collections import ConfigDict

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config = experiment("wavenet_gaussian")
    config.model.distribution = "mixture_of_logistics"
    return config
