"""The real SVHN and CelebA, where they are: `DPVAE_DATA=... pytest -m data`."""

import os

import pytest

from dpvae_cli.data import Celeba, Svhn
from dpvae_cli.foundation.errors import DpvaeError, UsageError

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif("DPVAE_DATA" not in os.environ, reason="DPVAE_DATA is not set"),
]


def loaded(spec):
    try:
        return spec.load(download=False)
    except UsageError:
        raise
    except DpvaeError as error:
        pytest.skip(str(error))


def test_svhn_is_the_official_one_or_says_that_it_is_not():
    data = loaded(Svhn())
    counts = (len(data.train) + len(data.validation), len(data.test))
    assert (data.note is None) == (counts == (73_257, 26_032))
    assert data.train.labels.unique().tolist() == list(range(10))
    # house numbers begin with a 1 more often than with any other digit
    assert data.train.labels.bincount().argmax() == 1


def test_celeba_is_the_official_one_or_says_that_it_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("DPVAE_CACHE", str(tmp_path))
    try:
        data = loaded(Celeba(size=8))
    except UsageError:  # images of half the size
        data = loaded(Celeba(size=8, crop=74))
    counts = [len(split) for split in (data.train, data.validation, data.test)]
    assert (data.note is None) == (counts == [162_770, 19_867, 19_962])
    assert data.train.labels is None or data.train.labels.shape == (counts[0], 40)
    red, _, blue = data.train.examples(slice(0, 500)).mean(dim=(0, 2, 3))
    assert red > blue, "faces are warm"
