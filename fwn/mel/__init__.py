"""Mel contracts: all parameters of a mel-spectrogram convention with a hash, and the mels that they define.

A mel is the only input of a vocoder. A mel of another convention can have the right shape and still sound like a broken
model. So data sets and checkpoints store the contract of their mels, and a mel of another contract is an error.
"""

from fwn.mel.check import check_mel, difference
from fwn.mel.convention import PRESETS, MelContract, contract, read_contract
from fwn.mel.npy_file import read_mel
from fwn.mel.spectrogram import align, mel_spectrogram

__all__ = [
    "PRESETS",
    "MelContract",
    "align",
    "check_mel",
    "contract",
    "difference",
    "mel_spectrogram",
    "read_contract",
    "read_mel",
]
