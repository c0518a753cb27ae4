"""scikit-learn's digits as 8-bit images."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from dpvae_cli.data import Digits

SPLITS = ("train", "validation", "test")


def test_every_digit_is_in_one_split_with_its_label():
    data, theirs = Digits().load(), load_digits()
    assert [len(data.split(split)) for split in SPLITS] == [1437, 180, 180]
    found = [
        (tuple(np.rint(image.numpy().ravel() / 255 * 16)), int(label))
        for split in SPLITS
        for image, label in zip(data.split(split).stored, data.split(split).labels, strict=True)
    ]
    wanted = [
        (tuple(row), int(label)) for row, label in zip(theirs.data, theirs.target, strict=True)
    ]
    assert sorted(found) == sorted(wanted)


def test_values_fill_eight_bits():
    data = Digits().load()
    assert data.train.stored.dtype == torch.uint8
    assert data.train.stored.unique().tolist() == [round(255 * level / 16) for level in range(17)]
    assert data.train.examples().max() == 1
    assert data.example_shape == Digits().example_shape() == (1, 8, 8)
    assert not data.eight_bit, "17 levels are no 8 bits"


def test_splits_are_mixed_and_the_same_at_every_load():
    data, again = Digits().load(), Digits().load()
    for split in SPLITS:
        assert torch.equal(data.split(split).stored, again.split(split).stored)
        assert (data.split(split).labels.bincount(minlength=10) > 0).all()
    assert not torch.equal(data.train.labels[:50], torch.from_numpy(load_digits().target[:50]))


def test_shares():
    data = Digits(validation=0.2, test=0.3).load()
    assert [len(data.split(split)) for split in SPLITS] == [1797 - 359 - 539, 359, 539]


@pytest.mark.parametrize("how", ["threshold", "static", "dynamic"])
def test_binarised_digits(how):
    data = Digits(binarize=how).load()
    for split in SPLITS:
        assert set(data.split(split).examples().unique().tolist()) == {0.0, 1.0}
    assert (data.train.binarize_from is not None) == (how == "dynamic")
