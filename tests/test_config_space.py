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


SMALLEST = {"system": "flowavenet", "frames": 2, "batch_size": 4, "model.prediction.order": 0} | {
    f"model.{name}": 1 for name in ("n_block", "n_flow", "n_layer", "block_per_split", "prior_layer")
}
SMALLEST |= {f"model.{name}": 4 for name in ("channels", "prior_channels", "conditioner_channels")}


def test_drawn_configs_are_refused_or_work(tmp_path):
    """The smallest, which trains, and the same six in every run."""
    ends = []

    @hypothesis.settings(
        max_examples=6,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.example(SMALLEST)
    @hypothesis.given(config_space.drawn())
    def draw(fields):
        ends.append(config_space.end_of(fields, tmp_path / "run"))

    draw()
    assert ends[0] == "trained"
    assert set(ends) <= {"refused", "trained"}, ends
