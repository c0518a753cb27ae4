"""Settings of the tests in this folder."""

import pytest

from tests import cases


@pytest.fixture(scope="module", autouse=True)
def few_proposals():
    """Compute normalisers of priors in short."""
    with cases.few_proposals():
        yield
