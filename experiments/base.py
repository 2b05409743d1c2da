"""The paper's FloWaveNet on LJSpeech, configured as in the official README: 182,644,788 parameters.

    make train CONFIG=experiments/base.py WORKDIR=runs/base ARGS="--config.data=data/ljspeech"

The paper trains 700,000 steps on LJSpeech and reports 4.5457 nats/sample (CLL) on the held-out 10% of the utterances.
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
                "n_layer": 2,  # gated layers of the WaveNet in each coupling
                "channels": 256,  # one number, or one per block as in experiments/lite.py; so is prior_channels
                "block_per_split": 4,  # half of the channels are split off after every 4 blocks
                "prior_layer": 2,
                "prior_channels": 256,
                # conditioning of the networks: "squeezed", the mel upsampled to the audio rate and squeezed like audio;
                # "frames", conditioner_channels features at the frame rate, interpolated
                "conditioner": "squeezed",
                "conditioner_channels": 64,
                "upsample_strides": (),  # their product is the mel's hop; (): two, as (16, 16) for 256
                "upsample_init": "random",  # or "linear": starts as linear interpolation; for conditioner "squeezed"
                "causal": False,  # causal WaveNets in the couplings
                "s_max": placeholder(float),  # smooth bound of |log s|; None: no bound, as in the paper
                "odd": False,  # noise of -audio is -noise: no tones at temperatures below 1 (docs/tones.md)
                # linear prediction before the flow, with filters from the mel (docs/prediction.md); not in the paper
                "prediction": {
                    "order": 0,  # coefficients per filter; 0: no prediction
                    "first_order": 16,  # number of these in the first stage
                    "subframe": 0,  # samples that share a filter; 0: the divisor of the hop near 64
                    "channels": 256,  # width of the convolutions over mel frames
                },
                # autoregression: a WaveNet over previous blocks predicts the lowest bands of a block, so the inverse is
                # sequential over blocks; not in the paper
                "autoregression": {
                    "coefficients": 0,  # predicted DCT coefficients per block, each rate / 2 / block wide; 0: none
                    "block": 0,  # samples; 0: the divisor of the hop near 16
                    "channels": 64,
                    "n_layer": 8,  # with dilations of 1, 2, 4, … blocks
                    "taps": 0,  # blocks of an additional linear predictor with taps from the mel; 0: none
                },
                "dtype": placeholder(str),  # of the networks: "bfloat16", or None: float32. The flow stays float32
                # "plain"; "remat": recomputes each flow in the backward pass; "invert": also recomputes its input from
                # its output, so memory does not grow with n_flow. Both take a third more time
                "gradient": "plain",
            },
            "teacher": placeholder(str),  # workdir of the trained teacher, for distilled systems
            "loss": {},  # weights of the loss terms, for systems with several
            "mel": "flowavenet",  # a preset's name, or a JSON file with all fields of a fwn.mel.MelContract
            "data": "data/ljspeech",  # a folder made by data_prep.prepare
            "verify_data": True,  # compare the data with its checksums when a run begins
            "frames": 62,  # mel frames per crop: 15,872 samples
            "batch_size": 8,  # crops per step on all devices together
            "dequantise": False,  # add noise to the audio, uniform over one 16-bit step
            # Standard deviation of noise on the mels of training, in their own units, for mels of acoustic models
            # (docs/mels.md); 0: none
            "mel_noise": 0.0,
            # Of several speakers, who speaks: "none": the model is not told; "id": a speaker of `names`; "embedding": a
            # vector of `size` numbers that comes with each utterance (docs/speakers.md)
            "speakers": {
                "kind": "none",
                "names": (),  # (): those of the data set
                "size": 0,  # 0: that of the data set's vectors
            },
            "seed": 1111,
            "num_steps": 700_000,
            # Stop when about so many seconds have passed, save, and exit with code 4 (docs/reliability.md); 0: no limit
            "max_seconds": 0,
            "optimizer": {
                "kind": "adam",  # or "muon" (docs/prediction.md)
                "learning_rate": 1e-3,
                "warmup": 0,  # steps of linear warm-up
                "halve_every": 200_000,
                "max_grad_norm": 1.0,  # gradients of larger global norm are scaled down to it
            },
            # Weights to leave as they are, with commas between: "prediction,block_0/flows/actnorm,*/scale"
            "freeze": "",
            "ema_decay": 0.0,  # moving average of the weights for sampling and evaluation; 0: no averaging
            # Data parallelism: "jit" with shardings; "zero": also shards the optimizer's moments and the averaged
            # weights, which saves memory; or "pmap"
            "parallel": "jit",
            "log_every": 100,
            "eval_every": 5_000,  # held-out metrics, a sample for TensorBoard and a checkpoint
            "eval_batches": 16,
            "save_every": 1_000,
            # A step is not taken if its loss is not finite, or over the running mean by more than 1 and by more than
            # max_spike mean deviations (0: no limit). After max_skipped such steps in a row the run returns to a
            # checkpoint, at most max_returns times, and goes on with other batches (docs/reliability.md).
            "max_spike": 10.0,
            "max_skipped": 50,
            "max_returns": 3,
        }
    )
    return config.lock()
