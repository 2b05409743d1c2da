"""A small WaveNet with a mixture of logistics that trains on two CPU cores; a small Parallel WaveNet's teacher.

make train CONFIG=experiments/tiny_wavenet_mol.py ARGS="--config.data=demo/data"
"""

from ml_collections import ConfigDict

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config = experiment("tiny_wavenet")
    config.model.distribution = "mixture_of_logistics"
    config.dequantise = False  # it is discretised itself
    return config
