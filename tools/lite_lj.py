"""lite.py on 39 minutes of LJSpeech in half an hour of one large GPU, in three slots of ten minutes (docs/voice.md).

    python -m tools.slots --config=tools/lite_lj.py --config.data=data/lj --output=back --seconds=570 --minutes=28

Not trained yet: no figure here is measured, and each choice says what it rests on.
"""

from ml_collections import ConfigDict

from fwn.shipped import experiment


def get_config() -> ConfigDict:
    config = experiment("lite")
    config.data = "data/lj"
    # What such a card's matrix units are built for; the flow, its log-determinant and what Adam sees stay float32.
    config.model.dtype = "bfloat16"
    # 32 crops of 0.37 s: 12 s of audio a step, twice the paper's 8 x 0.72 s. In half an hour steps are what is short,
    # and a shorter crop costs nothing but its edges; many short crops differ more than a few long ones, which makes a
    # better gradient. The deepest block, of 256 samples a position, still has 1,024 positions in a batch.
    config.update({"frames": 32, "batch_size": 32})
    # The paper's rate. A log-scale that is bounded (lite.py) and 500 steps of warm-up let so short a run begin with it.
    config.optimizer.update({"learning_rate": 1e-3, "warmup": 500})
    # Both are planned by tools.slots from the steps a second that its first minute measures: five halvings, so that the
    # last sixth of the run is at 1/32 of the rate. Until then, and in fwn.train, they stand for 10 steps a second.
    config.num_steps = 16_000
    config.optimizer.halve_every = 2_700
    # lite.py's EMA of a thousand steps stays: at the end of the schedule that is a sixteenth of the run.
    # Three held-out batches of 12 s: every save measures them, and saving is not training.
    config.update({"log_every": 20, "eval_every": 1_000, "eval_batches": 3, "save_every": 1_000})
    return config
