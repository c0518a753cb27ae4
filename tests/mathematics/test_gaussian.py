"""Diagonal Gaussians against torch.distributions."""

import torch
from torch.distributions import Independent, Normal, kl_divergence
from torch.testing import assert_close

from dpvae_cli.foundation.randomness import stream
from dpvae_cli.mathematics.gaussian import DiagonalGaussian, standard_normal_log_prob
from tests.mathematics.random_models import assert_near, normal, random_posterior


def reference(posterior: DiagonalGaussian) -> Independent:
    return Independent(Normal(posterior.mean, torch.exp(0.5 * posterior.log_variance)), 1)


def test_log_prob_and_entropy():
    posterior, z = random_posterior(5, 3), normal(5, 3, seed=9)
    assert_close(posterior.log_prob(z), reference(posterior).log_prob(z))
    assert_close(posterior.entropy(), reference(posterior).entropy())


def test_standard_normal_log_prob():
    z = normal(5, 3)
    expected = Normal(0.0, 1.0).log_prob(z).sum(dim=-1)
    assert_close(standard_normal_log_prob(z), expected)


def test_cross_entropy_and_entropy_give_the_kl():
    posterior = random_posterior(5, 3)
    unit = Independent(Normal(torch.zeros_like(posterior.mean), 1.0), 1)
    kl = posterior.cross_entropy_to_standard_normal() - posterior.entropy()
    assert_close(kl, kl_divergence(reference(posterior), unit))


def test_samples_have_the_moments_and_carry_gradients():
    posterior, n = random_posterior(3, 2), 20_000
    z = posterior.sample(n, generator=stream(0, "draws"))
    assert z.shape == (n, 3, 2)
    assert posterior.sample().shape == (3, 2)
    variance = torch.exp(posterior.log_variance).detach()
    for i in range(3):
        for l in range(2):
            v = variance[i, l].item()
            assert_near(z[:, i, l].mean().item(), posterior.mean[i, l].item(), error=(v / n) ** 0.5)
            assert_near(z[:, i, l].var().item(), v, error=v * (2 / n) ** 0.5)
    z.square().sum().backward()
    assert (posterior.mean.grad != 0).all()
    assert (posterior.log_variance.grad != 0).all()


def test_sampling_follows_its_generator():
    posterior = random_posterior(3, 2)
    draws = [posterior.sample(generator=stream(seed, "draws")) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
