"""Speech from a mel, by jax alone: `sample = load(folder); audio = sample(mel)`. What a mel is: contract.json."""

import hashlib
import json
from pathlib import Path

import jax
import numpy as np
from jax import export, random


def load(folder=Path(__file__).parent):
    stated = json.loads(Path(folder, "contract.json").read_text())
    files = {name: Path(folder, name).read_bytes() for name in stated["sha256"]}
    if damaged := [n for n in files if hashlib.sha256(files[n]).hexdigest() != stated["sha256"][n]]:
        raise ValueError(f"{folder}: damaged: {', '.join(damaged)}; get the folder again")
    start = 8 + int.from_bytes(files["weights.safetensors"][:8], "little")
    header, data = json.loads(files["weights.safetensors"][8:start]), files["weights.safetensors"][start:]
    weights = {n: np.frombuffer(data[slice(*t["data_offsets"])], "<f4").reshape(t["shape"]) for n, t in header.items()}
    weights, who, low, hop = jax.device_put(weights), *map(stated.get, ("speaker", "low_temperature", "hop_length"))
    run = {n: jax.jit(export.deserialize(bytearray(files[f"{n}.stablehlo"])).call) for n in ("sample", "decode")}

    def sample(mel, temperature=stated["temperature"], seed=0, speaker=None, noise=None):
        """mel [F, M] or [B, F, M] -> audio [F * hop] or [B, F * hop]. noise [B, ...]: in place of the seed's."""
        mels, key = np.asarray(mel, np.float32).reshape(-1, *np.shape(mel)[-2:]), random.key(seed)
        b, f, _ = mels.shape
        more = min(n for k in range(6, 40) for n in (2**k, 2**k * 3 // 2) if n >= f) - f  # few lengths, so few programs
        told = speaker if who["kind"] == "embedding" else [who["names"].index(speaker)] if who["kind"] == "id" else []
        mels = np.concatenate([mels, np.broadcast_to(np.float32(told), (b, f, len(told)))], axis=2)
        keys = key[None] if np.ndim(mel) == 2 else jax.vmap(random.fold_in, (None, 0))(key, np.arange(b))
        call, given = "sample", random.key_data(keys)
        if noise is not None:
            call, given = "decode", np.concatenate([noise, np.zeros((b, more * hop, *np.shape(noise)[2:]))], axis=1)
        scale = np.float32(temperature if low is None else [temperature, low])
        audio = run[call](weights, np.pad(mels, ((0, 0), (0, more), (0, 0))), np.full(b, f, np.int32), given, scale)
        return np.asarray(audio)[:, : f * hop].reshape(*np.shape(mel)[:-2], -1)

    return sample
