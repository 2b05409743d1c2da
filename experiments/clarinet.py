"""ClariNet's student: six Gaussian IAFs that learn from a Gaussian WaveNet (Ping et al. 2019, section 3.2).

    make train CONFIG=experiments/clarinet.py ARGS="--config.teacher=runs/wavenet_gaussian --config.data=data/ljspeech"

Sizes and schedule are ksw0306/ClariNet's. The forms that the paper compares are kl+frame (this one), kl
(--config.loss.frame=0) and frame (--config.loss.kl=0 --config.loss.regularisation=0). FloWaveNet's paper gives its
samples a MOS of 3.75.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config = experiment("base")
    with config.unlocked():
        config.model = {
            "stacks": (1, 1, 1, 1, 1, 1),  # of each flow: how often its dilations 1, 2, 4, … begin again
            "n_layer": 10,  # gated layers a stack
            "channels": 64,
            "gate_channels": 128,
            "skip_channels": 64,
            "kernel_size": 3,
            "front_kernel": 32,
            "upsample_strides": (16, 16),  # the teacher's
            "dtype": placeholder(str),  # of the network's products, "bfloat16"; None: float32
        }
        config.loss = {"kl": 1.0, "regularisation": 4.0, "frame": 1.0}  # fwn/systems/clarinet.py says what they are
    config.update({"system": "clarinet", "ema_decay": 0.9999})
    config.optimizer.max_grad_norm = 10.0
    return config
