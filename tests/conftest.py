"""Settings of the whole test suite."""

import pytest
import torch

from tests.tiers import pytest_collection_modifyitems  # noqa: F401

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_randomness_at_every_run():
    torch.manual_seed(0)
