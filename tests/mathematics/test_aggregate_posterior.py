"""The aggregate posterior against torch's mixture at sizes where that one fits into memory."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.testing import assert_close

from dpvae_cli.foundation.randomness import stream
from dpvae_cli.mathematics import aggregate_posterior
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from tests.mathematics.random_models import assert_near, normal


def components(count: int, latent_dim: int, *, scale: float) -> tuple[Tensor, Tensor]:
    """Return means and log-variances with standard deviations between scale / 3 and 3 scale."""
    spread = 2 * torch.rand(
        (count, latent_dim), generator=stream(0, "scale"), dtype=torch.float64
    ) - torch.ones(count, latent_dim, dtype=torch.float64)
    return normal(count, latent_dim), 2 * (math.log(scale) + math.log(3) * spread)


def mixture(mean: Tensor, log_variance: Tensor) -> MixtureSameFamily:
    """Return the mixture; dimension by dimension if the batch shape is to be the latent one."""
    parts = Independent(Normal(mean, torch.exp(0.5 * log_variance)), 1)
    return MixtureSameFamily(Categorical(torch.ones(len(mean), dtype=torch.float64)), parts)


def marginals(mean: Tensor, log_variance: Tensor, z: Tensor) -> Tensor:
    """Return log q(z_l), one dimension at a time."""
    columns = [
        mixture(mean[:, l : l + 1], log_variance[:, l : l + 1]).log_prob(z[:, l : l + 1])
        for l in range(z.shape[1])
    ]
    return torch.stack(columns, dim=-1)


def places(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return points of the mixture, points between its components and points far away."""
    latent_dim = mean.shape[1]
    noise = torch.exp(0.5 * log_variance[:9]) * normal(9, latent_dim, seed=3)
    far = normal(6, latent_dim, seed=4) * torch.tensor(
        [[10.0], [100.0], [1e3], [1e4], [1e5], [1e6]]
    )
    return torch.cat([mean[:9] + noise, normal(9, latent_dim, seed=5), far.double()])


@pytest.fixture
def small_blocks(monkeypatch):
    """Make blocks so small that little data crosses many of their boundaries."""
    monkeypatch.setattr(aggregate_posterior, "ROWS", 5)
    monkeypatch.setattr(aggregate_posterior, "COLUMNS", 7)


