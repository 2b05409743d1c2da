"""The mel contract: every parameter of a mel-spectrogram convention, with a hash, and the mels it defines.

A vocoder hears nothing but its mels, and two conventions of one shape sound like a broken model. So the prepared data
set, the checkpoint and the sampler each carry the contract, and a mel of another one is refused.
"""

from fwn.mel.check import check_mel, difference
from fwn.mel.convention import PRESETS, MelContract, contract, read_contract
from fwn.mel.spectrogram import align, mel_spectrogram

__all__ = ["PRESETS", "MelContract", "align", "check_mel", "contract", "difference", "mel_spectrogram", "read_contract"]
