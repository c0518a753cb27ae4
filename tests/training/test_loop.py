"""What is refused before a run begins."""

import dataclasses

import pytest
import torch

from dpvae_cli.data import Split
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.runs import start
from tests.small import random_images, small_recipe

BERNOULLI = small_recipe("vae", "likelihood=bernoulli")


def zeros_but(place=None, value=1, count=1_200):
    stored = torch.zeros(count, 1, 4, 4, dtype=torch.uint8)
    if place is not None:
        stored[place, 0, 1, 2] = value
    return dataclasses.replace(random_images(1, 4, 4), train=Split(stored))


@pytest.mark.parametrize("place", [0, 499, 500, 1_000, 1_199, -1])
def test_a_misfit_is_found_wherever_it_is(place):
    with pytest.raises(UsageError, match="bernoulli needs data of 0 and 1"):
        start.check_data(BERNOULLI, zeros_but(place))
    start.check_data(BERNOULLI, zeros_but(place, 255))


def test_the_first_ten_thousand_are_looked_at():
    with pytest.raises(UsageError):
        start.check_data(BERNOULLI, zeros_but(9_999, count=10_100))
    start.check_data(BERNOULLI, zeros_but(10_000, count=10_100))


def test_few_examples_at_a_time_are_in_memory(monkeypatch):
    seen = []
    original = Split.examples

    def looking(self, index=slice(None)):
        found = original(self, index)
        seen.append(len(found))
        return found

    monkeypatch.setattr(Split, "examples", looking)
    start.check_data(BERNOULLI, zeros_but())
    assert (sum(seen), max(seen)) == (1_200, start.CHUNK_SIZE)


def test_a_batch_of_more_than_there_are_is_refused():
    recipe = small_recipe("vae", "training.batch_size=1201")
    with pytest.raises(UsageError, match="more than the 1200 training examples"):
        start.check_data(recipe, zeros_but())
