"""Settings of the tests in this folder."""

import pytest

from dpvae_cli.priors import resampled


@pytest.fixture(scope="module", autouse=True)
def few_proposals():
    """Estimate the resampled prior's normaliser from few proposals: it is always the same ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampled, "EVALUATION_PROPOSALS", 1_000)
        yield
