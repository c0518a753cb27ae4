"""A process killed at any moment loses nothing; `tests/slow/test_crashes.py` is the long form."""

import pytest

from tests.crashes import (
    SWEEPS,
    Crashes,
    kill_at_every_step,
    kill_cache_building,
    kill_evaluation,
    kill_training,
)
from tests.small import REGULARIZERS


@pytest.fixture(scope="module")
def crashes(tmp_path_factory):
    with Crashes(tmp_path_factory.mktemp("crashes"), seed=1) as crashes:
        yield crashes


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_a_killed_training_goes_on_to_the_bit(regularizer, crashes):
    kill_training(crashes, regularizer, kills=1)


def test_killed_cache_building_leaves_no_half_cache(crashes):
    kill_cache_building(crashes, kills=2)


def test_a_killed_evaluation_measures_the_same(crashes):
    kill_evaluation(crashes, kills=2)


@pytest.mark.parametrize("name", [name for name in SWEEPS if "train" in name])
def test_a_command_killed_between_two_files_is_completed_by_the_next(name, crashes):
    kill_at_every_step(crashes, name, every=25)
