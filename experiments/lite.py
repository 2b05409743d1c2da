"""A small FloWaveNet that keeps the paper's depth: 9,449,970 parameters, 1.33 MFLOP per audio sample (base.py: 16.8).

    make train CONFIG=experiments/lite.py WORKDIR=runs/lite ARGS="--config.data=data/ljspeech"

Two things make it small, and neither takes away a flow: the networks hear the mel at the rate of its frames instead of
squeezed with the audio, which is where 69% of the paper's parameters are, and they are narrow.
"""

from ml_collections import ConfigDict

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config = experiment("base")
    config.model.update({"conditioner": "frames", "prior_channels": 96})
    # The first block has half of all positions, the second a quarter: width costs time there, parameters everywhere.
    with config.model.ignore_type():
        config.model.channels = (64, 96, 96, 96, 96, 96, 96, 96)
    # What the mel says of loudness and spectrum is not left to the flow to learn: docs/prediction.md.
    config.model.prediction.order = 256
    # A coupling scales by e^±2 at most: no mel, however strange, makes speech explode, nor does a product in bfloat16.
    config.model.s_max = 2.0
    # Recordings have 16 bits: without the noise, likelihood is won in the silences, on their steps.
    config.dequantise = True
    # What is sampled from is the mean of about the last thousand steps, which so high a rate of learning needs.
    config.ema_decay = 0.999
    config.optimizer.warmup = 1_000  # the first steps after ActNorm's initialisation are the wildest
    return config
