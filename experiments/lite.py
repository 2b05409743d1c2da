"""A small FloWaveNet that keeps the paper's depth: 9,449,970 parameters, 1.33 MFLOP per audio sample (base.py: 16.8).

    make train CONFIG=experiments/lite.py WORKDIR=runs/lite ARGS="--config.data=data/ljspeech"

It has as many flows as the paper's model. It is small because the networks are narrow, and because the mel conditions
them at the frame rate instead of being squeezed like the audio, which accounts for 69% of the paper's parameters.
"""

from ml_collections import ConfigDict

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config = experiment("base")
    config.model.update({"conditioner": "frames", "prior_channels": 96})
    # The first block has half of all positions, the second a quarter, so width costs most time in the first blocks.
    with config.model.ignore_type():
        config.model.channels = (64, 96, 96, 96, 96, 96, 96, 96)
    # Linear prediction gives the flow the loudness and spectral envelope in the mel (docs/prediction.md).
    config.model.prediction.order = 256
    # A coupling scales by e^±2 at most, so unusual mels or bfloat16 rounding do not make the audio explode.
    config.model.s_max = 2.0
    # Recordings have 16 bits. Without noise, the model gains likelihood by fitting the quantisation steps of silence.
    config.dequantise = True
    # Sampling uses the average over about the last thousand steps, because the learning rate is high.
    config.ema_decay = 0.999
    config.optimizer.warmup = 1_000  # gradients are largest just after ActNorm's initialisation
    return config
