"""What is kept, what is refused, and that a damaged or full disk is one line and loses nothing."""

import json
import shutil

import chaos
import jax
import numpy as np
import pytest
import small

from fwn import config as configs
from fwn.errors import UserError
from fwn.mel import PRESETS
from fwn.training import checkpoints

MEL = PRESETS["flowavenet"]


@pytest.fixture
def copy(run, tmp_path):
    """A run of its own, to damage."""
    return shutil.copytree(run, tmp_path / "copy")


def continued(corpus, workdir, **changes):
    return small.program("fwn.train", *small.config_flags(corpus, **changes), f"--workdir={workdir}")


def is_one_line(result, code, *parts):
    assert result.code == code, result
    assert len(result.err.splitlines()) == 1, result.err
    assert result.err.startswith("python -m fwn.")
    for part in parts:
        assert part in result.err


def params(value):
    return {"a": np.full((3,), value, np.float32)}


def test_the_newest_and_the_best_are_kept(tmp_path):
    config = small.config("data")
    kept = checkpoints.Checkpoints(tmp_path, config, MEL)
    for step, nats in [(1, None), (2, 1.0), (3, 3.0), (4, None), (5, 2.0), (6, None)]:
        kept.save(step, params(step), params(-step), nats)
    kept.close()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["3", "6"]
    configs.write(tmp_path, config, MEL)
    read_config, mel, read, step = checkpoints.read(tmp_path)
    assert (step, mel, configs.plain(read_config)) == (3, MEL, configs.plain(config))
    np.testing.assert_array_equal(read["a"], params(3)["a"])
    assert checkpoints.read(tmp_path, 6)[2]["a"][0] == 6
    with pytest.raises(UserError) as error:
        checkpoints.read(tmp_path, 5)
    assert str(error.value) == f"{tmp_path}: no checkpoint of step 5; there are: 3, 6"


def test_without_held_out_figures_the_newest_is_read(tmp_path):
    kept = checkpoints.Checkpoints(tmp_path, small.config("data"), MEL)
    for step in (1, 2):
        kept.save(step, params(step), params(-step), None)
    kept.close()
    configs.write(tmp_path, small.config("data"), MEL)
    assert checkpoints.read(tmp_path)[3] == 2


def test_an_interrupted_deletion_of_an_older_checkpoint_is_no_damage(tmp_path):
    """Orbax deletes file by file, so a kill can leave a folder without its record or score."""
    for missing in ("_CHECKPOINT_METADATA", "metrics/metrics"):
        workdir = tmp_path / missing.replace("/", "-")
        kept = checkpoints.Checkpoints(workdir, small.config("data"), MEL)
        for step, nats in [(1, 2.0), (2, 1.0)]:
            kept.save(step, params(step), params(-step), nats)
        kept.close()
        configs.write(workdir, small.config("data"), MEL)
        (workdir / "checkpoints" / "1" / missing).unlink()
        assert checkpoints.read(workdir).step == 2
        again = checkpoints.Checkpoints(workdir, small.config("data"), MEL)
        assert again.latest() == 2
        again.save(3, params(3), params(-3), 3.0)
        again.close()
        assert checkpoints.read(workdir).step == 3


def test_a_relative_path(run, monkeypatch):
    monkeypatch.chdir(run.parent)
    read, relative = checkpoints.read(run), checkpoints.read(run.name)
    jax.tree.map(np.testing.assert_array_equal, read.params, relative.params)


def test_config_and_contract_lie_in_every_checkpoint(run):
    metadata = json.loads((run / "checkpoints" / "8" / "_CHECKPOINT_METADATA").read_text())
    recorded = json.loads((run / "config.json").read_text())
    assert recorded.pop("checksum") is not None
    assert metadata["custom_metadata"] | recorded == metadata["custom_metadata"]
    assert recorded["mel_hash"] == MEL.hash()


def test_averaged_weights_are_what_is_sampled_from(run):
    stored, read = small.arrays(run, 8), checkpoints.read(run, 8)[2]
    sampled = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(read)}
    for name, leaf in sampled.items():
        np.testing.assert_array_equal(leaf, stored[f"params{name}"])
    trained = {name: stored[f"train['params']{name}"] for name in sampled}
    assert any(not np.array_equal(sampled[name], trained[name]) for name in sampled)


def test_what_may_change_when_a_run_goes_on(copy, corpus):
    result = continued(corpus, copy, num_steps=9, log_every=3, save_every=5, eval_every=2, max_skipped=9)
    assert result.code == 0
    assert configs.read(copy)[0].max_skipped == 9


def test_a_run_from_before_a_field_was(corpus, tmp_path):
    """It is read, and continued as what it computed; as another it is refused."""
    before = {"model.prediction.order": 0, "model.autoregression.coefficients": 0}
    assert continued(corpus, tmp_path, **before).code == 0
    file = tmp_path / "config.json"
    recorded = json.loads(file.read_text())
    for name in configs.ADDED_LATER:
        del recorded["config"]["model"][name]
    file.write_text(json.dumps(recorded))
    is_one_line(continued(corpus, tmp_path, **before), 1, f"{file}: damaged", 'delete its entry "checksum"')
    del recorded["checksum"]  # as before checksums
    file.write_text(json.dumps(recorded))
    result = continued(corpus, tmp_path, **before, **{"model.conditioner": "frames"})
    is_one_line(result, 1, "(model: {'conditioner': 'squeezed'} there, {'conditioner': 'frames'} now)")
    result = continued(corpus, tmp_path)
    is_one_line(result, 1, "(model: {'prediction': {", "'order': 0", "'order': 12")
    assert checkpoints.read(tmp_path)[3] == 8
    assert continued(corpus, tmp_path, num_steps=9, **before).code == 0


