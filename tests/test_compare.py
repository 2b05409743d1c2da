"""fwn.compare: figures are correct, the paper's are marked, studies are found from the configs."""

import json
import shutil

import jax
import numpy as np
import pytest
import small

import fwn
from experiments import tiny, tiny_wavenet
from fwn.data.corpus import Corpus
from fwn.evaluation import ablations, measure, report, report_plots
from fwn.evaluation.metrics import METRICS
from fwn.evaluation.published import MEASURED, PAPER
from fwn.flows.densities import LSB
from fwn.mel import PRESETS
from fwn.systems import build
from fwn.training import checkpoints, journal

WAVENET = {"n_stack": 1, "n_layer": 2, "channels": 4, "gate_channels": 4, "skip_channels": 4, "front_kernel": 2}


@pytest.fixture(scope="module")
def wavenet(corpus, tmp_path_factory):
    """A workdir as written by fwn.convert: a minuscule autoregressive WaveNet without a training journal."""
    workdir, config, mel = tmp_path_factory.mktemp("wavenet") / "slow", tiny_wavenet.get_config(), PRESETS["flowavenet"]
    config.model.update(WAVENET)
    batch = {"audio": np.zeros((1, small.HOP), np.float32), "mel": np.zeros((1, 1, mel.n_mels), np.float32)}
    params = jax.jit(lambda: build(config).init(jax.random.key(0), batch, {}))()
    checkpoints.write(workdir, config, mel, params, 5)
    return workdir


@pytest.fixture(scope="module")
def compared(run, wavenet, corpus, tmp_path_factory):
    """(output folder, stdout, comparison.json) of the two models."""
    output = tmp_path_factory.mktemp("compared") / "results"
    flags = [f"--ckpts={run},{wavenet}", f"--data={corpus}", f"--output={output}", "--speed_seconds=0.5"]
    untrained = output.parent / "small.py"
    untrained.write_text(
        f"from experiments import tiny_wavenet\ndef get_config():\n    c = tiny_wavenet.get_config()\n"
        f"    c.model.update({WAVENET})\n    return c\n"
    )
    result = small.program(
        "fwn.compare", *flags, "--temperature=0.8", "--temperature=0", "--batch_size=2", f"--untrained={untrained}"
    )
    assert (result.code, result.err) == (0, "")
    return output, result.out, json.loads((output / "comparison.json").read_text())


def test_the_files_hold_the_printed_tables(compared):
    output, printed, _ = compared
    pictures = {"speed.png", "temperature.png"}
    assert {p.name for p in output.iterdir()} == {"comparison.txt", "comparison.md", "comparison.json"} | pictures
    assert (output / "comparison.txt").read_text() in printed
    assert all(f"({picture})" in (output / "comparison.md").read_text() for picture in pictures)


def test_figures_are_the_vocoders(compared, run, wavenet, corpus):
    """Both are scored on recordings with the same dequantisation noise, at any batch size and padding."""
    _, _, found = compared
    prepared, rng = Corpus(corpus), np.random.default_rng(0)
    spoken = [(prepared.audio(i), prepared.mel(i)) for i in prepared.split("test")]
    noisy = [audio + LSB * rng.uniform(-0.5, 0.5, audio.shape).astype(np.float32) for audio, _ in spoken]
    for name, workdir in (("run", run), ("slow", wavenet)):
        vocoder, figures = fwn.load(workdir), found["systems"][name]
        nats = [vocoder.log_likelihood(a, mel) for a, (_, mel) in zip(noisy, spoken, strict=True)]
        assert figures["nats_per_sample"]["mean"] == pytest.approx(np.mean(nats), abs=1e-4)
        assert figures["parameters"] == vocoder.n_params
        assert figures["step"] == vocoder.step
        assert set(figures["copies"]) == {"0.8", "0.0"}
        for speed, batch in (("speed_of_one", 1), ("speed_of_batch", 2)):
            assert figures[speed]["batch"] == batch
            assert figures[speed]["real_time"] == pytest.approx(figures[speed]["samples_per_second"] / 22050)
    assert found["systems"]["run"]["training"]["steps"] == 8
    assert found["systems"]["run"]["training"]["seconds"] == journal.read(run)[-2]["training_seconds"] > 0
    assert found["systems"]["slow"]["training"] is None
    small_one = found["untrained"]["small"]
    assert small_one["parameters"] == found["systems"]["slow"]["parameters"]
    assert small_one["training"] is small_one["nats_per_sample"] is None


