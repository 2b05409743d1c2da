"""lite.py for the mels of another convention: that of your acoustic model, at its own sample rate and hop.

    make data CORPUS=folder INPUT=recordings OUTPUT=data/mine ARGS=--mel=pwg_24k_300
    python -m fwn.train --config=other_mel:pwg_24k_300 --workdir=runs/mine --config.data=data/mine

After the colon stands a preset (docs/mels.md) or the path of a mel contract in JSON. Crops have about the length of the
paper's, 0.72 s, and end with a position of the last block, where a multiple of frames does.
"""

import math

from ml_collections import ConfigDict

from fwn.mel import read_contract
from fwn.shipped import experiment

SECONDS = 15_872 / 22_050  # of a crop


def get_config(mel: str = "pwg_24k_300") -> ConfigDict:
    config = experiment("lite")
    contract = read_contract(mel, "other_mel")
    position = 2**config.model.n_block
    unit = position // math.gcd(position, contract.hop_length)
    frames = SECONDS * contract.sample_rate / contract.hop_length
    whole = unit * round(frames / unit)  # 0 for a hop with few factors, whose crops then end within a position
    config.update({"mel": mel, "frames": whole or max(1, round(frames)), "data": "data/mine"})
    return config
