"""Mel contracts by name: the conventions of official codes, each equal to its origin's on a golden array."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fwn.errors import UserError, nearest
from fwn.mel.convention import MelContract

_TACOTRON2 = MelContract(
    name="tacotron2",  # NVIDIA tacotron2 and waveglow: TacotronSTFT in layers.py, Mel2Samp in mel2samp.py
    sample_rate=22050,
    n_fft=1024,
    win_length=1024,
    hop_length=256,
    n_mels=80,
    fmin=0.0,
    fmax=8000.0,
    power=1,
    power_epsilon=0.0,
    filter_scale="slaney",
    filter_norm="slaney",
    padding="centre",
    compression="ln",
    floor=1e-5,
    reference_db=None,
    min_db=None,
    peak=None,
    alignment="start",
)
_PWG = dataclasses.replace(
    _TACOTRON2,
    name="pwg_24k_300",  # kan-bayashi/ParallelWaveGAN: bin/preprocess.py, logmelfilterbank; egs/*/voc1/conf of 24 kHz
    sample_rate=24000,
    n_fft=2048,
    win_length=1200,
    hop_length=300,
    fmin=80.0,
    fmax=7600.0,
    compression="log10",
    floor=1e-10,
    alignment="edge",
)
_PWG_16K = dataclasses.replace(_PWG, name="pwg_16k_256", sample_rate=16000, n_fft=1024, win_length=1024, hop_length=256)
_HIFIGAN = dataclasses.replace(
    _TACOTRON2,
    name="hifigan",  # jik876/hifi-gan: meldataset.mel_spectrogram, MelDataset
    power_epsilon=1e-9,
    padding="same",
    peak=0.95,
)
_BIGVGAN = dataclasses.replace(
    _HIFIGAN,
    name="bigvgan_24k_100",  # NVIDIA/BigVGAN: meldataset.mel_spectrogram; configs/bigvgan_v2_24khz_100band_256x.json
    sample_rate=24000,
    n_mels=100,
    fmax=12000.0,
)
_ALL = [
    dataclasses.replace(
        _TACOTRON2,
        name="flowavenet",  # ksw0306/FloWaveNet: preprocessing._process_utterance
        fmin=125.0,
        fmax=7600.0,
        power=2,
        compression="db20_normalised",
        floor=1e-4,
        reference_db=20.0,
        min_db=-100.0,
        peak=0.999,
        alignment="half",
    ),
    _TACOTRON2,
    _HIFIGAN,
    _PWG,
    # No recipe of ParallelWaveGAN has these numbers: its function with them.
    dataclasses.replace(_PWG, name="pwg_24k_240", win_length=960, hop_length=240),
    _PWG_16K,  # egs/arctic/voc1/conf; also transformers' SpeechT5FeatureExtractor
    dataclasses.replace(_PWG_16K, name="pwg_16k_200", win_length=800, hop_length=200),  # likewise
    # espnet2/tts/feats_extract/log_mel_fbank.py: LogMelFbank. It differs from ParallelWaveGAN's in silence.
    dataclasses.replace(_PWG, name="espnet_24k_300", power_floor=1e-10),  # egs2/csmsc/tts1, egs2/libritts/tts1
    dataclasses.replace(_PWG_16K, name="espnet_16k_256", power_floor=1e-10),  # its defaults
    _BIGVGAN,
    dataclasses.replace(
        _BIGVGAN,
        name="bigvgan_44k_128",  # configs/bigvgan_v2_44khz_128band_512x.json
        sample_rate=44100,
        n_fft=2048,
        win_length=2048,
        hop_length=512,
        n_mels=128,
        fmax=22050.0,
    ),
    dataclasses.replace(
        _TACOTRON2,
        name="vocos_24k_100",  # gemelo-ai/vocos: feature_extractors.py, MelSpectrogramFeatures (torchaudio's)
        sample_rate=24000,
        n_mels=100,
        fmax=12000.0,
        filter_scale="htk",
        filter_norm="none",
        floor=1e-7,
    ),
]
PRESETS = {preset.name: preset for preset in _ALL}


def contract(name_or_dict: str | Mapping[str, Any] | MelContract, source: str = "mel contract") -> MelContract:
    """The preset of that name, or the contract with these fields. A UserError suggests the most similar preset."""
    if isinstance(name_or_dict, MelContract):
        return name_or_dict
    if not isinstance(name_or_dict, str):
        return MelContract.from_dict(name_or_dict, source)
    if name_or_dict not in PRESETS:
        near = nearest(name_or_dict, list(PRESETS))
        raise UserError(f"{source}: no preset is called {name_or_dict!r}{near} (presets: {', '.join(PRESETS)})")
    return PRESETS[name_or_dict]


def read_contract(value: str, flag: str) -> MelContract:
    """The contract that a flag names: a preset, or a JSON file with all fields. Raises UserError if it is neither."""
    if not value.endswith(".json"):
        return contract(value, flag)
    try:
        fields = json.loads(Path(value).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{flag}={value}: no such file") from error
    except OSError as error:
        raise UserError(f"{flag}={value}: cannot be read ({error.strerror}); give a JSON file") from error
    except (ValueError, RecursionError) as error:  # which is raised where lists are too deep in each other
        raise UserError(f"{flag}={value}: not JSON ({error})") from error
    if not isinstance(fields, dict):
        raise UserError(f"{flag}={value}: not a JSON object with the fields of a mel contract")
    return contract(fields, f"{flag}={value}")
