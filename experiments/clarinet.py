"""The student of ClariNet: six Gaussian IAFs distilled from a Gaussian WaveNet (Ping et al. 2019, section 3.2).

    make train CONFIG=experiments/clarinet.py ARGS="--config.teacher=runs/wavenet_gaussian --config.data=data/ljspeech"

Sizes and schedule are those of ksw0306/ClariNet. The paper compares three losses: kl+frame (this config), kl
(--config.loss.frame=0) and frame (--config.loss.kl=0 --config.loss.regularisation=0). The FloWaveNet paper reports a
MOS of 3.75.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config = experiment("base")
    with config.unlocked():
        config.model = {
            "stacks": (1, 1, 1, 1, 1, 1),  # per flow: number of stacks, each with dilations 1, 2, 4, …
            "n_layer": 10,  # gated layers per stack
            "channels": 64,
            "gate_channels": 128,
            "skip_channels": 64,
            "kernel_size": 3,
            "front_kernel": 32,
            "upsample_strides": (),  # equal to those of the teacher; (): two, as (16, 16) for 256
            "dtype": placeholder(str),  # of the matrix products: "bfloat16", or None for float32
        }
        config.loss = {"kl": 1.0, "regularisation": 4.0, "frame": 1.0}  # terms: fwn/systems/clarinet.py
    config.update({"system": "clarinet", "ema_decay": 0.9999})
    config.optimizer.max_grad_norm = 10.0
    return config
