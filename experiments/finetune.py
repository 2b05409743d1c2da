"""A new voice from a trained model of another: fewer steps at a lower rate, and all else as that model was trained.

    python -m fwn.train --config=finetune --workdir=runs/mine --config.data=data/mine --init_from=voices/lj-mini

After a colon stands the experiment of the model that it begins with, by default lj_mini, of the included voice:

    python -m fwn.train --config=finetune:lite --workdir=runs/mine --config.data=data/mine --init_from=runs/lite

docs/finetune.md has measurements of its first 200 steps; beyond these its numbers are a choice.
"""

from ml_collections import ConfigDict

from fwn.shipped import experiment


def get_config(model: str = "lj_mini") -> ConfigDict:
    config = experiment(model)
    config.data = "data/mine"
    config.num_steps = 1_000
    config.optimizer.update({"learning_rate": 3e-4, "warmup": 50, "halve_every": 400})
    config.update({"log_every": 25, "eval_every": 100, "save_every": 100})
    return config
