"""Mel contracts: all parameters of a mel-spectrogram convention with a hash, and the mels that they define.

A mel is the only input of a vocoder. A mel of another convention can have the right shape and still sound like a broken
model. So data sets and checkpoints store the contract of their mels, and a mel of another contract is an error.
"""

from fwn.mel.check import check_mel, difference
from fwn.mel.convention import MelContract
from fwn.mel.external import as_array, check_mels, rows, several, with_speaker
from fwn.mel.hop import fitted
from fwn.mel.mel_file import read_mels
from fwn.mel.presets import PRESETS, contract, read_contract
from fwn.mel.spectrogram import align, mel_spectrogram, silence

__all__ = [
    "PRESETS",
    "MelContract",
    "align",
    "as_array",
    "check_mel",
    "check_mels",
    "contract",
    "difference",
    "fitted",
    "mel_spectrogram",
    "read_contract",
    "read_mels",
    "rows",
    "several",
    "silence",
    "with_speaker",
]
