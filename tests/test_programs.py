"""The programs as a user runs them: --help, what they write, and every mistake as one line with nothing half done."""

import re
import shutil

import jax
import numpy as np
import pytest
import small
import soundfile

from fwn import cli
from fwn.data.corpus import Corpus
from fwn.mel import PRESETS, difference

MEL = PRESETS["flowavenet"]
PROGRAMS = [
    *(f"fwn.{name}" for name in ["train", "sample", "evaluate", "compare", "convert", "export", "bench", "doctor"]),
    "fwn.listening",
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


TRAIN = [
    (
        ["--config=experiments/tiny.py", "--config.batch_sze=3"],
        2,
        "--config: no such field: 'batch_sze'; did you mean 'batch_size'? (--help lists the flags)",
    ),
    (
        ["--config=experiments/tiny.py", "--config.model.n_blok=3"],
        2,
        "--config: no such field: 'n_blok'; did you mean 'n_block'? (--help lists the flags)",
    ),
    (
        ["--config=experiments/tiny.py", "--config.optimizer.learning_rat=3"],
        2,
        "--config: no such field: 'learning_rat'; did you mean 'learning_rate'? (--help lists the flags)",
    ),
    (
        ["--config=experiments/tiny.py", "--config.batch_size=many"],
        2,
        "flag --config.batch_size=many: invalid literal for int() with base 10: 'many' (--help lists the flags)",
    ),
    (
        ["--config=experiments/tinny.py"],
        2,
        "--config: No such file or directory: 'experiments/tinny.py' (--help lists the flags)",
    ),
    (
        ["--config=experiments/tinny.py", "--config.frames=3"],
        2,
        "--config: No such file or directory: 'experiments/tinny.py' (--help lists the flags)",
    ),
    (
        ["--config=experiments/tiny.py", "--config.system=flow"],
        1,
        "config.system is 'flow'; there are: clarinet, flowavenet, parallel_wavenet, wavenet",
    ),
    (
        ["--config=experiments/tiny.py", "--config.mel=flowavnet"],
        1,
        "config.mel: no preset is called 'flowavnet'; did you mean 'flowavenet'? "
        "(presets: flowavenet, tacotron2, hifigan)",
    ),
    (
        ["--config=experiments/tiny.py", "--config.model.upsample_strides=(4,4)"],
        1,
        "--config: model.upsample_strides=(4, 4) make 16 samples per mel frame, but the mel contract has a hop of "
        "256; give strides whose product is 256",
    ),
    (
        ["--config=experiments/tiny.py", "--config.model.n_block=9"],
        1,
        "config.model: n_block=9 squeezes time by 512, which does not divide a mel frame of 256 samples (the product "
        "of upsample_strides); lower n_block",
    ),
    (
        ["--config=experiments/tiny.py", "--config.model.conditioner=frame"],
        1,
        "config.model: conditioner is 'frame'; it is 'squeezed' or 'frames'",
    ),
    (
        ["--config=experiments/lite.py", "--config.model.channels=(64,96)"],
        1,
        "config.model: channels is (64, 96); it must be one number, or one for each of the 8 blocks",
    ),
    (
        ["--config=experiments/lite.py", "--config.model.channels=(64,0)"],
        1,
        "config.model: channels is (64, 0); it must be a whole number, at least 1, or one such number for each block, "
        "as in (64,96)",
    ),
    (
        ["--config=experiments/tiny.py", "--config.data=nowhere"],
        1,
        "nowhere: no such folder; give one made by data_prep.prepare",
    ),
    (
        ["--config=experiments/tiny.py", "more"],
        1,
        "unexpected argument 'more': all settings are flags (--help lists them)",
    ),
    (
        ["--config=experiments/tiny.py", "--init_parts=prediction"],
        1,
        "--init_parts=prediction: needs --init_from, the workdir or voice that has these parts",
    ),
    (
        ["--config=experiments/tiny.py", "--config.optimizer.kind=adamw"],
        1,
        "--config: optimizer.kind is 'adamw'; there are: adam, muon; did you mean 'adam'?",
    ),
    (
        ["--config=experiments/lj_mini.py", "--config.model.autoregression.taps=-1"],
        1,
        "config.model.autoregression: taps is -1; it must be a whole number, at least 0",
    ),
] + [
    (
        ["--config=experiments/tiny.py", f"--config.{count}=0"],
        1,
        f"--config: {count} is 0; it must be a whole number, at least 1",
    )
    for count in ("frames", "batch_size", "num_steps", "log_every", "eval_every", "eval_batches", "max_skipped")
]


@pytest.mark.parametrize(("args", "code", "message"), TRAIN)
def test_mistakes_in_training(args, code, message, tmp_path):
    result = small.program("fwn.train", f"--workdir={tmp_path / 'run'}", *args)
    assert result == small.Result(code, "", f"python -m fwn.train: {message}\n")
    assert list(tmp_path.iterdir()) == []


FIELDS = [
    ("c.model.n_blok = 3", "config.model: no such field: 'n_blok'; did you mean 'n_block'?"),
    ("c.batch_sze = 3", "--config: no such field: 'batch_sze'; did you mean 'batch_size'?"),
    (
        "c.optimizer.learning_rte = 3",
        "--config: optimizer: no such field: 'learning_rte'; did you mean 'learning_rate'?",
    ),
    ("del c.seed", "--config: missing seed; start from experiments/base.py"),
    *(
        (f"c.model.s_max = float('{s_max}')", f"config.model: s_max is {s_max}; it must be a positive number, or none")
        for s_max in ("0.0", "-1.0", "inf")
    ),
    ("c.eval_batches = 10**8", "--config: eval_batches is 100000000; it must be at most 10,000"),
    ("c.optimizer.learning_rate = 1e30", "--config: optimizer.learning_rate is 1e+30; it must be in 0 … 1"),
    ("c.optimizer.max_grad_norm = float('nan')", "--config: optimizer.max_grad_norm is nan; it must be positive"),
    ("del c.model.upsample_strides", "--config: missing model.upsample_strides; start from experiments/base.py"),
]


@pytest.mark.parametrize(("line", "message"), FIELDS)
def test_mistakes_in_a_config_file(line, message, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from experiments import tiny\n\n\ndef get_config():\n    c = tiny.get_config().unlock()\n"
        f"    {line}\n    return c\n"
    )
    result = small.program("fwn.train", f"--config={file}", f"--workdir={tmp_path / 'run'}")
    assert result == small.Result(1, "", f"python -m fwn.train: {message}\n")


@pytest.mark.parametrize("good", [0, 2])
def test_too_many_bad_steps_stop_the_run(corpus, tmp_path, good):
    """After good steps the run goes on with data of which all mels are NaN, and its checkpoint stays."""
    workdir, spoilt = tmp_path / "run", shutil.copytree(corpus, tmp_path / "spoilt")
    for file in spoilt.glob("mel-*.npy"):
        np.lib.format.open_memmap(file, mode="r+")[:] = np.nan
    if good:
        flags = small.config_flags(corpus, num_steps=good)
        assert small.program("fwn.train", *flags, f"--workdir={workdir}").code == 0
    flags = small.config_flags(spoilt, verify_data=False, eval_every=9, save_every=9, max_returns=1)
    result = small.program("fwn.train", *flags, f"--workdir={workdir}")
    batch = workdir / f"skipped-{good + 1}-process0.npz"
    remedy = "begin another run with a lower config.optimizer.learning_rate"
    what = (
        "3 steps in a row were skipped (config.max_skipped): the loss is nan and its gradient's norm nan"
        if good
        else "weights or moments were not finite"  # ActNorm began with NaN
    )
    kept = (
        "the run returned to a checkpoint 1 times before (config.max_returns=1); the checkpoint of step 2 is in place: "
        f"look at the batches in {workdir}/skipped-*.npz, or {remedy} and --init_from={workdir}"
        if good
        else f"no checkpoint was saved yet: {remedy}"
    )
    assert (result.code, result.err) == (
        1,
        f"python -m fwn.train: {workdir}: at step {5 if good else 1}, {what}; {kept}\n",
    )
    saved = np.load(batch)
    shapes = {"audio": (4, 2048), "mel": (4, 8, 80), "index": (4,), "past": (4, 12)}
    assert {name: saved[name].shape for name in saved} == shapes
    first = 20 if good else 0  # after the return the first batch is the one after those that were skipped
    assert saved["index"].tolist() == list(range(first, first + 4))
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == [str(good)] * bool(good)


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


def bad_mel(path, array):
    np.save(path, array)


HIFIGAN = np.random.default_rng(0).uniform(-11, 1, (30, 80)).astype(np.float32)
NAN = np.where(np.arange(2400).reshape(30, 80) == 0, np.nan, np.float32(0.5)).astype(np.float32)
SAMPLE = [
    ("mel", "x.npy", lambda path: None, "{path}: no such file"),
    ("wav", "x.wav", lambda path: None, "{path}: no such file"),
    ("mel", "none*.npy", lambda path: None, "--mel={path}: no such file"),
    (
        "wav",
        "x.wav",
        lambda path: path.write_text("hello"),
        "{path}: not an audio file that libsndfile can read (Format not recognised)",
    ),
    (
        "mel",
        "x.npy",
        lambda path: path.write_text("hello there"),
        "{path}: not a .npy array (the magic string is not correct; expected b'\\x93NUMPY', got b'hello '); "
        "write it with numpy.save",
    ),
    (
        "mel",
        "x.npy",
        lambda path: path.write_bytes(b"PK\x03\x04 is no archive"),
        "{path}: not a .npy array (the magic string is not correct; expected b'\\x93NUMPY', got b'PK\\x03\\x04 i'); "
        "write it with numpy.save",
    ),
    (
        "mel",
        "x.npy",
        lambda path: bad_mel(path, np.zeros((30, 100), np.float32)),
        "{path}: the mel has the shape [30, 100], but flowavenet ({hash}) has 80 bands",
    ),
    (
        "mel",
        "x.npy",
        lambda path: bad_mel(path, NAN),
        "{path}: 1 of 2400 values are NaN or infinite, the first in frame 0, band 0",
    ),
    (
        "mel",
        "x.npy",
        lambda path: bad_mel(path, HIFIGAN),
        "{path}: values -11 … 0.9947 are not a mel of flowavenet ({hash}), whose values are within 0 … 1; it looks "
        "like tacotron2 or hifigan. Compute the mel with the convention of the model, flowavenet\n"
        + difference(MEL, PRESETS["tacotron2"]),
    ),
]


@pytest.mark.parametrize(("flag", "name", "make", "message"), SAMPLE)
def test_mistakes_in_sampling_leave_nothing(run, tmp_path, flag, name, make, message):
    path = tmp_path / name
    make(path)
    before = sorted(tmp_path.iterdir())
    result = sample(run, f"--{flag}={path}", f"--output={tmp_path / 'out'}")
    expected = message.format(path=path, hash=MEL.hash())
    assert (result.code, result.err) == (1, f"python -m fwn.sample: {expected}\n")
    assert sorted(tmp_path.iterdir()) == before


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


def test_other_mistakes_in_sampling(run, mels, tmp_path):
    (tmp_path / "file").write_text("x")
    mel = f"--mel={mels}/a.npy"
    for args, code, message in [
        ([mel, "--temperature=-1", "--output=x"], 2, "--temperature=-1: -1.0 is not a non-negative number"),
        ([f"--output={tmp_path / 'x'}"], 1, "nothing to sample: give --mel=FILE.npy or --wav=FILE"),
        ([mel, f"--output={tmp_path / 'file'}"], 1, f"{tmp_path / 'file'}"),
        ([mel, f"--output={tmp_path / 'file' / 'x'}"], 1, f"{tmp_path / 'file' / 'x'}"),
        ([mel, "--step=5", f"--output={tmp_path / 'x'}"], 1, f"{run}: no checkpoint of step 5; there are: "),
        ([mel, "--mel_contract=hifigan", f"--output={tmp_path / 'x'}"], 1, "was trained on mels of"),
    ]:
        result = sample(run, *args)
        assert result.code == code, result
        assert message in result.err
        assert result.err.startswith("python -m fwn.sample: ")
    result = small.program("fwn.sample", f"--ckpt={tmp_path / 'no'}", mel, f"--output={tmp_path / 'x'}")
    assert result == small.Result(
        1,
        "",
        f"python -m fwn.sample: {tmp_path / 'no'}: no such folder; give a workdir of fwn.train or an output folder of "
        "fwn.convert\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_data_set_of_another_contract_is_refused(run, corpus, tmp_path):
    from data_prep.prepare import Kind, prepare

    small.record(tmp_path / "in", [9000, 9000])
    prepare("folder", tmp_path / "in", tmp_path / "data", Kind(PRESETS["hifigan"], "int16", "float32"), 0.5, None, 1)
    both = (
        f"flowavenet ({MEL.hash()}), but {tmp_path / 'data'} was prepared with "
        f"hifigan ({PRESETS['hifigan'].hash()}); prepare it again in another folder\n"
        f"{difference(MEL, PRESETS['hifigan'])}\n"
    )
    flags = [*small.config_flags(tmp_path / "data"), f"--workdir={tmp_path / 'run'}"]
    result = small.program("fwn.train", *flags)
    assert result == small.Result(1, "", f"python -m fwn.train: config.mel has the mel contract {both}")
    result = small.program("fwn.evaluate", f"--ckpt={run}", f"--data={tmp_path / 'data'}")
    assert result == small.Result(1, "", f"python -m fwn.evaluate: {run} has the mel contract {both}")


@pytest.mark.parametrize("given", [None, "elsewhere"])
def test_compiled_programs_are_kept(given, tmp_path, monkeypatch):
    """In the user's cache folder, unless another was named; where there can be no such folder, nowhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = jax.config.values["jax_compilation_cache_dir"]
    try:
        jax.config.update("jax_compilation_cache_dir", given)
        cli.enable_compilation_cache()
        folder = str(tmp_path / "fwn" / "compiled")
        assert jax.config.values["jax_compilation_cache_dir"] == (given or folder)
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        jax.config.update("jax_compilation_cache_dir", given)
        cli.enable_compilation_cache()
        assert jax.config.values["jax_compilation_cache_dir"] == given
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
