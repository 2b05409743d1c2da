"""Damaged and odd files, a few of each kind: nothing hangs, takes memory or ends in a traceback (tests/fuzz.py)."""

import fuzz
import generated
import numpy as np
import pytest

from fwn.audio import audio_file


@pytest.fixture(scope="module")
def attacks(tmp_path_factory, corpus, run):
    return fuzz.attacks(tmp_path_factory.mktemp("fuzz"), corpus, run)


def test_damaged_files_are_read_or_refused_in_one_line(attacks, capfd):
    """And no library prints anything."""
    seed = int(np.random.default_rng().integers(2**32))
    found = fuzz.run(attacks, 20, np.random.default_rng(seed))
    faults = {name: ends for name, ends in found.items() if not ends.keys() <= {"read", "refused"}}
    assert not faults, f"seed {seed}: {faults}"
    refused = sum(ends["refused"] for ends in found.values())
    assert refused > 400
    assert capfd.readouterr().err == ""


def test_every_valid_recording_is_read(tmp_path):
    """Over 300 files: every format and width of libsndfile, 8 to 192 kHz, one, two or six channels."""
    made = fuzz.odd_recordings(tmp_path, np.random.default_rng(0))
    assert len(made) > 300
    for file in made:
        audio, _ = audio_file.read(file, 22050)
        assert 20_000 < len(audio) < 24_000, file
        assert 0.1 < np.abs(audio).max() < 0.6, file


def test_folders_of_good_and_bad_files_are_read_file_by_file(run, tmp_path):
    """One run of each program: what is good is made, what is bad is named, a line each."""
    made = generated.folder(tmp_path / "in", 36, np.random.default_rng(0))
    ends = generated.prepared(made, tmp_path / "out")
    assert ends.keys() == {"used", "left out, with the reason"}, ends
    ends = generated.sampled(made, run, tmp_path / "said")
    assert ends.keys() == {"sampled", "left out, with the reason"}, ends
