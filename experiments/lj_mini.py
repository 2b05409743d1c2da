"""The included voice, voices/lj-mini: lite.py, narrower and odd, on 39 minutes of LJSpeech and two CPU cores.

    make voice INPUT=ljspeech-mini

From scratch, train the predictor first with Muon: by itself it trains six times as fast, and it learns the voicing.

    python -m fwn.train --config=experiments/lj_mini_predictor.py --workdir=runs/predictor
    python -m fwn.train --config=experiments/lj_mini.py --workdir=runs/lj-mini --init_from=runs/predictor

docs/prediction.md has the experiments behind these choices, with curves.
"""

from ml_collections import ConfigDict

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config = experiment("lite")
    config.data = "data/lj-mini"
    config.model.update({"odd": True, "prior_channels": 64})
    with config.model.ignore_type():
        config.model.channels = (48, 64, 64, 64, 64, 64, 64, 64)
    # Autoregression learns voicing sooner than the flow does (docs/prediction.md).
    config.model.autoregression.update({"coefficients": 6, "channels": 96, "n_layer": 9, "taps": 64})
    # Many short crops give more diverse batches than a few long ones, but autoregression needs a long past.
    config.update({"frames": 32, "batch_size": 2, "num_steps": 20_000})
    config.optimizer.update({"learning_rate": 1e-3, "warmup": 100, "halve_every": 4_000})
    config.update({"log_every": 50, "eval_every": 250, "eval_batches": 24, "save_every": 250})
    return config
