"""The teacher of ClariNet, a Gaussian autoregressive WaveNet: 2 × 10 layers, 128 channels (Ping et al. 2019, 3.1).

    make train CONFIG=experiments/wavenet_gaussian.py ARGS="--config.data=data/ljspeech"

Sizes and schedule are those of ksw0306/ClariNet. The FloWaveNet paper reports a MOS of 4.46 (recordings: 4.67).
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config = experiment("base")
    prediction = config.model.prediction
    with config.unlocked():
        config.model = {
            "distribution": "gaussian",  # of an audio sample: "gaussian" or "mixture_of_logistics"
            "n_stack": 2,  # number of stacks, each with dilations 1, 2, 4, …
            "n_layer": 10,  # gated layers per stack
            "channels": 128,
            "gate_channels": 256,
            "skip_channels": 128,
            "kernel_size": 2,
            "front_kernel": 32,
            "upsample_strides": (),  # their product is the hop of the mel; (): two, as (16, 16) for 256
            "prediction": prediction,
            "dtype": placeholder(str),  # of the matrix products: "bfloat16", or None for float32
        }
    config.update({"system": "wavenet", "ema_decay": 0.9999})
    config.optimizer.max_grad_norm = 10.0
    return config
