"""What scores of disentanglement are made of: closed forms, brute force, planted codes."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score
from torch.testing import assert_close

from dpvae_cli.data.sprites import factor_combinations
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.mathematics import disentanglement as scores

SIZES = (3, 4, 5)
VALUES = factor_combinations(SIZES).repeat(8, 1)
PERFECT = VALUES.double() * torch.tensor([2.0, -0.5, 10.0]) + torch.tensor([0.0, 3.0, -7.0])


def noise(latent: int = 3, seed: int = 0, count: int = len(VALUES)) -> torch.Tensor:
    return torch.randn(count, latent, generator=stream(seed, "noise"), dtype=torch.float64)


def rotated(codes: torch.Tensor) -> torch.Tensor:
    """Return standardised codes, the last two dimensions turned by 45 degrees."""
    first, a, b = ((codes - codes.mean(0)) / codes.std(0)).T
    return torch.stack([first, (a + b) / 2**0.5, (a - b) / 2**0.5], dim=1)


def information_by_brute_force(a: np.ndarray, b: np.ndarray) -> float:
    total = 0.0
    for x, y in product(np.unique(a), np.unique(b)):
        both = np.mean((a == x) & (b == y))
        if both:
            total += both * math.log(both / (np.mean(a == x) * np.mean(b == y)))
    return total


def test_mutual_information_is_that_of_brute_force():
    bins = scores.equal_width_bins(noise(), bins=6)
    found = scores.mutual_information(bins, VALUES)
    assert found.shape == (3, 3)
    for i, j in product(range(3), range(3)):
        a, b = bins[:, i].numpy(), VALUES[:, j].numpy()
        assert float(found[i, j]) == pytest.approx(information_by_brute_force(a, b), abs=1e-12)
        assert float(found[i, j]) == pytest.approx(mutual_info_score(a, b), abs=1e-12)


def test_information_of_a_factor_about_itself_is_its_entropy():
    found = scores.mutual_information(VALUES, VALUES)
    expected = torch.tensor([math.log(size) for size in SIZES], dtype=torch.float64)
    assert_close(found, torch.diag(expected), atol=1e-12, rtol=0)
    assert_close(scores.entropies(VALUES), expected)


def test_information_has_the_bias_that_its_docstring_says():
    count, bins, values = 2_000, 20, 5
    found = []
    for seed in range(40):
        code = torch.rand(count, 1, generator=stream(seed, "a"), dtype=torch.float64)
        factor = torch.randint(values, (count, 1), generator=stream(seed, "b"))
        binned = scores.equal_width_bins(code, bins=bins)
        found.append(float(scores.mutual_information(binned, factor)))
    error = np.std(found) / math.sqrt(len(found))
    assert np.mean(found) == pytest.approx((bins - 1) * (values - 1) / (2 * count), abs=4 * error)


def test_bins_have_equal_widths():
    codes = torch.tensor([[-1.0, 5.0], [0.0, 5.0], [0.99, 5.0], [1.0, 5.0], [3.0, 5.0]])
    found = scores.equal_width_bins(codes, bins=4)
    assert found.T.tolist() == [[0, 1, 1, 2, 3], [0, 0, 0, 0, 0]]


def test_mig_of_planted_codes():
    perfect = scores.mutual_information_gap(PERFECT, VALUES, bins=20)
    assert_close(perfect, torch.ones(3, dtype=torch.float64), atol=1e-12, rtol=0)
    of_noise = scores.mutual_information_gap(noise(), VALUES, bins=20).mean()
    between = scores.mutual_information_gap(rotated(PERFECT), VALUES, bins=20).mean()
    assert of_noise < 0.1 < between < 0.5
    twice = torch.cat([PERFECT, PERFECT], dim=1)  # every factor in two places
    assert float(scores.mutual_information_gap(twice, VALUES, bins=20).max()) < 1e-12


def test_mig_does_not_care_about_order_sign_and_scale_of_dimensions():
    codes = rotated(PERFECT) + 0.3 * noise()
    moved = -7 * codes[:, [2, 0, 1]] + 1
    one, other = (scores.mutual_information_gap(c, VALUES, bins=20) for c in (codes, moved))
    assert float((one - other).abs().max()) < 0.02  # bins close on the other side


def test_gap_of_one_dimension_is_its_score():
    matrix = torch.tensor([[0.2, 0.9], [0.7, 0.4], [0.1, 0.8]])
    assert_close(scores.top_two_gap(matrix), torch.tensor([0.5, 0.1]))
    assert torch.equal(scores.top_two_gap(matrix[:1]), matrix[0])


def test_squared_correlation_is_numpys():
    codes = torch.cat([noise(), torch.ones(len(VALUES), 1)], dim=1)
    found = scores.squared_correlation(codes, VALUES[:, 2].double())
    expected = [np.corrcoef(codes[:, i], VALUES[:, 2])[0, 1] ** 2 for i in range(3)]
    assert found.tolist() == pytest.approx([*expected, 0.0], abs=1e-12)
    exact = scores.squared_correlation(PERFECT, VALUES[:, 1].double())
    assert exact.tolist() == pytest.approx([0.0, 1.0, 0.0], abs=1e-12)


def test_importance_of_one_factor_each_is_disentangled_and_complete():
    one_each = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]).double()
    assert float(scores.disentanglement(one_each)) == pytest.approx(1)
    assert_close(scores.completeness(one_each), torch.ones(2).double())
    equal = torch.full((3, 2), 1 / 3).double()
    assert float(scores.disentanglement(equal)) == pytest.approx(0, abs=1e-12)
    assert_close(scores.completeness(equal), torch.zeros(2).double(), atol=1e-12, rtol=0)


def test_disentanglement_and_completeness_are_two_things():
    """A factor in two dimensions that serve no other: disentangled, incomplete; and the reverse."""
    split = torch.tensor([[0.5, 0.0], [0.5, 0.0], [0.0, 1.0]]).double()
    assert float(scores.disentanglement(split)) == pytest.approx(1)
    expected = 1 - math.log(2) / math.log(3)
    assert scores.completeness(split).tolist() == pytest.approx([expected, 1])
    shared = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).double()
    assert float(scores.disentanglement(shared)) == pytest.approx(0, abs=1e-12)
    assert scores.completeness(shared).tolist() == pytest.approx([1, 1])


def test_disentanglement_weighs_dimensions_by_their_importance():
    matrix = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.0, 0.0]]).double()
    entropy = -(0.9 * math.log2(0.9) + 0.1 * math.log2(0.1))
    assert float(scores.disentanglement(matrix)) == pytest.approx(1 - entropy)
    uneven = torch.tensor([[1.0, 0.0], [0.5, 0.5]]).double()
    assert float(scores.disentanglement(uneven)) == pytest.approx(0.5)


def test_sharing_draws_examples_with_the_same_value_and_each_of_them():
    values = torch.tensor([4, 9, 4, 4, 7, 9])
    of = torch.arange(6)
    drawn = scores.sample_with_same_value(values, of, size=600, generator=stream(0, "sharing"))
    for row, mine in zip(drawn, values, strict=True):
        same = (values == mine).nonzero()[:, 0]
        counts = torch.bincount(row, minlength=6)[same]
        assert counts.sum() == 600
        assert ((counts - 600 / len(same)).abs() < 4 * math.sqrt(600)).all()


def test_a_majority_vote_by_hand():
    votes = torch.tensor([[0, 1], [0, 1], [0, 0], [2, 0]])
    others = torch.tensor([[0, 1], [0, 0], [2, 0], [1, 0], [1, 1]])
    # dimension 0 says 1, dimension 2 says 0, dimension 1 had no vote and says the first
    assert scores.majority_vote_accuracy(votes, others, factors=2) == pytest.approx(3 / 5)
