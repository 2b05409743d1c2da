"""contract.json: what the programs of an export take and give, for a reader who has never seen fwn."""

import json
from typing import Any

import jax
from jax import export

from fwn import __version__
from fwn.portable.parity import LIMIT, Parity
from fwn.portable.programs import ARGUMENTS, DECODE, PLATFORMS
from fwn.synthesis.vocoder import Vocoder

FILE, FORMAT = "contract.json", "fwn export 1"
MEANING = {
    "weights": "the tensors of weights.safetensors, in the order of their names",
    "mel": "frames of `bands` by the mel contract; who speaks is in channels after them (speaker)",
    "frames": "number of real frames of each mel; frames after them are padding, which changes no sample before it",
    "keys": "key of each mel's noise: [0, seed] is jax.random.key(seed), of kind threefry2x32",
    "noise": "standard noise of the kind that the model draws, in place of keys",
    "temperature": "scale of the noise; of two numbers, the second is the low temperature",
}
SPEAKER = {
    "none": "the model is not told who speaks, and there are no channels after the bands",
    "id": "one channel after the bands has the speaker's place among the names, from 0 on, in every frame",
    "embedding": "as many channels after the bands as `size` have the speaker's vector, in every frame",
}


def text(vocoder: Vocoder, programs: dict[str, export.Exported], parity: Parity, sha256: dict[str, str]) -> str:
    """The file. sha256: of each file that load_fwn.py reads, by name."""
    mel, speakers = vocoder.mel, vocoder.speakers
    shapes = {name: _arguments(name, program) for name, program in programs.items()}
    values = {
        "format": FORMAT,
        "written_by": {"fwn": __version__, "jax": jax.__version__},
        "system": vocoder.config.system,
        "step": vocoder.step,
        "parameters": vocoder.n_params,
        "mel": mel.to_dict(),
        "mel_hash": mel.hash(),
        "mel_range": list(mel.value_range),
        "sample_rate": mel.sample_rate,
        "hop_length": mel.hop_length,
        "full_scale": 1.0,
        "temperature": vocoder.temperature,
        "low_temperature": vocoder.low_temperature,
        "speaker": {
            "kind": speakers.kind,
            "names": list(speakers.names),
            "size": speakers.size,
            "meaning": SPEAKER[speakers.kind],
        },
        "noise": next(a for a in shapes[DECODE] if a["name"] == "noise"),
        "platforms": list(PLATFORMS),
        "programs": {
            name: {"arguments": shapes[name], "result": _array("audio", program.out_avals[0])}
            for name, program in programs.items()
        },
        "parity": parity._asdict() | {"limit": LIMIT},
        "sha256": sha256,
    }
    return json.dumps(values, indent=2) + "\n"


def _arguments(name: str, program: export.Exported) -> list[dict[str, Any]]:
    """The arguments of a program in their order, the weights as one."""
    first, *others = ARGUMENTS[name]
    arrays = zip(others, program.in_avals[-len(others) :], strict=True)
    count = len(program.in_avals) - len(others)
    described = [{"name": first, "tensors": count}, *(_array(*array) for array in arrays)]
    return [argument | {"meaning": MEANING[argument["name"]]} for argument in described]


def _array(name: str, aval: Any) -> dict[str, Any]:
    """Its shape has numbers, and b and f, the batch and the frames of the call."""
    shape = [size if isinstance(size, int) else str(size) for size in aval.shape]
    return {"name": name, "shape": shape, "dtype": str(aval.dtype)}
