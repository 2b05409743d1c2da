"""The paper's FloWaveNet on LJSpeech: 182,644,788 parameters, as the official README configures it.

    make train CONFIG=experiments/base.py WORKDIR=runs/base ARGS="--config.data=data/ljspeech"

The paper trains 700,000 steps on LJSpeech and reports 4.5457 nats/sample (CLL) on the held-out tenth.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    config = ConfigDict(
        {
            "system": "flowavenet",
            "model": {
                "n_block": 8,
                "n_flow": 6,
                "n_layer": 2,  # gated layers in a coupling's WaveNet
                "channels": 256,  # or one number for each block, as in experiments/lite.py; prior_channels too
                "block_per_split": 4,  # half of the channels leave after every so many blocks
                "prior_layer": 2,
                "prior_channels": 256,
                # how the networks hear the mel: "squeezed", at the audio rate and squeezed as the audio is; "frames",
                # as conditioner_channels at the rate of its frames, interpolated
                "conditioner": "squeezed",
                "conditioner_channels": 64,
                "upsample_strides": (16, 16),  # their product is the mel's hop
                "upsample_init": "random",  # of "squeezed"; or "linear": begin with the interpolated mel
                "causal": False,  # the couplings' WaveNets
                "s_max": placeholder(float),  # smooth bound of |log s|; None: unbounded, as the paper's
                "odd": False,  # the model of -audio is minus that of audio: no tones below T = 1 (docs/tones.md)
                # linear prediction in front of the flow, its filters made of the mel (docs/prediction.md); ours
                "prediction": {
                    "order": 0,  # coefficients of a filter; 0: no prediction
                    "first_order": 16,  # of them, those of a first stage
                    "subframe": 64,  # samples that share a filter
                    "channels": 256,  # of the convolutions over mel frames
                },
                # and of the lowest bands, by a WaveNet of the blocks before: its inverse goes block by block; ours
                "autoregression": {
                    "coefficients": 0,  # of a block's DCT, each rate / 2 / block wide; 0: none
                    "block": 16,  # samples
                    "channels": 64,
                    "n_layer": 8,  # dilations of 1, 2, 4, … blocks
                    "taps": 0,  # blocks of a linear predictor beside it, made of the mel; 0: none
                },
                "dtype": placeholder(str),  # of the networks, "bfloat16"; None: float32. The flow itself stays float32
                # "plain"; with less memory and a third more time: "remat" computes each flow again in the backward
                # pass, "invert" also gets its input from its output, so that memory does not grow with depth
                "gradient": "plain",
            },
            "teacher": placeholder(str),  # the workdir of a trained model, for systems that are distilled from one
            "loss": {},  # weights of its terms, for systems that have several
            "mel": "flowavenet",  # a preset's name, or a JSON file with all fields of a fwn.mel.MelContract
            "data": "data/ljspeech",  # a folder made by data_prep.prepare
            "frames": 62,  # mel frames a crop: 15,872 samples
            "batch_size": 8,  # crops a step, all devices together
            "dequantise": False,  # train on audio plus noise uniform over one 16-bit step
            "seed": 1111,
            "num_steps": 700_000,
            "optimizer": {
                "kind": "adam",  # or "muon" (docs/prediction.md)
                "learning_rate": 1e-3,
                "warmup": 0,  # steps of linear warm-up
                "halve_every": 200_000,
                "max_grad_norm": 1.0,  # gradients are scaled down to this global norm
            },
            "ema_decay": 0.0,  # of the weights that are sampled from; 0: no averaging
            # How a step reaches all devices: "jit" with shardings; "zero": jit, with the optimizer's moments and the
            # average of the weights parted among the devices, which saves memory; or "pmap"
            "parallel": "jit",
            "log_every": 100,
            "eval_every": 5_000,  # held-out nats/sample, a sample for TensorBoard, a checkpoint
            "eval_batches": 16,
            "save_every": 1_000,
            "max_skipped": 50,  # non-finite steps in a row before the run stops
        }
    )
    return config.lock()
