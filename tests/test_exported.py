"""fwn.export: a voice of one small file, that says what its workdir says, and that no damage gets into unnoticed."""

import json

import jax
import numpy as np
import pytest
import small

import fwn
from fwn.errors import UserError
from fwn.mel import PRESETS
from fwn.synthesis import exported
from fwn.systems import build
from fwn.training import checkpoints


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    """(workdir, exported folder) of a model with linear prediction."""
    folder = tmp_path_factory.mktemp("voice")
    config = small.config(folder / "data")
    batch = {"audio": small.speech(0, 2048)[None], "mel": np.full((1, 8, 80), 0.4, "float32")}
    batch["index"] = np.zeros(1, np.int32)
    shapes = jax.eval_shape(build(config).init, jax.random.key(0), batch, {})
    rng = np.random.default_rng(0)

    def drawn(path, leaf):
        return (0.1 * rng.normal(size=leaf.shape) + (path[-1].key == "scale")).astype("float32")

    params = jax.tree_util.tree_map_with_path(drawn, shapes)
    checkpoints.write(folder / "run", config.to_dict(), PRESETS["flowavenet"], params, 7)
    result = small.program("fwn.export", f"--ckpt={folder / 'run'}", f"--output={folder / 'voice'}", "--format=voice")
    assert result.code == 0, result.err
    return folder / "run", folder / "voice"


def test_is_the_model_in_half_precision(voice):
    before, after = (fwn.load(folder) for folder in voice)
    assert (after.step, after.mel, after.temperature) == (7, before.mel, 1.0)
    pairs = zip(jax.tree.leaves(before.params), jax.tree.leaves(after.params), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=2**-11, atol=1e-7)


def test_low_temperature(voice):
    """Its default is 0.9; at 0 the predicted bands still have the mean."""
    mel = np.zeros((8, 80), "float32")
    one, same, none = (fwn.load(voice[1], low_temperature=low)(mel) for low in (None, 0.9, 0.0))
    np.testing.assert_array_equal(one, same)
    assert np.max(np.abs(one - none)) > 1e-4
    stream = b"".join(a.tobytes() for a in fwn.load(voice[1], low_temperature=0.0).stream([mel], chunk=2))
    np.testing.assert_allclose(np.frombuffer(stream, "float32"), none, atol=1e-5)


def test_a_flipped_bit_is_refused(voice, tmp_path):
    config, weights = ((voice[1] / name).read_bytes() for name in ("config.json", exported.VOICE))
    rng = np.random.default_rng(0)
    (tmp_path / "config.json").write_bytes(config)
    for place in rng.integers(0, 8 * len(weights), 50):
        damaged = bytearray(weights)
        damaged[place // 8] ^= 1 << place % 8
        (tmp_path / exported.VOICE).write_bytes(damaged)
        with pytest.raises(UserError, match=r"weights.npz: damaged"):
            fwn.load(tmp_path)


def test_a_voice_is_replaced(voice):
    again = small.program("fwn.export", f"--ckpt={voice[0]}", f"--output={voice[1]}", "--format=voice")
    assert again.code == 0


def test_the_record_is_whole(voice):
    record = json.loads((voice[1] / "config.json").read_text())
    assert record["step"] == 7
    assert len(record["sha256"]) == 64


def test_training_begins_with_it(voice, corpus, tmp_path):
    """Step 1 from the exported weights is that from the workdir, but for half precision; another model is refused."""
    flags = [*small.config_flags(corpus, num_steps=1), "--config.optimizer.learning_rate=1e-9"]
    for source, name in zip(voice, ("run", "voice"), strict=True):
        result = small.program("fwn.train", *flags, f"--init_from={source}", f"--workdir={tmp_path / name}")
        assert (result.code, result.err) == (0, "")
        assert f"beginning with the weights of {source}, step 7" in result.out
    before, after = (fwn.load(tmp_path / name).params for name in ("run", "voice"))
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        np.testing.assert_allclose(b, a, rtol=2**-9, atol=1e-5)
    wider = [*flags, "--config.model.channels=12", f"--workdir={tmp_path / 'wider'}"]
    result = small.program("fwn.train", *wider, f"--init_from={voice[1]}")
    assert result.code == 1
    assert "does not fit this config.model (block_0/flows/net/condition_0/bias has the shape" in result.err


def test_training_begins_in_the_parts_that_both_have(voice, corpus, tmp_path):
    """The filters of the voice, without its flow; then a flow behind what has learned already, and its ActNorm."""
    flags = [*small.config_flags(corpus, num_steps=1), "--config.optimizer.learning_rate=1e-9", "--config.ema_decay=0"]
    without = [*flags, "--config.model.n_block=0", f"--init_from={voice[0]}", f"--workdir={tmp_path / 'a'}"]
    result = small.program("fwn.train", *without)
    assert (result.code, result.err) == (0, "")
    assert "step 7: autoregression, model, prediction\nnot used: model\n" in result.out
    result = small.program("fwn.train", *flags, f"--init_from={tmp_path / 'a'}", f"--workdir={tmp_path / 'b'}")
    assert (result.code, result.err) == (0, "")
    assert "initialised as usual: model\n" in result.out
    both = [*flags, f"--init_from={tmp_path / 'a'}", f"--init_from={voice[0]}", f"--workdir={tmp_path / 'd'}"]
    result = small.program("fwn.train", *both)
    assert (result.code, result.err) == (0, "")
    assert f"{tmp_path / 'a'}, step 1: autoregression, prediction\n" in result.out
    assert f"{voice[0]}, step 7: model\n" in result.out
    first, a, b = (fwn.load(folder).params for folder in (voice[0], tmp_path / "a", tmp_path / "b"))
    assert a.keys() == {"prediction", "autoregression"}
    for part in a:
        for x, y in zip(jax.tree.leaves(a[part]), jax.tree.leaves(b[part]), strict=True):
            np.testing.assert_allclose(x, y, atol=1e-6)
    assert np.ptp(a["prediction"]["conv_0"]["kernel"] - first["prediction"]["conv_0"]["kernel"]) < 1e-6
    own = [*flags, f"--init_from={voice[1]}", "--init_parts=prediction", f"--workdir={tmp_path / 'e'}"]
    result = small.program("fwn.train", *own, "--config.model.channels=12")
    assert (result.code, result.err) == (0, "")
    assert "step 7: prediction\ninitialised as usual: autoregression, model\n" in result.out
    off = ["--config.model.prediction.order=0", "--config.model.autoregression.coefficients=0"]
    neither = [*flags, *off, f"--workdir={tmp_path / 'c'}"]
    result = small.program("fwn.train", *neither, f"--init_from={tmp_path / 'a'}")
    assert (result.code, len(result.err.splitlines())) == (1, 1)
    assert "does not fit this config.model (it has autoregression, prediction, this model)" in result.err


STEP = ["--config.num_steps=1", "--config.optimizer.learning_rate=1e-9", "--config.ema_decay=0"]


def test_training_begins_with_the_arrays_that_fit(voice, corpus, tmp_path):
    """--init_partial, from a narrower model: what fits is taken, the other arrays are named and drawn."""
    wider = ["--config.model.channels=12", f"--init_from={voice[0]}", "--init_partial", f"--workdir={tmp_path / 'a'}"]
    result = small.program("fwn.train", *small.config_flags(corpus), *STEP, *wider)
    assert (result.code, result.err) == (0, "")
    assert "\nnot taken: block_0/flows/net/condition_0/bias has the shape [1, 16] there, [1, 24] here\n" in result.out
    before, after = small.arrays(voice[0], 7), small.arrays(tmp_path / "a", 1)
    before, after = ({n: a for n, a in tree.items() if n.startswith("params")} for tree in (before, after))
    same = [name for name, a in before.items() if after[name].shape == a.shape]
    alone = len([line for line in result.out.splitlines() if line.startswith("not taken: ")])
    count = f"taken: {len(same)} of {len(after)} arrays, {sum(before[name].size for name in same):,} of "
    assert count in result.out
    assert alone == min(11, len(after) - len(same))
    for name in same:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-6, atol=1e-8, err_msg=name)
    for name in after.keys() - set(same):
        assert np.isfinite(after[name]).all()


