r"""A small Parallel WaveNet that trains on two CPU cores.

    make train CONFIG=experiments/tiny_parallel_wavenet.py \
        ARGS="--config.teacher=runs/tiny_wavenet_mol --config.data=demo/data"
"""

from ml_collections import ConfigDict

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config, small = experiment("parallel_wavenet"), experiment("tiny_clarinet")
    config.model.update({**small.model, "stacks": (1, 1, 1, 3), "n_layer": 6})
    config.update({name: small[name] for name in small if name not in ("system", "model", "loss", "optimizer")})
    config.optimizer.update(small.optimizer)
    return config
