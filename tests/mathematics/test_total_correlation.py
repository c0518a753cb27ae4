"""Minibatch estimates of q(z) and of its marginals."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dpvae_cli.mathematics.total_correlation import (
    minibatch_log_densities,
    stratified_log_weights,
    weighted_log_weights,
)
from tests.mathematics.random_models import normal, random_posterior
from tests.mathematics.test_aggregate_posterior import marginals, mixture


def check_stratified(log_weights: Tensor, *, dataset_size: int) -> None:
    """Assert that each row has its own component at 1/N, equal others, and sums to one."""
    weights = log_weights.double().exp()
    batch = len(weights)
    own = torch.full((batch,), 1 / dataset_size, dtype=torch.float64)
    assert_close(weights.sum(dim=1), torch.ones_like(own), rtol=1e-5, atol=0)
    assert_close(weights.diagonal(), own, rtol=1e-5, atol=0)
    others = weights[~torch.eye(batch, dtype=torch.bool)]
    assert others.max() - others.min() < 1e-9


def wrong_column(batch: int, dataset_size: int) -> Tensor:
    """Return the well-known broken matrix: 1/N in the first column instead of the diagonal."""
    other = (dataset_size - 1) / (dataset_size * (batch - 1))
    weights = torch.full((batch, batch), other)
    weights[:, 0] = 1 / dataset_size
    return weights.log()


@pytest.mark.parametrize(
    ("batch", "dataset_size"), [(2, 2), (2, 100), (5, 1000), (8, 8), (100, 55)]
)
def test_stratified_weights(batch, dataset_size):
    check_stratified(stratified_log_weights(batch, dataset_size), dataset_size=dataset_size)


def test_the_wrong_column_fails():
    with pytest.raises(AssertionError):
        check_stratified(wrong_column(5, 1000), dataset_size=1000)


def test_whole_data_set_as_the_batch_gives_equal_weights():
    expected = torch.full((8, 8), -math.log(8))
    assert_close(stratified_log_weights(8, 8), expected)


def test_weighted_weights():
    assert_close(weighted_log_weights(4, 50).exp(), torch.full((4, 4), 1 / 200))


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_whole_data_set_as_the_batch_equals_brute_force(latent_dim):
    posterior = random_posterior(12, latent_dim)
    z = normal(12, latent_dim, seed=7)
    joint, product = minibatch_log_densities(posterior, z, stratified_log_weights(12, 12).double())
    mean, log_variance = posterior.mean, posterior.log_variance
    assert_close(joint, mixture(mean, log_variance).log_prob(z), rtol=1e-6, atol=1e-6)
    assert_close(product, marginals(mean, log_variance, z).sum(dim=-1), rtol=1e-6, atol=1e-6)


def test_weights_belong_to_the_components_not_to_the_draws():
    posterior, z = random_posterior(3, 2), normal(3, 2, seed=7)
    weights = torch.softmax(normal(3, 3, seed=8), dim=1)
    joint, product = minibatch_log_densities(posterior, z, weights.log())
    scale = torch.exp(0.5 * posterior.log_variance)
    for i in range(3):
        densities = torch.distributions.Normal(posterior.mean, scale).log_prob(z[i]).exp()
        assert_close(joint[i], (weights[i] @ densities.prod(dim=1)).log())
        assert_close(product[i], (weights[i] @ densities).log().sum())
