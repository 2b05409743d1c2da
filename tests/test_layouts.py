"""Corpora as they are published: names, transcripts, speakers, and a held-out tenth of each speaker."""

import json

import pytest
import small
from layouts_small import corpus

from data_prep.contents import test_indices as held_out
from data_prep.layouts import LAYOUTS, Options, find
from fwn.data.corpus import Corpus
from fwn.errors import UserError

CASES = {  # layout: (options, recordings, texts, [(name, speaker, text)])
    "ljspeech": (
        Options(column=4),
        ["wavs/a1.wav", "wavs/b1.wav"],
        {"metadata.csv": "a1|One.|One.|ann\nb1|Two.|Two.|bob\n"},
        [("a1", "ann", "One."), ("b1", "bob", "Two.")],
    ),
    "folder": (
        Options(folders=True),
        ["bob/x/1.wav", "ann/1.wav"],
        {},
        [("ann/1", "ann", ""), ("bob/x/1", "bob", "")],
    ),
    "vctk": (
        Options(),
        [
            f"wav48_silence_trimmed/{name}.flac"
            for name in ("p225/p225_001_mic1", "p225/p225_001_mic2", "p315/p315_002_mic1", "p315/p315_002_mic2")
        ],
        {"txt/p225/p225_001.txt": "Please call Stella.\n"},  # VCTK has no transcripts of p315
        [("p225_001", "p225", "Please call Stella."), ("p315_002", "p315", "")],
    ),
    "libritts": (
        Options(),
        ["train-clean-100/103/1240/103_1240_000000_000001.wav", "dev-clean/84/121123/84_121123_000007_000001.wav"],
        {
            "train-clean-100/103/1240/103_1240_000000_000001.normalized.txt": "Chapter one.",
            "train-clean-100/103/1240/103_1240_000000_000001.original.txt": "CHAPTER I.",
            "dev-clean/84/121123/84_121123_000007_000001.normalized.txt": "But with full\nravishment",
        },
        [
            ("84_121123_000007_000001", "84", "But with full ravishment"),
            ("103_1240_000000_000001", "103", "Chapter one."),
        ],
    ),
    "arctic": (
        Options(),
        ["cmu_us_slt_arctic/wav/arctic_a0001.wav", "cmu_us_bdl_arctic-0.95-release/wav/arctic_a0001.wav"],
        {"cmu_us_slt_arctic/etc/txt.done.data": '( arctic_a0001 "Author of the danger trail." )\n'},
        [("bdl/arctic_a0001", "bdl", ""), ("slt/arctic_a0001", "slt", "Author of the danger trail.")],
    ),
    "jsut": (
        Options(),
        ["basic5000/wav/BASIC5000_0001.wav", "travel1000/wav/TRAVEL1000_0001.wav"],
        {"basic5000/transcript_utf8.txt": "BASIC5000_0001:水をマレーシアから買わなくてはならないのです。\n"},
        [
            ("BASIC5000_0001", "", "水をマレーシアから買わなくてはならないのです。"),
            ("TRAVEL1000_0001", "", ""),
        ],
    ),
    "csmsc": (
        Options(),
        ["Wave/000001.wav", "Wave/000002.wav"],
        {"ProsodyLabeling/000001-010000.txt": "000001\t卡尔普#2陪外孙#1玩滑梯#4。\n\tka2 er2 pu3\n"},
        [("000001", "", "卡尔普陪外孙玩滑梯。"), ("000002", "", "")],
    ),
}


def test_every_layout_has_a_case():
    assert CASES.keys() == LAYOUTS.keys()


@pytest.mark.parametrize("layout", CASES)
def test_names_speakers_and_transcripts(tmp_path, layout):
    options, recordings, texts, expected = CASES[layout]
    found, missing = find(layout, corpus(tmp_path, recordings, texts), options)
    assert missing == []
    assert [(r.name, r.speaker, r.text) for r in found] == expected
    assert all((tmp_path / r.source).is_file() for r in found)


def test_a_folder_of_one_arctic_voice(tmp_path):
    corpus(tmp_path / "cmu_us_bdl_arctic", ["wav/arctic_a0001.wav"], {})
    (one,), _ = find("arctic", tmp_path / "cmu_us_bdl_arctic")
    assert (one.name, one.speaker, one.source) == ("bdl/arctic_a0001", "bdl", "wav/arctic_a0001.wav")


def test_a_tenth_of_each_speaker_is_held_out(tmp_path):
    """Of the last speaker too, who would be all of the last tenth of a list."""
    counts = {"ann": 25, "bob": 11, "cy": 2, "di": 1}
    names = [f"{speaker}/{i:02d}.wav" for speaker, n in counts.items() for i in range(n)]
    given = f"--input={corpus(tmp_path / 'in', names, {})}", f"--output={tmp_path / 'out'}", "--workers=1"
    result = small.program("data_prep.prepare", "--corpus=folder", "--speaker_folders", *given)
    assert result.code == 0, result.err
    assert "39 utterances of 4 speakers" in result.out
    data = Corpus(tmp_path / "out")
    assert data.speakers == ["ann", "bob", "cy", "di"]
    assert [data.utterances[i].name for i in data.split("test")] == ["ann/23", "ann/24", "bob/10", "cy/01"]


def test_a_seed_draws_of_each_speaker():
    utterances = [{"name": f"{s}{i}", "speaker": s} for s in "abc" for i in range(20)]
    drawn = [held_out(utterances, 0.1, seed) for seed in (1, 2)]
    assert drawn[0] != drawn[1]
    for chosen in drawn:
        assert [utterances[i]["speaker"] for i in chosen] == ["a", "a", "b", "b", "c", "c"]
    more = [*utterances, {"name": "a20", "speaker": "a"}]
    assert len(set(held_out(more, 0.1, 1)) & set(drawn[0])) >= 5


def test_a_corrected_speaker_leaves_the_shards(tmp_path):
    """Only the manifest changes."""
    folder = corpus(tmp_path / "in", ["wavs/a.wav", "wavs/b.wav"], {"metadata.csv": "a|A.|ann\nb|B.|bob\n"})
    given = f"--input={folder}", f"--output={tmp_path / 'out'}", "--workers=1", "--speaker_column=3"
    assert small.program("data_prep.prepare", "--corpus=ljspeech", *given).code == 0
    shards = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("*.npy")}
    (folder / "metadata.csv").write_text("a|A.|ann\nb|B.|ann\n")
    assert small.program("data_prep.prepare", "--corpus=ljspeech", *given).code == 0
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("*.npy")} == shards
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [utterance["speaker"] for utterance in manifest["utterances"]] == ["ann", "ann"]


def test_a_row_without_a_speaker_is_refused(tmp_path):
    corpus(tmp_path, ["wavs/a.wav", "wavs/b.wav"], {"metadata.csv": "a|A.|ann\nb|B.\n"})
    with pytest.raises(UserError, match=r"row 2 \('b'\) has no speaker in column 3"):
        find("ljspeech", tmp_path, Options(column=3))
