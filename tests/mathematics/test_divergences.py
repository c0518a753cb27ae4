"""MMD against its definition, the nearest-neighbour KL against Gaussians."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.mathematics.divergences import _halvings, kl_nearest_neighbours, mmd_squared
from dpvae_cli.mathematics.estimates import standard_error
from tests.mathematics.random_models import assert_near, normal


def u_statistic(x: Tensor, y: Tensor, *, bandwidth: float) -> float:
    """Return the unbiased MMD^2 by plain loops."""

    def kernel(a: Tensor, b: Tensor) -> float:
        return math.exp(-float((a - b).square().sum()) / bandwidth)

    def within(points: Tensor) -> float:
        n = len(points)
        pairs = [kernel(points[i], points[j]) for i in range(n) for j in range(n) if i != j]
        return sum(pairs) / (n * (n - 1))

    across = sum(kernel(a, b) for a in x for b in y) / (len(x) * len(y))
    return within(x) + within(y) - 2 * across


@pytest.mark.parametrize(("n", "m"), [(2, 2), (7, 7), (5, 9)])
@pytest.mark.parametrize("bandwidth", [0.5, 4.0])
def test_mmd_equals_the_u_statistic(n, m, bandwidth):
    x, y = normal(n, 3), 1 + 2 * normal(m, 3, seed=1)
    actual = mmd_squared(x, y, bandwidth=bandwidth).item()
    assert actual == pytest.approx(u_statistic(x, y, bandwidth=bandwidth), rel=1e-10)


def mmds(shift: float, *, repeats: int = 400, n: int = 20) -> Tensor:
    x, y = normal(repeats, n, 2), normal(repeats, n, 2, seed=1) + shift
    return torch.stack([mmd_squared(a, b, bandwidth=4.0) for a, b in zip(x, y, strict=True)])


def test_mmd_has_mean_zero_on_equal_distributions():
    values = mmds(0.0)
    assert values.min() < 0, "an unbiased estimate is negative half of the time"
    error = values.std().item() / len(values) ** 0.5
    assert_near(values.mean().item(), 0.0, error=error)


def test_mmd_has_its_population_value_on_shifted_gaussians():
    values = mmds(1.0)
    # E k(a, b) for a - b ~ N(m, 2 I) and bandwidth 4 in two dimensions: 1/2 exp(-|m|^2 / 8)
    expected = 2 * 0.5 - 2 * 0.5 * math.exp(-2 / 8)
    error = values.std().item() / len(values) ** 0.5
    assert_near(values.mean().item(), expected, error=error)
    assert values.mean() > 10 * error


def test_mmd_gives_gradients_to_both_sides():
    x, y = normal(5, 2).requires_grad_(), normal(5, 2, seed=1).requires_grad_()
    mmd_squared(x, y, bandwidth=4.0).backward()
    assert (x.grad != 0).all()
    assert (y.grad != 0).all()


def test_mmd_knows_coinciding_points():
    x = torch.zeros(3, 2)
    assert_close(mmd_squared(x, x + 1, bandwidth=2.0), torch.tensor(2 - 2 * math.exp(-1)))


def gaussians(n: int, m: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return samples of N(0, I) and of N((1, 0), 1.5^2 I) and their KL."""
    p, q = normal(n, 2).numpy(), (1.5 * normal(m, 2, seed=1)).numpy() + np.array([1.0, 0.0])
    variance = 1.5**2
    return p, q, 0.5 * (2 / variance + 1 / variance - 2 + 2 * math.log(variance))


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize(("n", "m"), [(4000, 4000), (3000, 6000)])
def test_nearest_neighbours_find_the_kl_of_gaussians(n, m, k):
    p, q, expected = gaussians(n, m)
    estimate = kl_nearest_neighbours(p, q, k=k)
    assert 0 < estimate.standard_error < 0.05
    assert estimate.num_duplicates == 0
    assert_near(estimate.value, expected, error=estimate.standard_error, floor=0.02)


def test_nearest_neighbours_equal_the_formula_by_brute_force():
    p, q, _ = gaussians(40, 30)
    for k in (1, 3):
        rho = np.sort(np.linalg.norm(p[:, None] - p[None], axis=-1), axis=1)[:, k]
        nu = np.sort(np.linalg.norm(p[:, None] - q[None], axis=-1), axis=1)[:, k - 1]
        terms = 2 * np.log(nu / rho)
        estimate = kl_nearest_neighbours(p, q, k=k)
        assert estimate.value == pytest.approx(terms.mean() + math.log(30 / 39))


def test_the_error_of_nearest_neighbours_compares_halves_by_brute_force():
    p, q, _ = gaussians(41, 31)
    estimate = kl_nearest_neighbours(p, q, k=2)
    squared = []
    for first_p, first_q in zip(_halvings(41), _halvings(31), strict=True):
        assert (first_p.sum(), first_q.sum()) == (20, 15)
        halves = [
            kl_nearest_neighbours(p[a], q[b], k=2).value
            for a, b in ((first_p, first_q), (~first_p, ~first_q))
        ]
        squared.append((halves[0] - halves[1]) ** 2 / 4)
    assert estimate.standard_error == pytest.approx(math.sqrt(np.mean(squared)))


def test_the_error_of_nearest_neighbours_is_their_spread():
    """Both directions together; terms taken as independent give a ratio of 1.8."""
    random = np.random.default_rng(0)
    values, errors = [], []
    for _ in range(60):
        p, q = random.normal(size=(200, 2)), 0.6 * random.normal(size=(200, 2))
        forward, reverse = kl_nearest_neighbours(p, q), kl_nearest_neighbours(q, p)
        values.append(forward.value + reverse.value)
        errors.append(standard_error(forward.error_terms + reverse.error_terms))
    assert 0.85 < np.std(values, ddof=1) / np.mean(errors) < 1.2


def test_halves_without_a_neighbour_give_no_error():
    p, q, _ = gaussians(5, 5)
    assert math.isnan(kl_nearest_neighbours(p, q, k=2).standard_error)


def test_coinciding_points_are_counted_and_left_out():
    p, q, expected = gaussians(2000, 2000)
    p[1], q[7] = p[0], p[5]
    estimate = kl_nearest_neighbours(p, q)
    assert estimate.num_duplicates == 3
    assert math.isfinite(estimate.value)
    assert math.isfinite(estimate.standard_error)
    assert_near(estimate.value, expected, error=estimate.standard_error, floor=0.02)


def test_too_few_points_are_refused():
    p, q, _ = gaussians(5, 5)
    with pytest.raises(UsageError, match="no 5-th neighbour"):
        kl_nearest_neighbours(p, q, k=5)
    with pytest.raises(UsageError, match="no 3-th neighbour"):
        kl_nearest_neighbours(p, q[:2], k=3)


def test_points_that_all_coincide_are_refused():
    points = np.zeros((6, 2))
    with pytest.raises(DpvaeError, match="6 of 6 points coincide"):
        kl_nearest_neighbours(points, points)