def test_the_papers_figures_are_marked(compared):
    _, printed, _ = compared
    for line in printed.splitlines():
        if any(line.endswith(f" {p.mos:.2f}") for p in PAPER if p.mos) or "4.5457" in line or "420,000" in line:
            assert line.startswith("paper: ")
        assert " 3.40  0.967" not in line or line.startswith("authors' samples: Gaussian WaveNet")
    assert printed.count("paper: FloWaveNet (T = 0.8)") == 3  # likelihood, and speeds of trained and untrained models
    assert all(len(p.samples) in (0, len(MEASURED)) for p in PAPER)


def test_studies_that_are_left_out_are_reported(compared):
    printed = " ".join(compared[1].split())
    for words in ("Causality: left out", "Multi-scale split: left out", "Distillation losses: left out"):
        assert words in printed
    for words in ("2 held-out utterances", "same uniform dequantisation noise", "the median of ", "95%"):
        assert words in printed


@pytest.fixture(scope="module")
def models(compared):
    """Configs by name, which together make up every study."""
    base, causal, whole, wider, student = (tiny.get_config() for _ in range(5))
    causal.model.causal = True
    whole.model.block_per_split = 4
    wider.model.update({"channels": 64, "causal": True})
    student.update({"system": "clarinet", "teacher": "runs/teacher"})
    with student.unlocked():
        student.loss = {"kl": 1.0, "frame": 0.5}
    return {"base": base, "causal": causal, "whole": whole, "wider": wider, "student": student} | {
        "slow": tiny_wavenet.get_config()
    }


def test_the_models_of_a_study_differ_in_nothing_else(models):
    found, left_out = ablations.studies(models)
    assert left_out == []
    assert [s.rows for s in found] == [
        {"base": ("not causal",), "causal": ("causal",)},
        {"base": ("every 2 of 4",), "whole": ("none",)},
        {"student": ("clarinet", "0.5", "1.0")},
    ]
    found, left_out = ablations.studies({name: models[name] for name in ("base", "wider", "slow")})
    assert found == []
    assert len(left_out) == 3


def test_speeds_are_relative_to_the_fastest_wavenet(models, tmp_path):
    def figures(name, one, batch):
        speeds = [measure.Speed(s, s / 22050, b, 1.0, 5) if s else None for s, b in ((one, 1), (batch, 8))]
        estimate = measure.estimate([1.0, 2.0], name)
        copies = {t: dict.fromkeys(METRICS, estimate) for t in (0.8, 1.0)}
        return measure.Figures(models[name], 10, 5, None, estimate, *speeds, copies)

    systems = {n: figures(n, s, b) for n, s, b in [("base", 2000, 8000), ("causal", 100, None), ("slow", 10, 40)]}
    systems["slower"] = systems["slow"]._replace(one=measure.Speed(5, 5 / 22050, 1, 1.0, 5))
    lines = {line[0]: line for line in report.speeds("", systems, 8, []).lines}
    assert [lines["base"][4], lines["base"][7], lines["slower"][4]] == ["200", "200", "0.5"]
    assert lines["causal"][5:] == ["-"] * 3
    assert "No batch was timed for causal" in " ".join(report.speeds("", systems, 8, []).notes)
    del systems["slow"], systems["slower"]
    assert {line[4] for line in report.speeds("", systems, 8, []).lines[1:]} == {"-"}
    found, _ = ablations.studies({name: f.config for name, f in systems.items()})
    assert [*report_plots.draw(tmp_path, systems, found, [0.8, 1.0]).values()] == [
        "speed.png",
        "temperature.png",
        "causality.png",
    ]
    study = report.study(found[0], systems, 0.8, None)
    assert [line[0] for line in study.lines] == [
        "",
        "base",
        "causal",
        "paper: FloWaveNet (T = 0.8)",
        "paper: FloWaveNet, causal",
    ]


def test_training_time_adds_up_over_starts(run, tmp_path):
    """Each record has the seconds so far. For records of older runs, without them, they are computed from the rate."""
    records = [r for r in journal.read(run) if r["what"] == "train"]
    seconds = [r["training_seconds"] for r in records]
    assert seconds == sorted(seconds)
    assert seconds[-1] > 0
    old = [{"what": "train", "step": 10 * i, "audio_seconds_per_second": 4.0} for i in (1, 2)]
    assert journal.training_seconds(old, 2.0) == 10.0
    assert journal.training_seconds([*old, {"what": "held_out", "step": 20}], 2.0) == 10.0
    assert journal.training_seconds([*old, {"what": "train", "step": 30, "training_seconds": 17.0}], 2.0) == 17.0
    continued = shutil.copytree(run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())["config"]
    result = small.program("fwn.train", *small.config_flags(config["data"], num_steps=10), f"--workdir={continued}")
    assert result.code == 0, result
    later = [r["training_seconds"] for r in journal.read(continued) if r["what"] == "train"]
    assert later[:8] == seconds
    assert later[7] <= later[8] < later[9]