def files(workdir):
    """Of the newest checkpoint, and the config."""
    return [workdir / "config.json", *sorted(p for p in (workdir / "checkpoints" / "8").rglob("*") if p.is_file())]


def test_a_truncated_file_is_refused_for_reading_or_not_needed(run, copy):
    """Each file in turn, cut in half and to nothing: one line, or the same weights as before."""
    whole = checkpoints.read(run, 8)[2]
    refused = 0
    for file in files(copy):
        content = file.read_bytes()
        for length in {0, len(content) // 2}:
            file.write_bytes(content[:length])
            try_reading = refusal(copy)
            if isinstance(try_reading, str):
                refused += 1
                assert "\n" not in try_reading
                assert try_reading.startswith(str(copy)), (file, try_reading)
            else:
                jax.tree.map(np.testing.assert_array_equal, try_reading, whole)
        file.write_bytes(content)
    assert refused >= 6


def refusal(workdir):
    """The weights, or the message with which they are refused."""
    try:
        return checkpoints.read(workdir, 8)[2]
    except UserError as error:
        return str(error)


def test_training_does_not_continue_from_a_truncated_file_nor_lose_the_others(corpus, copy):
    """Each file in turn as it is read, one as the program says it."""

    def contents():
        return {path: path.read_bytes() for path in (copy / "checkpoints").rglob("*") if path.is_file()}

    read, refused = chaos.reader(copy, 8), []
    whole = read()
    for file in files(copy):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        before = contents()
        end = chaos.attempt(read, whole, copy)
        assert end in ("refused", "equal"), file
        refused += [file] * (end == "refused")
        assert contents() == before
        file.write_bytes(content)
    assert len(refused) >= 6
    data = max(refused, key=lambda path: path.stat().st_size)
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    before = contents()
    is_one_line(continued(corpus, copy), 1, f"{copy}/checkpoints/8: the checkpoint is damaged", "delete it to")
    assert contents() == before


def test_no_flipped_bit_changes_what_is_read(copy):
    """Single random bits of config.json and of each file of a checkpoint, read to sample from and to train on."""
    ends = chaos.checkpoint_bits(copy, 8, 30, np.random.default_rng(0))
    assert ends["refused"] > 10
    assert ends.keys() <= {"refused", "equal"}


def test_where_one_checkpoint_is_damaged_the_others_are_offered(tmp_path):
    """Its array is named; another is read by its step, even if orbax's own file is what is damaged."""
    kept = checkpoints.Checkpoints(tmp_path, small.config("data"), MEL)
    for step, nats in [(1, 2.0), (2, 1.0)]:
        kept.save(step, params(step), params(-step), nats)
    kept.close()
    configs.write(tmp_path, small.config("data"), MEL)
    folder = tmp_path / "checkpoints" / "1"
    data = max((folder / "params").rglob("d/*"), key=lambda path: path.stat().st_size)
    for damaged in (data, folder / "_CHECKPOINT_METADATA"):
        content = damaged.read_bytes()
        damaged.write_bytes(content[: len(content) // 2] + b"?" + content[len(content) // 2 + 1 :])
        with pytest.raises(UserError, match=f"{folder}.*(--step=2|restore it)"):
            checkpoints.read(tmp_path)
        assert checkpoints.read(tmp_path, 2).params["a"][0] == 2
        damaged.write_bytes(content)
    assert checkpoints.read(tmp_path).step == 1


def test_damaged_lines_of_the_journal_are_kept_aside(copy, corpus):
    """Training goes on; a whole line keeps its place, also the newest, and an incomplete one is written again."""
    file = copy / "metrics.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    damaged = [
        b'{"what": "train", "ste\xff\n',
        b"[1]\n",
        b'{"what": "train", "step": 1}\n',
        b"\r\n",
        lines[0][:20] + b"\n",
    ]
    damaged += [b"[" * 100_000 + b"\n", lines[0].replace(b'"step": 1,', b'"step": "1",')]
    file.write_bytes(b"".join(damaged[:3] + lines[:2] + damaged[3:] + lines[2:]) + lines[-1][:30])
    result = continued(corpus, copy, num_steps=9)
    assert (result.code, result.err) == (0, ""), result
    aside = copy / "damaged.jsonl"
    assert f"{file}: {len(damaged)} damaged lines, moved to {aside}; the other {len(lines)} are kept" in result.out
    assert aside.read_bytes() == b"".join(damaged)
    assert file.read_bytes().splitlines(keepends=True)[: len(lines)] == lines


def test_a_time_limit_saves_and_stops(corpus, tmp_path):
    """Exit code 4, for a batch queue to start it again."""
    workdir = tmp_path / "run"
    result = continued(corpus, workdir, num_steps=1000, save_every=1000, eval_every=1000, max_seconds=1)
    assert (result.code, result.err) == (4, "")
    assert "stopped by config.max_seconds=1; saved step 1; run the same command again to go on" in result.out
    result = continued(corpus, workdir, num_steps=2, max_seconds=600)
    assert result.code == 0
    assert "continuing from the checkpoint of step 1" in result.out


def test_a_full_disk_stops_the_run_and_keeps_the_last_checkpoint(corpus, disk_of):
    disk = disk_of("6m")
    (disk / "big").write_bytes(bytes(3_900_000))
    workdir = disk / "run"
    result = continued(corpus, workdir, save_every=1, eval_every=100)
    is_one_line(result, 1, f"{workdir}/checkpoints: no room for the checkpoint of step", "free some space")
    left = [int(path.name) for path in (workdir / "checkpoints").iterdir()]
    assert len(left) <= 1
    (disk / "big").unlink()
    again = continued(corpus, workdir, save_every=1, eval_every=100)
    assert again.code == 0, again
    assert not left or f"continuing from the checkpoint of step {left[0]}" in again.out
