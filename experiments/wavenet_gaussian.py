"""The Gaussian autoregressive WaveNet, ClariNet's teacher: 2 × 10 layers, 128 channels (Ping et al. 2019, section 3.1).

    make train CONFIG=experiments/wavenet_gaussian.py ARGS="--config.data=data/ljspeech"

Sizes and schedule are ksw0306/ClariNet's. Its samples scored a MOS of 4.46 in FloWaveNet's paper (recordings: 4.67).
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config = experiment("base")
    prediction = config.model.prediction
    with config.unlocked():
        config.model = {
            "distribution": "gaussian",  # of a sample of audio: "gaussian" or "mixture_of_logistics"
            "n_stack": 2,  # how often the dilations 1, 2, 4, … begin again
            "n_layer": 10,  # gated layers a stack
            "channels": 128,
            "gate_channels": 256,
            "skip_channels": 128,
            "kernel_size": 2,
            "front_kernel": 32,
            "upsample_strides": (16, 16),  # their product is the mel's hop
            "prediction": prediction,
            "dtype": placeholder(str),  # of the network's products, "bfloat16"; None: float32
        }
    config.update({"system": "wavenet", "ema_decay": 0.9999})
    config.optimizer.max_grad_norm = 10.0
    return config
