r"""Parallel WaveNet: four logistic IAFs distilled from a mixture-of-logistics WaveNet (van den Oord et al. 2018).

    make train CONFIG=experiments/parallel_wavenet.py \
        ARGS="--config.teacher=runs/wavenet_mol --config.data=data/ljspeech"

The sizes and the weight of the contrastive term are from the paper. The other weights were chosen here: with them, the
held-out terms of tiny_parallel_wavenet.py after 200 steps on LJSpeech are 0.2 (kl), 0.6 (power), 0.3 (style) and -0.25
(contrastive). --config.loss.TERM=0 switches a term off.
"""

from ml_collections import ConfigDict

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config = experiment("clarinet")
    config.model.update({"stacks": (1, 1, 1, 3), "gate_channels": 64})
    with config.unlocked():
        config.loss = {  # terms: fwn/systems/parallel_wavenet.py
            "kl": 1.0,
            "power": 3e-4,
            "style": 1e3,
            "contrastive": 0.3,
            "samples": 8,  # not a weight: number of samples drawn per position
        }
    config.system = "parallel_wavenet"
    config.optimizer.learning_rate = 2e-4
    return config
