"""An autoregressive WaveNet of the excitation (LP-WaveNet), as small as lj_mini.py, to compare with it.

python -m fwn.train --config=experiments/lj_mini_wavenet.py --workdir=runs/lj-mini-wavenet
"""

from ml_collections import ConfigDict

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config, small = experiment("wavenet_gaussian"), experiment("lj_mini")
    config.model.update({"n_layer": 8, "channels": 64, "gate_channels": 64, "skip_channels": 64})
    config.model.prediction.update(small.model.prediction)
    config.update({name: small[name] for name in small if name not in ("system", "model", "optimizer")})
    config.optimizer.update(small.optimizer)
    return config
