"""fwn.export: a folder whose programs give the model's audio without fwn, and that no damage gets into unnoticed."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from jax import export

import fwn
from experiments import base, lj_mini, tiny_clarinet, tiny_parallel_wavenet, tiny_wavenet, tiny_wavenet_mol
from fwn import config as configs
from fwn.errors import UserError
from fwn.mel import PRESETS
from fwn.models.weight_forms import named, unstack
from fwn.nn.weight_norm import fold_weight_norm
from fwn.portable import folder as folders
from fwn.portable import load_fwn, parity, programs
from fwn.synthesis import exported
from fwn.systems import build
from fwn.training import checkpoints

PLAIN = {"prediction": {"order": 0}, "autoregression": {"coefficients": 0}}
FLOW = small.MODEL | PLAIN
WHOLE = small.MODEL | {"prediction": small.PREDICTION, "autoregression": small.AUTOREGRESSION}
NET = {"channels": 4, "n_layer": 2}
WAVENET = NET | {"gate_channels": 4, "skip_channels": 4}


def drawn(config, seed=0):
    """(system, random weights) of a config."""
    mel = configs.mel_of(config)
    system, rng = build(config, mel=mel), np.random.default_rng(seed)
    bands = mel.n_mels + system.speakers.channels
    batch = {"audio": np.zeros((1, 8 * mel.hop_length), "float32"), "mel": np.zeros((1, 8, bands), "float32")}
    batch["index"] = np.zeros(1, np.int32)

    def leaf(path, a):
        return (0.1 * rng.normal(size=a.shape) + (path[-1].key == "scale")).astype("float32")

    shapes = jax.eval_shape(system.init, jax.random.key(0), batch, {})
    return system, jax.tree_util.tree_map_with_path(leaf, shapes)


def of(experiment, mel="flowavenet", speakers=None, **model):
    config = experiment.get_config()
    with config.unlocked():
        config.model.update(model)
        config.mel = mel
        config.speakers.update(speakers or {})
    return configs.copied(config)


ANN_AND_BOB = {"kind": "id", "names": ("ann", "bob")}
SYSTEMS = {
    "the paper's": partial(of, base, **FLOW),
    "wide, by Winograd": partial(of, base, **FLOW | {"channels": 128, "n_block": 1}),
    "with prediction and autoregression": partial(of, base, **WHOLE),
    "odd, at the frame rate": partial(of, lj_mini, **FLOW | {"channels": (8, 8)}),
    "of a hop of 300": partial(of, lj_mini, "pwg_24k_300", **FLOW | {"n_block": 4, "channels": (8,) * 4}),
    "in bfloat16": partial(of, base, **FLOW | {"dtype": "bfloat16"}),
    "of two speakers": partial(of, base, speakers=ANN_AND_BOB, **FLOW),
    "a WaveNet": partial(of, tiny_wavenet, **WAVENET),
    "a WaveNet of 16 bits": partial(of, tiny_wavenet_mol, **WAVENET),
    "a ClariNet": partial(of, tiny_clarinet, stacks=(1, 1), **NET),
    "a Parallel WaveNet": partial(of, tiny_parallel_wavenet, stacks=(1,), **NET),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_programs_equal_the_system(name):
    """At lengths and batches that were not known at export, from keys and from noise, with and without padding."""
    config = SYSTEMS[name]()
    system, params = drawn(config)
    params = jax.tree.map(jnp.asarray, unstack(fold_weight_norm(params)))
    channels = configs.mel_of(config).n_mels + system.speakers.channels
    made = programs.exported(system, named(params), channels)
    run = {name: jax.jit(export.deserialize(bytearray(p.serialize())).call) for name, p in made.items()}
    assert all(set(program.platforms) == {"cpu", "cuda", "tpu"} for program in made.values())
    scale = np.float32(0.8 if system.low_temperature is None else [0.8, 0.9])
    rng = np.random.default_rng(0)
    for frames in [5], [9, 4]:
        mel = rng.uniform(0, 0.6, (len(frames), max(frames), channels)).astype("float32")
        mel[..., channels - system.speakers.channels :] = 1
        keys, frames = jax.random.split(jax.random.key(3), len(frames)), np.array(frames, np.int32)
        call = {programs.SAMPLE: jax.random.key_data(keys), programs.DECODE: jax.jit(system.draw)(mel, keys)}
        expected = jax.jit(system.sample)(params, mel, keys, scale, frames)
        found = {n: np.asarray(run[n](named(params), mel, frames, call[n], scale)) for n in run}
        for audio in found.values():
            np.testing.assert_allclose(audio, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """(workdir, its export) of a model that is told the speaker."""
    folder = tmp_path_factory.mktemp("portable")
    config = SYSTEMS["of two speakers"]()
    checkpoints.write(folder / "run", config.to_dict(), PRESETS["flowavenet"], drawn(config)[1], 7)
    flags = f"--ckpt={folder / 'run'}", f"--output={folder / 'out'}", "--licence=CC0"
    result = small.program("fwn.export", *flags)
    assert (result.code, result.err) == (0, ""), result
    return folder / "run", folder / "out"


@pytest.fixture
def copy(both, tmp_path):
    return shutil.copytree(both[1], tmp_path / "copy")


def mels(*frames):
    rng = np.random.default_rng(1)
    return [rng.uniform(0, 0.6, (f, 80)).astype("float32") for f in frames]


SCRIPT = """
import sys
import numpy as np
from load_fwn import load
sample, given = load(), np.load(sys.argv[1])
one, two, noise = given["one"], given["two"], given["noise"]
made = {"one": sample(one, seed=5, speaker="bob"), "two": sample(two, temperature=0.5, speaker="ann")}
made["given"] = sample(one, speaker="bob", noise=noise)
np.savez(sys.argv[2], **made)
assert not {"fwn", "flax", "ml_collections", "safetensors"} & set(sys.modules)
"""


def test_the_loader_gives_the_audio_of_the_model_without_fwn(both, tmp_path):
    """By itself in another process: a mel, a batch, noise as an input; of each speaker."""
    vocoder, (one, a, b) = fwn.load(both[0]), mels(7, 70, 70)
    key, noise = jax.random.key(5), np.random.default_rng(0).normal(size=(1, 64 * 256)).astype("float32")
    np.savez(tmp_path / "in.npz", one=one, two=np.stack([a, b]), noise=noise[:, : 7 * 256])
    alone = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {"JAX_PLATFORMS": "cpu"}
    script = f"import sys; sys.path.insert(0, {str(both[1])!r})\n{SCRIPT}"
    command = [sys.executable, "-I", "-B", "-c", script, tmp_path / "in.npz", tmp_path / "out.npz"]
    subprocess.run(command, cwd=tmp_path, env=alone, check=True)
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_allclose(found["one"], vocoder(one, key=key, speaker="bob"), rtol=0, atol=1e-5)
        two = vocoder(np.stack([a, b]), 0.5, speaker="ann")
        np.testing.assert_allclose(found["two"], two, rtol=0, atol=1e-5)
        told = np.concatenate([one, np.ones((7, 1), "float32")], axis=1)[None]
        decoded = jax.jit(vocoder.system.decode)(vocoder.params, told, noise[:, : 7 * 256], 0.8, np.array([7]))
        np.testing.assert_allclose(found["given"], decoded[0], rtol=0, atol=1e-5)


def test_the_snippet_of_the_page(both, monkeypatch):
    """docs/export.md, run in the folder, for a model that is not told the speaker."""
    page = (small.ROOT / "docs" / "export.md").read_text()
    snippet = page.partition("```python\n")[2].partition("```")[0].replace(")  #", ', speaker="bob")  #')
    monkeypatch.setitem(sys.modules, "load_fwn", load_fwn)
    monkeypatch.setattr(load_fwn.load, "__defaults__", (both[1],))
    given = {"mel": mels(7)[0]}
    exec(snippet, given)
    assert given["audio"].shape == (2, 7 * 256)


def test_the_loader_is_short(both):
    lines = (both[1] / "load_fwn.py").read_text().splitlines()
    code = [line for line in lines if line and not line.lstrip().startswith('"""')]
    assert len(code) <= 30


