"""A config is refused by the name of its field, or it builds, trains, inverts and is kept (config_space.py)."""

import config_space
import hypothesis
import pytest

FOUND = [  # each was a traceback, or was accepted and could not be trained
    {"system": "flowavenet", "seed": 1.5},
    {"system": "flowavenet", "model.n_block": 2**40},
    {"system": "flowavenet", "model.prediction": 7},
    {"system": "flowavenet", "model.causal": None},
    {"system": "flowavenet", "model.upsample_strides": 256},
    {"system": "wavenet", "model.distribution": ["gaussian"]},
    {"system": "wavenet", "optimizer": 3},
]


@pytest.mark.parametrize("fields", FOUND, ids=str)
def test_what_was_accepted_wrongly_is_refused(fields, tmp_path):
    assert config_space.end_of(fields, tmp_path / "run") == "refused"


def test_drawn_configs_are_refused_or_work(tmp_path):
    """The same dozen in every run, of which some train a step."""
    ends = []

    @hypothesis.settings(
        max_examples=12,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(config_space.drawn())
    def draw(fields):
        ends.append(config_space.end_of(fields, tmp_path / "run"))

    draw()
    assert set(ends) == {"refused", "trained"}, ends