def test_actnorm_from_the_new_data(voice, corpus, tmp_path):
    """--init_actnorm=data: ActNorm alone is other than the voice's, and with it the first batch is likelier."""
    flags = [*small.config_flags(corpus), *STEP, f"--init_from={voice[0]}"]
    result = small.program("fwn.train", *flags, "--init_actnorm=data", f"--workdir={tmp_path / 'a'}")
    assert (result.code, result.err) == (0, "")
    before, after = small.arrays(voice[0], 7), small.arrays(tmp_path / "a", 1)
    normal = {name for name in before if "actnorm" in name}
    assert f"initialised from the new data: {len(normal)} arrays of ActNorm\n" in result.out
    for name in (name for name in before if name.startswith("params")):
        assert np.allclose(before[name], after[name], rtol=1e-6, atol=1e-8) == (name not in normal), name
    spread = {name: after[name] for name in normal if name.endswith("['scale']")}
    kept = small.program("fwn.train", *flags, f"--workdir={tmp_path / 'b'}")
    assert kept.code == 0
    nats = [json.loads((tmp_path / n / "metrics.jsonl").read_text().splitlines()[0])["loss"] for n in ("a", "b")]
    assert nats[0] < nats[1]
    assert all((scale > 0).all() for scale in spread.values())


def test_frozen_weights_stay(voice, corpus, tmp_path):
    """config.freeze, by name and wildcard, also when a run that trained them goes on; so do their averages."""
    flags = [*small.config_flags(corpus, ema_decay=0.5), f"--workdir={tmp_path / 'a'}", f"--init_from={voice[0]}"]
    names = "prediction,block_?/flows/actnorm,block_0/flows/net/out/*"

    def after(steps, *more):
        result = small.program("fwn.train", *flags, f"--config.num_steps={steps}", *more)
        assert (result.code, result.err) == (0, "")
        return {name: a for name, a in small.arrays(tmp_path / "a", steps).items() if name.startswith("params")}

    start, first, second = small.arrays(voice[0], 7), after(2, f"--config.freeze={names}"), after(4)
    learned = {name for name in first if not np.allclose(first[name], second[name], 1e-5, 1e-7)}  # not by rounding
    own = "'prediction'", "'actnorm'", "block_0']['flows']['net']['out'"
    named = {name for name in learned if any(part in name for part in own)}
    assert {name for name in learned if np.array_equal(first[name], start[name])} == named
    assert len(named) > 10
    third = after(6, "--config.freeze=prediction")
    still = {name for name in learned if np.array_equal(second[name], third[name])}
    assert still == {name for name in learned if "'prediction'" in name}
