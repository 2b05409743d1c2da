"""The autoregressive WaveNet with a mixture of ten logistics over 16-bit audio: Parallel WaveNet's teacher.

    make train CONFIG=experiments/wavenet_mol.py ARGS="--config.data=data/ljspeech"

The network and schedule of wavenet_gaussian.py, so that the two differ in nothing but the distribution of a sample.
FloWaveNet's paper gives a MoL WaveNet's samples a MOS of 4.30.
"""

from ml_collections import ConfigDict

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config = experiment("wavenet_gaussian")
    config.model.distribution = "mixture_of_logistics"
    return config
