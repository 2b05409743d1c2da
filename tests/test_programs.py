"""The programs as a user runs them: --help and what they write. What they refuse is in tests/messages/."""

import re
import shutil

import jax
import numpy as np
import pytest
import small
import soundfile
import test_layers

from fwn.data.corpus import Corpus
from fwn.xla import cache

PROGRAMS = [
    *(f"fwn.{name}" for name in test_layers.PROGRAMS.split()),
    "fwn.listening",
    "fwn.mel",
    *("data_prep.prepare", "data_prep.speak", "tools.slots"),
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_explains_every_flag(program):
    result = small.program(program, "--help")
    assert (result.code, result.err) == (0, "")
    assert f"python -m {program} " in result.out
    stem = small.ROOT / program.replace(".", "/")
    source = (stem / "__main__.py" if stem.is_dir() else stem.with_suffix(".py")).read_text()
    defined = re.findall(r'DEFINE_\w+\(\s*"(\w+)"', source)
    assert defined
    for flag in defined:
        assert re.search(rf"--(\[no\])?{flag}:\s+\S+.*", result.out), flag


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_unknown_flag_is_one_line(program):
    assert small.program(program, "--nonsense=1") == small.Result(
        2, "", f"python -m {program}: Unknown command line flag 'nonsense' (--help lists the flags)\n"
    )


def test_too_many_bad_steps_stop_the_run(corpus, tmp_path):
    """After two good steps the run goes on with data of which all mels are NaN, and its checkpoint stays."""
    workdir, spoilt = tmp_path / "run", shutil.copytree(corpus, tmp_path / "spoilt")
    for file in spoilt.glob("mel-*.npy"):
        np.lib.format.open_memmap(file, mode="r+")[:] = np.nan
    flags = small.config_flags(corpus, num_steps=2)
    assert small.program("fwn.train", *flags, f"--workdir={workdir}").code == 0
    flags = small.config_flags(spoilt, verify_data=False, eval_every=9, save_every=9, max_returns=1)
    result = small.program("fwn.train", *flags, f"--workdir={workdir}")
    batch = workdir / "skipped-3-batch5-process0.npz"
    assert (result.code, result.err) == (
        1,
        f"python -m fwn.train: {workdir}: at step 5, 3 steps in a row were skipped (config.max_skipped): the loss is "
        "nan and its gradient's norm nan; the run returned to a checkpoint 1 times before (config.max_returns=1); the "
        f"checkpoint of step 2 is in place: look at the batches in {workdir}/skipped-*.npz, or begin another run with "
        f"a lower config.optimizer.learning_rate and --init_from={workdir}\n",
    )
    saved = np.load(batch)
    shapes = {"audio": (4, 2048), "mel": (4, 8, 80), "index": (4,), "past": (4, 12)}
    assert {name: saved[name].shape for name in saved} == shapes
    assert saved["index"].tolist() == list(range(20, 24))  # the first after the return
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["2"]


@pytest.fixture(scope="module")
def mels(corpus, tmp_path_factory):
    """Mels of the two held-out utterances, frames first and bands first."""
    folder, prepared = tmp_path_factory.mktemp("mels"), Corpus(corpus)
    np.save(folder / "a.npy", prepared.mel(8))
    np.save(folder / "b.npy", prepared.mel(9).T)
    return folder


def sample(run, *args):
    return small.program("fwn.sample", f"--ckpt={run}", *args)


def test_sampling_from_mels_writes_whole_frames(run, mels, corpus, tmp_path):
    output = tmp_path / "out"
    result = sample(run, f"--mel={mels}/*.npy", f"--output={output}", "--plot")
    assert (result.code, result.err) == (0, "")
    assert sorted(path.name for path in output.iterdir()) == ["a.png", "a.wav", "b.png", "b.wav"]
    prepared = Corpus(corpus)
    for i, name in ((8, "a"), (9, "b")):
        info = soundfile.info(output / f"{name}.wav")
        assert (info.frames, info.samplerate, info.subtype) == (prepared.utterances[i].frames * 256, 22050, "PCM_16")
    assert re.search(
        r"2 file\(s\), 0\.8\d s of audio: [\d.]+ × real time; [\d.]+ × including [\d.]+ s of comp", result.out
    )


def test_sampling_does_not_depend_on_batches_and_says_what_saturated(run, mels, tmp_path):
    for name, args in (("one", []), ("three", ["--batch_size=3"]), ("loud", ["--temperature=50"])):
        result = sample(run, f"--mel={mels}/a.npy", f"--mel={mels}/b.npy", f"--output={tmp_path / name}", *args)
        assert result.code == 0, result
    assert re.search(r"a\.wav: \d+ of \d+ samples beyond full scale were saturated", result.out)
    assert soundfile.read(tmp_path / "loud" / "a.wav", dtype="int16")[0].max() == 32767
    for name in ("a.wav", "b.wav"):
        one, three = (soundfile.read(tmp_path / n / name, dtype="int16")[0].astype(int) for n in ("one", "three"))
        assert abs(one - three).max() <= 1


def test_sampling_does_not_depend_on_chunks(run, mels, tmp_path):
    for name, chunk in (("whole", 0), ("chunks", 1)):
        result = sample(run, f"--mel={mels}/a.npy", f"--output={tmp_path / name}", f"--chunk={chunk}")
        assert result.code == 0, result
        assert (
            "--chunk=1: each chunk is computed with 8 frames of context, which takes 9.0 times" in result.out
        ) == chunk
    whole, chunks = (soundfile.read(tmp_path / n / "a.wav", dtype="int16")[0].astype(int) for n in ("whole", "chunks"))
    assert abs(whole - chunks).max() <= 1


def test_copy_synthesis_of_recordings(run, tmp_path):
    soundfile.write(tmp_path / "a.flac", np.stack([small.speech(3, 20000)] * 2, 1), 48000)
    result = sample(run, f"--wav={tmp_path / 'a.flac'}", f"--output={tmp_path / 'out'}")
    assert result.code == 0, result
    assert f"{tmp_path / 'a.flac'}: mixed 2 channels down, resampled 48000 -> 22050 Hz\n" in result.out
    assert soundfile.info(tmp_path / "out" / "a.wav").frames % 256 == 0


def test_bad_files_are_left_out_by_name_and_the_others_are_as_they_were(run, mels, tmp_path):
    """The noise of a file depends on its place among the files that were given."""
    damaged = {
        "a0": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (90000000000, 80)}".ljust(127)
        + b"\n",
        "a1": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (((((, )".ljust(127) + b"\n",
        "a2": (mels / "a.npy").read_bytes()[:-1],
        "a3": (mels / "a.npy").read_bytes() + b"\0",
    }
    files = [mels / "a.npy", *(tmp_path / f"{name}.npy" for name in damaged), mels / "b.npy", tmp_path / "missing.npy"]
    for name, content in damaged.items():
        (tmp_path / f"{name}.npy").write_bytes(content)
    given = [f"--mel={file}" for file in files]
    result = sample(run, *given, f"--output={tmp_path / 'out'}")
    assert (result.code, result.err) == (3, ""), result
    for file in files:
        assert (f"left out {file}: " in result.out) == (file.parent == tmp_path), file
    assert "90000000000, 80], 28800000000000 bytes, and 0 bytes follow" in result.out
    made = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert made.keys() == {"a.wav", "b.wav"}
    for name in damaged:
        np.save(tmp_path / f"{name}.npy", np.load(mels / "a.npy"))
    np.save(tmp_path / "missing.npy", np.load(mels / "b.npy"))
    assert sample(run, *given, f"--output={tmp_path / 'all'}").code == 0
    assert {name: (tmp_path / "all" / name).read_bytes() for name in made} == made
    refused = sample(run, *[f"--mel={tmp_path}/none{i}.npy" for i in range(2)], f"--output={tmp_path / 'none'}")
    assert (refused.code, refused.err.count("no such file")) == (1, 2)


def test_control_characters_in_names_do_not_reach_the_terminal(run, mels, tmp_path):
    file = tmp_path / "a\x1b[31m\x07\udcff.npy"
    file.write_bytes((mels / "a.npy").read_bytes())
    result = sample(run, f"--mel={tmp_path}", f"--output={tmp_path / 'out'}")
    assert result.code == 0
    assert "a\\x1b[31m\\x07\\udcff.wav" in result.out
    file.write_text("x")
    result = sample(run, f"--mel={tmp_path}", f"--output={tmp_path / 'out'}")
    assert "a\\x1b[31m\\x07\\udcff.npy: not a .npy array" in result.err


@pytest.mark.parametrize("given", [None, "elsewhere"])
def test_compiled_programs_are_kept(given, tmp_path, monkeypatch):
    """In the user's cache folder, unless another was named; where there can be no such folder, nowhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = jax.config.values["jax_compilation_cache_dir"]
    try:
        jax.config.update("jax_compilation_cache_dir", given)
        cache.enable()
        folder = str(tmp_path / "fwn" / "compiled")
        assert jax.config.values["jax_compilation_cache_dir"] == (given or folder)
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        jax.config.update("jax_compilation_cache_dir", given)
        cache.enable()
        assert jax.config.values["jax_compilation_cache_dir"] == given
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
