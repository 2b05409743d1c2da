"""A small mixture-of-logistics WaveNet that trains on two CPU cores, the teacher of tiny_parallel_wavenet.py.

make train CONFIG=experiments/tiny_wavenet_mol.py ARGS="--config.data=demo/data"
"""

from ml_collections import ConfigDict

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config = experiment("tiny_wavenet")
    config.model.distribution = "mixture_of_logistics"
    config.dequantise = False  # the distribution is already discretised
    return config
