r"""Parallel WaveNet: four logistic IAFs that learn from a mixture-of-logistics WaveNet (van den Oord et al. 2018).

    make train CONFIG=experiments/parallel_wavenet.py \
        ARGS="--config.teacher=runs/wavenet_mol --config.data=data/ljspeech"

The paper names the sizes and the weight of the contrastive term. The other weights are of this project: with them, the
terms of tiny_parallel_wavenet.py after 200 steps on LJSpeech are 0.2 (kl), 0.6 (power), 0.3 (style) and -0.25
(contrastive), held out. A term is left out by --config.loss.TERM=0.
"""

from ml_collections import ConfigDict

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config = experiment("clarinet")
    config.model.update({"stacks": (1, 1, 1, 3), "gate_channels": 64})
    with config.unlocked():
        config.loss = {  # fwn/systems/parallel_wavenet.py says what they are
            "kl": 1.0,
            "power": 3e-4,
            "features": 0.0,
            "style": 1e3,
            "contrastive": 0.3,
            "samples": 8,  # no weight: values drawn at each position
        }
    config.system = "parallel_wavenet"
    config.optimizer.learning_rate = 2e-4
    return config