def test_fwn_opens_it_as_its_workdir(both):
    before, after = (fwn.load(folder) for folder in both)
    assert (after.step, after.mel, after.speakers.names) == (7, before.mel, before.speakers.names)
    assert jax.tree.structure(before.params) == jax.tree.structure(after.params)
    jax.tree.map(np.testing.assert_array_equal, before.params, after.params)
    runs = [exported.read_run(folder).params for folder in both]
    assert jax.tree.structure(fold_weight_norm(runs[0])) == jax.tree.structure(runs[1])


def test_a_flipped_bit_is_refused(copy):
    """By fwn.load in every file that it reads, and by the loader in every file that that reads."""
    rng = np.random.default_rng(0)
    for name in ("weights.safetensors", "sample.stablehlo", "decode.stablehlo", "contract.json"):
        content = (copy / name).read_bytes()
        for place in rng.integers(0, 8 * len(content), 10):
            damaged = bytearray(content)
            damaged[place // 8] ^= 1 << place % 8
            (copy / name).write_bytes(damaged)
            with pytest.raises(UserError, match=rf"{name}: damaged \(its sha256"):
                fwn.load(copy)
            if name != "contract.json":
                with pytest.raises(ValueError, match=rf"damaged: {name}; get the folder again"):
                    load_fwn.load(copy)
        (copy / name).write_bytes(content)
    fwn.load(copy)


def test_it_is_written_again(both, copy):
    """From an export, over what a kill leaves; a card that a person changed stays."""
    content = {path.name: path.read_bytes() for path in copy.iterdir()}
    (copy / "config.json").unlink()
    with pytest.raises(UserError, match=r"no config\.json in it"):
        fwn.load(copy)
    result = small.program("fwn.export", f"--ckpt={both[1]}", f"--output={copy}", "--licence=CC0")
    assert (result.code, result.err) == (0, ""), result
    assert (copy / "weights.safetensors").read_bytes() == content["weights.safetensors"]
    (copy / "README.md").write_text(content["README.md"].decode().replace("CC0", "mine"))
    result = small.program("fwn.export", f"--ckpt={both[1]}", f"--output={copy}")
    assert result.code == 1
    assert "mine" in (copy / "README.md").read_text()


def test_programs_that_differ_are_refused(both, monkeypatch, tmp_path):
    """Run with weights that differ by a thousandth."""
    run = exported.read_run(both[1])
    vocoder, mel = fwn.load(both[1]), np.stack(mels(24, 24))
    changed = {n: a * np.float32(1.001) for n, a in named(vocoder.params).items()}
    monkeypatch.setattr(parity, "named", lambda params: changed)
    with pytest.raises(UserError, match=r"differ from the model by [\d.e-]+ of full scale, more than 1e-05"):
        folders.write(tmp_path / "out", run, vocoder, mel, ["ann", "bob"], {})
    assert not (tmp_path / "out").exists()


def test_the_contract_says_what_the_programs_take(both):
    stated = json.loads((both[1] / "contract.json").read_text())
    assert stated["mel"] == PRESETS["flowavenet"].to_dict()
    assert stated["parity"]["largest"] <= stated["parity"]["limit"] == 1e-5
    assert stated["speaker"]["names"] == ["ann", "bob"]
    for name, program in stated["programs"].items():
        avals = export.deserialize(bytearray((both[1] / name).read_bytes())).in_avals
        weights, *others = program["arguments"]
        assert weights["tensors"] + len(others) == len(avals)
        for argument, aval in zip(others, avals[-len(others) :], strict=True):
            assert list(map(str, argument["shape"])) == list(map(str, aval.shape))
            assert argument["dtype"] == str(aval.dtype)


def test_the_card(both):
    text = (both[1] / "README.md").read_text()
    for part in ("| licence | CC0 |", "one of 2 names", "## Mel contract", "## Measured", "## Limits", "22050 Hz"):
        assert part in text
