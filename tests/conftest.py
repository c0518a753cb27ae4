"""Settings of the whole test suite."""

import gc

import pytest
import torch

from tests import type_checks  # noqa: F401 - its name is in pyproject.toml
from tests.tiers import pytest_collection_modifyitems  # noqa: F401

torch.set_num_threads(1)
gc.disable()  # what is imported stays


def pytest_collection_finish():
    """Look for garbage from now on, but not in millions of objects that modules hold."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _same_randomness_at_every_run():
    torch.manual_seed(0)
