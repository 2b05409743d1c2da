"""A small Gaussian WaveNet that trains on two CPU cores.

    make train CONFIG=experiments/tiny_wavenet.py ARGS="--config.data=demo/data"

It is the teacher of tiny_clarinet.py.
"""

from ml_collections import ConfigDict

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config, small = experiment("wavenet_gaussian"), experiment("tiny")
    config.model.update({"n_layer": 7, "channels": 32, "gate_channels": 32, "skip_channels": 32})
    config.update({name: small[name] for name in small if name not in ("system", "model", "optimizer")})
    config.optimizer.update({"learning_rate": 2e-3, "warmup": 50, "halve_every": 800})
    return config
