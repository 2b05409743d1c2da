"""The predictor of voices/lj-mini alone: lj_mini.py without flows, with Muon and eight times the speech per step.

python -m fwn.train --config=experiments/lj_mini_predictor.py --workdir=runs/predictor
python -m fwn.train --config=experiments/lj_mini.py --workdir=runs/lj-mini --init_from=runs/predictor
"""

from ml_collections import ConfigDict

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config = experiment("lj_mini")
    config.model.n_block = 0
    config.update({"frames": 64, "batch_size": 8})
    config.optimizer.update({"kind": "muon", "warmup": 50, "halve_every": 1_200})
    return config
