"""The real files, where DPVAE_DATA names a folder that has them."""

import pytest

from dpvae_cli.data import Mnist
from dpvae_cli.foundation.errors import MissingError


@pytest.mark.data
def test_the_counts_and_moments_that_are_usually_quoted():
    try:
        data = Mnist().load(download=False)
    except MissingError as error:
        pytest.skip(f"needs MNIST: {error}")
    assert (len(data.train), len(data.validation), len(data.test)) == (55_000, 5_000, 10_000)
    counts = data.test.labels.bincount().tolist()
    assert counts == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    train = data.train.stored.float() / 255
    assert float(train.mean()) == pytest.approx(0.1307, abs=5e-4)
    assert float(train.std()) == pytest.approx(0.3081, abs=5e-4)