@pytest.mark.parametrize("latent_dim", [1, 2, 32])
@pytest.mark.parametrize("scale", [0.3, 0.1, 0.03, 0.01, 0.003])
def test_equals_torch_mixture(small_blocks, scale, latent_dim):
    mean, log_variance = components(33, latent_dim, scale=scale)
    z = places(mean, log_variance)
    expected = mixture(mean, log_variance).log_prob(z)
    actual = AggregatePosterior(mean, log_variance).log_prob(z)
    assert torch.isfinite(expected).all()
    assert_close(actual, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("latent_dim", [1, 2, 32])
@pytest.mark.parametrize("scale", [0.3, 0.003])
def test_marginals_equal_torch_mixtures(small_blocks, scale, latent_dim):
    mean, log_variance = components(33, latent_dim, scale=scale)
    z = places(mean, log_variance)
    actual = AggregatePosterior(mean, log_variance).marginal_log_prob(z)
    assert_close(actual, marginals(mean, log_variance, z), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("count", [1, 6, 7, 8, 13, 14, 15])
@pytest.mark.parametrize("rows", [1, 4, 5, 6, 10, 11])
def test_every_block_boundary(small_blocks, count, rows):
    mean, log_variance = components(count, 2, scale=0.3)
    z = normal(rows, 2, seed=8)
    posterior = AggregatePosterior(mean, log_variance)
    assert_close(posterior.log_prob(z), mixture(mean, log_variance).log_prob(z))


def test_the_real_blocks_and_their_boundaries():
    count, rows = aggregate_posterior.COLUMNS + 3, aggregate_posterior.ROWS + 3
    mean, log_variance = components(count, 2, scale=0.1)
    z = normal(rows, 2, seed=8)
    posterior = AggregatePosterior(mean, log_variance)
    assert_close(posterior.log_prob(z), mixture(mean, log_variance).log_prob(z), rtol=1e-8, atol=0)


def test_no_rows():
    posterior = AggregatePosterior(*components(9, 2, scale=0.3))
    assert posterior.log_prob(torch.zeros(0, 2)).shape == (0,)
    assert posterior.marginal_log_prob(torch.zeros(0, 2)).shape == (0, 2)


def test_does_not_depend_on_where_the_origin_lies():
    mean, log_variance = components(33, 2, scale=0.01)
    z = places(mean, log_variance)[:18]
    near, far = AggregatePosterior(mean, log_variance), AggregatePosterior(mean + 1e3, log_variance)
    assert_close(far.log_prob(z + 1e3), near.log_prob(z), rtol=1e-6, atol=1e-6)


def test_float32_parameters_are_computed_in_float64():
    mean, log_variance = (tensor.float() for tensor in components(33, 32, scale=0.003))
    z = places(mean.double(), log_variance.double()).float()
    actual = AggregatePosterior(mean, log_variance).log_prob(z)
    expected = mixture(mean.double(), log_variance.double()).log_prob(z.double())
    assert actual.dtype == torch.float64
    assert_close(actual, expected, rtol=1e-8, atol=1e-8)


def test_samples_have_the_moments_of_the_mixture():
    mean, log_variance = components(7, 3, scale=0.5)
    n = 20_000
    z = AggregatePosterior(mean, log_variance).sample(n, generator=stream(0, "draws"))
    second = log_variance.exp() + mean.square()
    expected_mean, expected_second = mean.mean(dim=0), second.mean(dim=0)
    for l in range(3):
        column = z[:, l]
        error = column.std().item() / n**0.5
        assert_near(column.mean().item(), expected_mean[l].item(), error=error)
        error = column.square().std().item() / n**0.5
        assert_near(column.square().mean().item(), expected_second[l].item(), error=error)
    product = z[:, 0] * z[:, 1]
    expected = (mean[:, 0] * mean[:, 1]).mean().item()
    assert_near(product.mean().item(), expected, error=product.std().item() / n**0.5)


def test_samples_follow_the_generator_and_know_their_sizes():
    posterior = AggregatePosterior(*components(7, 3, scale=0.5))
    draws = [posterior.sample(4, generator=stream(seed, "draws")) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert (len(posterior), posterior.latent_dim) == (7, 3)


def test_a_component_far_likelier_than_all_before_it(small_blocks):
    """A row's largest exponent rises by thousands of nats from block to block, and falls again."""
    distances = torch.tensor([90.0, 80, 70, 60, 50, 40, 30, 20, 10, 5, 1, 0, 3, 30, 70, 90, 2])
    mean = torch.stack([distances, -distances], dim=1).double()
    log_variance = torch.full_like(mean, 2 * math.log(0.3))
    z = torch.cat([normal(9, 2), torch.full((3, 2), 85.0, dtype=torch.float64)])
    found = AggregatePosterior(mean, log_variance).log_prob(z)
    assert_close(found, mixture(mean, log_variance).log_prob(z), rtol=1e-12, atol=1e-10)


def test_moments_are_torch_s_far_from_the_origin_too():
    mean, log_variance = components(40, 3, scale=0.5)
    for offset in (0.0, 1e6):
        expectation, covariance = AggregatePosterior(mean + offset, log_variance).moments()
        expected = mixture(mean, log_variance)
        assert_close(expectation, expected.mean + offset)
        assert_close(covariance.diagonal(), expected.variance, rtol=1e-6, atol=1e-9)
        assert_close(covariance, covariance.T)
        off_diagonal = covariance - torch.diag(covariance.diagonal())
        exact = mean.T.cov(correction=0)
        assert_close(off_diagonal, exact - torch.diag(exact.diagonal()), rtol=1e-6, atol=1e-9)
