"""Precision, recall, density and coverage against their definitions and published code."""

import math

import numpy as np
import pytest
import torch

import dpvae_cli as dpvae
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.mathematics import support
from dpvae_cli.mathematics.support import compare_support
from tests.mathematics.random_models import normal


def values(real, samples, k=5):
    return [each.value for each in compare_support(real, samples, neighbours=k)]


def by_loops(x, y, k):
    def radius(points, i):
        others = [math.dist(points[i], p) for j, p in enumerate(points) if j != i]
        return sorted(others)[k - 1]

    of_x, of_y = ([radius(p, i) for i in range(len(p))] for p in (x, y))
    in_x = [[math.dist(a, b) <= r for b in y] for a, r in zip(x, of_x, strict=True)]
    in_y = [[math.dist(a, b) <= r for b, r in zip(y, of_y, strict=True)] for a in x]
    around = [sum(column) for column in zip(*in_x, strict=True)]
    return [
        np.mean([count > 0 for count in around]),
        np.mean([any(row) for row in in_y]),
        np.mean(around) / k,
        np.mean([any(row) for row in in_x]),
    ]


@pytest.mark.parametrize("k", [1, 3])
def test_brute_force(k, monkeypatch):
    monkeypatch.setattr(support, "CHUNK", 40)  # several rows at a time, and a rest
    x, y = normal(17, 3, seed=0), normal(13, 3, seed=1) * 0.8 + 0.3
    assert values(x, y, k) == pytest.approx(by_loops(x.tolist(), y.tolist(), k), rel=1e-12)


def test_values_of_the_authors_code():
    """Of prdc 0.2, the package of Naeem et al., on the same points."""
    generator = np.random.default_rng(7)
    real = generator.normal(size=(60, 3))
    narrow, wide = generator.normal(size=(60, 3)) * 0.6, generator.normal(size=(40, 3)) * 2 + 0.5
    assert values(real, narrow, 1) == pytest.approx([5 / 6, 8 / 15, 1.2, 5 / 12])
    assert values(real, narrow, 5) == pytest.approx([1, 49 / 60, 79 / 75, 29 / 30])
    assert values(real, wide, 1) == pytest.approx([0.3, 0.75, 0.35, 1 / 6])
    assert values(real, wide, 5) == pytest.approx([0.575, 1, 0.305, 0.5])


def test_two_sets_of_one_distribution():
    """Density has mean 1, coverage 1 - prod_j (N - j) / (2 N - j) over j = 1 .. k."""
    found = compare_support(normal(800, 2, seed=0), normal(800, 2, seed=1))
    expected = 1 - math.prod((800 - j) / (1_600 - j) for j in range(1, 6))
    assert found.density.value == pytest.approx(1, abs=4 * found.density.standard_error)
    assert found.coverage.value == pytest.approx(expected, abs=4 * found.coverage.standard_error)


def test_mode_collapse_is_seen_by_recall_and_coverage():
    real = torch.cat([normal(200, 2, seed=0) - 10, normal(200, 2, seed=1) + 10])
    one_mode = compare_support(real, normal(400, 2, seed=2) - 10)
    assert one_mode.precision.value > 0.95
    assert one_mode.recall.value == pytest.approx(0.5, abs=0.02)
    assert one_mode.coverage.value < 0.51
    a_point = compare_support(real, real[1:2] + 0.01 + normal(400, 2, seed=3) / 1e4)
    assert (a_point.precision.value, a_point.recall.value) == (1, 0)


def test_pockets_are_seen_by_precision_and_density():
    modes = torch.cat([normal(200, 2, seed=0) - 10, normal(200, 2, seed=1) + 10])
    between = torch.linspace(-8, 8, 200).double().unsqueeze(1).repeat(1, 2)
    samples = torch.cat([modes[::2] + 0.01, between])
    found = compare_support(modes, samples)
    assert found.precision.value < 0.7
    assert found.density.value < 0.7
    assert found.recall.value > 0.95


def test_scale_shift_and_type_do_not_matter():
    x, y = normal(50, 4, seed=0), normal(60, 4, seed=1)
    assert values(x * 3 + 1e4, (y * 3 + 1e4).numpy()) == values(x, y)


def test_halves_without_a_neighbour_have_no_error():
    found = compare_support(normal(10, 2, seed=0), normal(10, 2, seed=1), neighbours=5)
    assert all(math.isnan(each.standard_error) for each in found)


@pytest.mark.parametrize(
    ("real", "samples", "message"),
    [
        (torch.zeros(9, 2), torch.zeros(9, 3), "do not compare"),
        (torch.zeros(9), torch.zeros(9, 3), "do not compare"),
        (torch.full((9, 2), math.inf), torch.zeros(9, 2), "not finite"),
        (torch.zeros(5, 2), torch.zeros(9, 2), "no 5-th neighbour"),
    ],
)
def test_what_does_not_compare(real, samples, message):
    with pytest.raises(UsageError, match=message):
        dpvae.compare_support(real, samples)
