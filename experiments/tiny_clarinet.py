"""A small Gaussian IAF that trains on two CPU cores.

make train CONFIG=experiments/tiny_clarinet.py ARGS="--config.teacher=runs/tiny_wavenet --config.data=demo/data"
"""

from ml_collections import ConfigDict

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config, small = experiment("clarinet"), experiment("tiny_wavenet")
    config.model.update({"stacks": (1, 1, 1, 1), "n_layer": 6})
    config.model.update({name: small.model[name] for name in ("channels", "gate_channels", "skip_channels")})
    config.update({name: small[name] for name in small if name not in ("system", "model", "loss", "optimizer")})
    config.optimizer.update(small.optimizer)
    return config
