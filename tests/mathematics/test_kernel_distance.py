"""KID against its definition, and its standard error against its spread."""

import numpy as np
import pytest
import torch

import dpvae_cli as dpvae
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.mathematics.kernel_distance import (
    kernel_distance,
    mmd_of_subsets,
    polynomial_mmd,
    subset_size,
)
from tests.mathematics.random_models import normal


def by_loops(x, y):
    def kernel(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    def within(rows):
        n = len(rows)
        pairs = [kernel(rows[i], rows[j]) for i in range(n) for j in range(n) if i != j]
        return sum(pairs) / (n * (n - 1))

    return within(x) + within(y) - 2 * sum(kernel(a, b) for a in x for b in y) / (len(x) * len(y))


@pytest.mark.parametrize("seed", range(3))
def test_brute_force(seed):
    x, y = normal(7, 3, seed=seed), 2 * normal(9, 3, seed=seed + 10) + 1
    assert float(polynomial_mmd(x, y)) == pytest.approx(by_loops(x, y), rel=1e-12)


def test_subsets_are_pairs_of_rows_in_order():
    x, y = normal(11, 2, seed=0), normal(8, 2, seed=1)
    found = mmd_of_subsets(x, y, size=4)
    expected = [polynomial_mmd(x[:4], y[:4]), polynomial_mmd(x[4:8], y[4:8])]
    assert found.tolist() == [float(value) for value in expected]


def test_all_rows_in_two_subsets():
    x, y = normal(40, 3, seed=0), normal(40, 3, seed=1)
    found = kernel_distance(x, y.numpy(), size=20)
    assert (found.subset_size, found.subsets) == (20, 2)
    assert found.standard_error > 0


def expected_kernel(a, b):
    """Return E k(x, y) of x ~ N(a, I), y ~ N(b, I)."""
    d, aa, bb, ab = len(a), float(a @ a), float(b @ b), float(a @ b)
    second = d + aa + bb + ab**2
    third = ab**3 + 3 * ab * bb + 3 * ab * (aa + d + 2)
    return 1 + 3 * ab / d + 3 * second / d**2 + third / d**3


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_unbiased_with_an_honest_error(shift):
    """The mean of many small samples is the true MMD^2, and their errors tell their spread."""
    zero = torch.zeros(3)
    ab, bb = expected_kernel(zero, zero + shift), expected_kernel(zero + shift, zero + shift)
    truth = expected_kernel(zero, zero) + bb - 2 * ab
    found = [
        kernel_distance(normal(60, 3, seed=s), normal(60, 3, seed=s + 500) + shift)
        for s in range(60)
    ]
    values = torch.tensor([one.value for one in found])
    errors = torch.tensor([one.standard_error for one in found])
    assert abs(float(values.mean()) - truth) < 4 * float(values.std()) / 60**0.5
    assert float(errors.square().mean().sqrt() / values.std()) == pytest.approx(1, abs=0.25)


def test_the_seed_deals_the_rows():
    x, y = normal(40, 3, seed=0), normal(40, 3, seed=1)
    assert kernel_distance(x, y) == kernel_distance(x, y)
    assert kernel_distance(x, y) != kernel_distance(x, y, seed=1)
    assert dpvae.kernel_distance is kernel_distance


@pytest.mark.parametrize(("rows", "size"), [(4, 2), (19, 2), (50, 5), (9_990, 999), (70_000, 1000)])
def test_subset_sizes(rows, size):
    assert subset_size(rows) == size


@pytest.mark.parametrize(
    ("x", "y", "size", "said"),
    [
        (np.zeros((3, 2)), np.zeros((9, 2)), None, "3 rows are too few"),
        (np.zeros((9, 2)), np.zeros((9, 2)), 5, "no two subsets of 5"),
        (np.zeros((9, 2)), np.zeros((9, 2)), 1, "no two subsets of 1"),
        (np.zeros((9, 2)), np.zeros((9, 3)), None, "do not compare"),
        (np.zeros(9), np.zeros(9), None, "do not compare"),
    ],
)
def test_what_does_not_fit_is_refused(x, y, size, said):
    with pytest.raises(UsageError, match=said):
        kernel_distance(x, y, size=size)
