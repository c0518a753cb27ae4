"""Many processes killed at random moments; `-s` or `-rP` shows how many survived."""

import pytest

from tests.crashes import (
    SWEEPS,
    Crashes,
    kill_at_every_step,
    kill_cache_building,
    kill_evaluation,
    kill_training,
    kills_wanted,
    seed_wanted,
)
from tests.small import REGULARIZERS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]


@pytest.fixture
def crashes(tmp_path):
    with Crashes(tmp_path, seed=seed_wanted()) as crashes:
        yield crashes


def survived(what, crashes):
    """Say how many kills a part survived."""
    print(f"{what}: {crashes.kills} kills survived (seed {seed_wanted()})")  # noqa: T201
    assert crashes.kills >= kills_wanted()


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_training(regularizer, crashes):
    kill_training(crashes, regularizer, kills=kills_wanted())
    survived(f"training {regularizer}", crashes)


def test_cache_building(crashes):
    kill_cache_building(crashes, kills=kills_wanted())
    survived("cache building", crashes)


def test_evaluation(crashes):
    kill_evaluation(crashes, kills=kills_wanted())
    survived("evaluation", crashes)


@pytest.mark.parametrize("name", SWEEPS)
def test_every_step(name, crashes):
    steps = kill_at_every_step(crashes, name)
    print(f"{name}: {crashes.kills} kills survived, one before each of {steps} steps")  # noqa: T201
    assert crashes.kills == steps
