"""Priors in units of their own: against torch's distributions and a change of variables."""

import math

import pytest
import torch
from torch.distributions import (
    AffineTransform,
    Categorical,
    MixtureSameFamily,
    MultivariateNormal,
)
from torch.testing import assert_close

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.priors import Decoupled, Mixture, MixturePrior, StandardizedPrior
from dpvae_cli.priors.class_conditional import build_saved_prior
from tests.cases import ESTIMATED, small_spec
from tests.mathematics.random_models import normal, random_posterior, randomised

MEAN, DEVIATION = torch.tensor([50.0, -3.0]).double(), torch.tensor([0.1, 20.0]).double()


def standardized(spec, *, gain=0.9):
    inner = randomised(spec.build(2), gain=gain, seed=3)
    return StandardizedPrior(inner, MEAN, DEVIATION)


@pytest.mark.parametrize(
    "spec", [small_spec("prior", kind) for kind in ("decoupled", "mixture", *ESTIMATED)]
)
def test_the_density_is_torch_s_of_an_affine_map(spec):
    prior = standardized(spec).eval()
    z = MEAN + DEVIATION * normal(20, 2)
    inner = prior.prior.log_prob((z - MEAN) / DEVIATION)
    jacobian = AffineTransform(MEAN, DEVIATION, event_dim=1)
    assert_close(prior.log_prob(z), inner - jacobian.log_abs_det_jacobian(z, z))
    drawn = prior.sample(9, generator=stream(0, "z"))
    assert_close(drawn, jacobian(prior.prior.sample(9, generator=stream(0, "z"))))
    assert (prior.spec, prior.latent_dim) == (spec, 2)
    assert (prior.log_normaliser is None) == (spec.kind not in ESTIMATED)


def test_a_standardised_flow_is_a_flow():
    prior, z = standardized(Decoupled(hidden=8)), MEAN + DEVIATION * normal(6, 2)
    z0, log_abs_det = prior.to_generation(z)
    back, inverse = prior.to_representation(z0)
    assert_close(back, z)
    assert_close(log_abs_det + inverse, torch.zeros(6).double())
    jacobians = torch.autograd.functional.jacobian(lambda z: prior.to_generation(z)[0].sum(0), z)
    assert_close(log_abs_det, torch.linalg.slogdet(jacobians.transpose(0, 1)).logabsdet)
    assert_close(prior.log_prob(z), prior.require_generation().log_prob(z0) + log_abs_det)
    posterior = random_posterior(6, 2)
    assert_close(prior.kl(posterior, z), -posterior.entropy() - prior.log_prob(z))


def test_a_standardised_mixture_has_no_z0():
    prior = standardized(Mixture(components=4))
    assert prior.generation is None
    with pytest.raises(UsageError, match="the mixture prior has no generation space"):
        prior.to_generation(normal(3, 2))


def test_the_layer_is_saved_and_never_learned():
    prior = standardized(Decoupled(hidden=8))
    assert {"mean", "deviation"} <= prior.state_dict().keys()
    assert not {"mean", "deviation"} & {name for name, _ in prior.named_parameters()}
    state = prior.state_dict()
    again = build_saved_prior(Decoupled(hidden=8), state, 2).double()
    again.load_state_dict(state)
    z = MEAN + DEVIATION * normal(5, 2)
    assert torch.equal(again.log_prob(z), prior.log_prob(z))
    plain = Mixture().build(2)
    assert isinstance(build_saved_prior(Mixture(), plain.state_dict(), 2), MixturePrior)


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
@torch.no_grad()
def test_a_mixture_of_full_covariances_is_torch_s(latent_dim):
    generator = torch.Generator().manual_seed(2)
    roots = torch.randn(3, latent_dim, latent_dim, generator=generator, dtype=torch.float64)
    covariances = roots @ roots.mT + 0.1 * torch.eye(latent_dim)
    means = torch.randn(3, latent_dim, generator=generator, dtype=torch.float64)
    weights = torch.tensor([0.2, 0.5, 0.3]).double()
    prior = Mixture(components=3, covariance="full").build(latent_dim).double()
    prior.set_components(weights, means, torch.linalg.cholesky(covariances).inverse())
    expected = MixtureSameFamily(Categorical(weights), MultivariateNormal(means, covariances))
    z = 3 * normal(50, latent_dim)
    assert_close(prior.log_prob(z), expected.log_prob(z))
    drawn = prior.sample(40_000, generator=stream(0, "z"))
    scale = math.sqrt(float(drawn.var(dim=0).max()))
    assert_close(drawn.mean(dim=0), weights @ means, atol=0.03 * scale, rtol=0)
    spread = drawn.T.cov().reshape(latent_dim, latent_dim)
    centred = means - weights @ means
    exact = (weights[:, None, None] * covariances).sum(0) + centred.T @ (weights[:, None] * centred)
    assert_close(spread, exact, atol=0.05 * scale**2, rtol=0)
