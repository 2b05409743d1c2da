"""lite.py on 39 minutes of LJSpeech, trained for half an hour on one large GPU in three slots (docs/voice.md).

    python -m tools.slots --config=tools/lite_lj.py --config.data=data/lj --output=back --seconds=570 --minutes=28

Not trained yet: no figure here is measured. The comments give the reasons for each choice.
"""

from ml_collections import ConfigDict

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config = experiment("lite")
    config.data = "data/lj"
    # For the matrix units of such a GPU. The flow, its log-determinant, gradients and moments stay float32.
    config.model.dtype = "bfloat16"
    # 32 crops of 0.37 s: 12 s of audio per step, twice the paper's 8 x 0.72 s. Half an hour has few steps, so each
    # should have a good gradient: many short crops are more diverse than a few long ones. The deepest block, of 256
    # samples per position, still has 1,024 positions in a batch.
    config.update({"frames": 32, "batch_size": 32})
    # The paper's learning rate. The bound of log-scales (lite.py) and 500 steps of warm-up make it safe from the start.
    config.optimizer.update({"learning_rate": 1e-3, "warmup": 500})
    # tools.slots sets both after its first minute, from the measured steps per second: five halvings, so that the last
    # sixth of the run has 1/32 of the learning rate. Until then, and in fwn.train, they assume 10 steps per second.
    config.num_steps = 16_000
    config.optimizer.halve_every = 2_700
    # The EMA over a thousand steps of lite.py is kept: that is a sixteenth of the run.
    # Only three held-out batches of 12 s, because every save evaluates them and that time is not training.
    config.update({"log_every": 20, "eval_every": 1_000, "eval_batches": 3, "save_every": 1_000})
    return config
