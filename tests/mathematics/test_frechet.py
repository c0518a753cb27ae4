"""The Frechet distance against closed forms, exact singular cases and pytorch-fid's function."""

import numpy as np
import pytest
import scipy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dpvae_cli as dpvae
from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.mathematics.frechet import RunningMoments, frechet_distance

SQRTM_STILL_TAKES_DISP = tuple(map(int, scipy.__version__.split(".")[:2])) < (1, 18)


def random_rows(count, dimensions, *, seed=0, decay=10.0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, dimensions, generator=generator, dtype=torch.float64)
    mixing *= torch.exp(-torch.arange(dimensions) / decay)
    rows = torch.randn(count, dimensions, generator=generator, dtype=torch.float64) @ mixing.T
    return rows + torch.randn(dimensions, generator=generator, dtype=torch.float64)


def moments(rows):
    return rows.mean(dim=0), torch.cov(rows.T)


def distance_from_rows(x, y):
    """Return the distance without any covariance: tr((AB)^1/2) is the nuclear norm of X Y^T."""
    (a, n), (b, m) = ((rows - rows.mean(dim=0), len(rows) - 1) for rows in (x, y))
    cross = torch.linalg.svdvals(a @ b.T).sum() / (n * m) ** 0.5
    traces = a.square().sum() / n + b.square().sum() / m
    return float((x.mean(dim=0) - y.mean(dim=0)).square().sum() + traces - 2 * cross)


@given(st.floats(-5, 5), st.floats(0, 4), st.floats(-5, 5), st.floats(0, 4))
@settings(deadline=None)
def test_one_dimension(mean_a, deviation_a, mean_b, deviation_b):
    found = frechet_distance(
        np.array([mean_a]),
        np.array([[deviation_a**2]]),
        np.array([mean_b]),
        np.array([[deviation_b**2]]),
    )
    expected = (mean_a - mean_b) ** 2 + (deviation_a - deviation_b) ** 2
    assert found == pytest.approx(expected, abs=1e-6)


def test_diagonal_covariances():
    mean_a, mean_b, a, b = torch.rand(4, 7, dtype=torch.float64)
    found = frechet_distance(mean_a, a.diag(), mean_b, b.diag())
    expected = (mean_a - mean_b).square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    assert found == pytest.approx(float(expected), rel=1e-12)


def test_a_rotation_of_both_changes_nothing():
    (m_a, a), (m_b, b) = (moments(random_rows(50, 6, seed=s)) for s in (1, 2))
    turn, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    turned = frechet_distance(turn @ m_a, turn @ a @ turn.T, turn @ m_b, turn @ b @ turn.T)
    assert turned == pytest.approx(frechet_distance(m_a, a, m_b, b), rel=1e-10)


@pytest.mark.parametrize("count", [5, 200])
def test_equal_gaussians_are_at_distance_zero(count):
    mean, covariance = moments(random_rows(count, 20))
    assert frechet_distance(mean, covariance, mean, covariance) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("count_a", "count_b"), [(400, 300), (400, 12), (12, 400), (12, 9), (40, 2)]
)
@pytest.mark.parametrize("decay", [5.0, 100.0])
def test_covariances_of_any_rank(count_a, count_b, decay):
    """Fewer rows than dimensions, on either side or both, and fast spectra."""
    x = random_rows(count_a, 40, seed=1, decay=decay)
    y = random_rows(count_b, 40, seed=2, decay=decay)
    found = frechet_distance(*moments(x), *moments(y))
    assert found == pytest.approx(distance_from_rows(x, y), rel=1e-8)
    swapped = frechet_distance(*moments(y), *moments(x))
    assert swapped == pytest.approx(found, rel=1e-8)


def test_zero_covariances_leave_the_means():
    zero = torch.zeros(3, 3)
    assert frechet_distance(torch.zeros(3), zero, torch.ones(3), zero) == pytest.approx(3)


@pytest.mark.skipif(
    not SQRTM_STILL_TAKES_DISP,
    reason="pytorch-fid's function calls scipy's sqrtm(disp=), which SciPy 1.18 has no more",
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("dimensions", [3, 64, 200])
def test_pytorch_fid_gives_the_same(dimensions):
    from pytorch_fid.fid_score import calculate_frechet_distance

    x = random_rows(3 * dimensions, dimensions, seed=1, decay=dimensions)
    y = random_rows(2 * dimensions, dimensions, seed=2, decay=dimensions)
    arguments = [part.numpy() for part in (*moments(x), *moments(y))]
    expected = calculate_frechet_distance(*arguments)
    assert dpvae.frechet_distance(*arguments) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((np.zeros(2), np.eye(3), np.zeros(2), np.eye(2)), "covariance_a"),
        ((np.zeros(2), np.eye(2), np.zeros((2, 1)), np.eye(2)), "mean_b"),
        ((np.zeros(2), np.eye(2), np.zeros(3), np.eye(3)), "2 and 3 features"),
        ((np.zeros(2), np.eye(2), np.array([0, np.nan]), np.eye(2)), "not finite"),
        ((np.zeros(2), np.full((2, 2), np.inf), np.zeros(2), np.eye(2)), "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, said):
    with pytest.raises(UsageError, match=said):
        frechet_distance(*arguments)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.floats(-1e4, 1e4))
@settings(deadline=None, max_examples=25)
def test_streamed_moments_are_numpy_s(sizes, offset):
    """Also far from the origin, where sums of squares would cancel."""
    rows = random_rows(sum(sizes) + 1, 4) + offset
    running = RunningMoments(4)
    for part in rows.split([*sizes, 1]):
        running.add(part)
    assert running.count == len(rows)
    np.testing.assert_allclose(running.mean, rows.mean(dim=0), rtol=1e-12)
    np.testing.assert_allclose(
        running.covariance, np.cov(rows.numpy(), rowvar=False), rtol=1e-7, atol=1e-9
    )


def test_float32_rows_are_added_up_in_float64():
    rows = torch.rand(1_000, 3) + 3_000
    running = RunningMoments(3)
    for part in rows.split(7):
        running.add(part)
    expected = np.cov(rows.double().numpy(), rowvar=False)
    np.testing.assert_allclose(running.covariance, expected, rtol=1e-9)


def test_one_row_has_no_covariance():
    running = RunningMoments(2)
    running.add(torch.zeros(1, 2))
    with pytest.raises(DpvaeError, match="1 rows"):
        _ = running.covariance
