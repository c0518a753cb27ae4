import math

import pytest
import torch

from dpvae_cli.architectures import Encoder
from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.likelihoods import GaussianLikelihood
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.mathematics.gaussian import standard_normal_log_prob
from dpvae_cli.model import VAE
from dpvae_cli.priors import Decoupled, StandardNormal
from dpvae_cli.sampling.samples import (
    from_codes,
    high_posterior,
    low_posterior,
    posterior_samples,
    prior_samples,
)

LATENT = 5


@pytest.fixture(params=[StandardNormal(), Decoupled(hidden=16)], ids=lambda spec: spec.kind)
def model(request):
    torch.manual_seed(0)
    prior = request.param.build(LATENT, None, (3,))
    for parameter in prior.parameters():
        parameter.data *= 2
    return VAE(
        encoder=Encoder(torch.nn.Linear(3, 2 * LATENT)),
        decoder=torch.nn.Linear(LATENT, 3),
        likelihood=GaussianLikelihood(1.0, learned=False, floor=1e-3),
        prior=prior,
        latent_dim=LATENT,
        example_shape=(3,),
    )


@pytest.fixture
def aggregate():
    generator = torch.Generator().manual_seed(1)
    mean = torch.randn(300, LATENT, generator=generator)
    return AggregatePosterior(mean, torch.randn(300, LATENT, generator=generator) - 2)


def brute_force_log_q(aggregate, z):
    """Return log 1/N sum_n prod_l N(z_l; mean_nl, variance_nl), component by component."""
    variance = aggregate.log_variance.exp()
    components = torch.distributions.Normal(aggregate.mean, variance.sqrt())
    rows = [components.log_prob(row.double()).sum(-1).logsumexp(0) for row in z]
    return torch.stack(rows) - math.log(len(aggregate))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_prior_samples_carry_their_densities(model):
    drawn = prior_samples(model, 200, generator=generator())
    with torch.no_grad():
        torch.testing.assert_close(drawn.log_p, model.prior.log_prob(drawn.z), rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(
            model.prior.to_generation(drawn.z)[0], drawn.z0, rtol=1e-3, atol=1e-3
        )
    torch.testing.assert_close(drawn.log_p_generation, standard_normal_log_prob(drawn.z0))
    back = from_codes(model, drawn.z)
    torch.testing.assert_close(back.log_p, drawn.log_p, rtol=1e-4, atol=1e-3)


def test_posterior_samples_are_those_of_the_components(model, aggregate):
    """Their moments are q's, and each is a draw of a component chosen at random."""
    drawn = posterior_samples(model, aggregate, 4_000, generator=generator(2))
    mean, covariance = aggregate.moments()
    error = (covariance.diagonal() / 4_000).sqrt()
    assert ((drawn.z.double().mean(dim=0) - mean).abs() < 4.5 * error).all()
    spread = drawn.z.double().T.cov()
    torch.testing.assert_close(spread, covariance, rtol=0.15, atol=0.1)
    expected = brute_force_log_q(aggregate, drawn.z[:20])
    torch.testing.assert_close(drawn.log_q[:20], expected)


def test_low_posterior_is_the_brute_force_ranking(model, aggregate):
    kept = low_posterior(model, aggregate, 20, pool=150, generator=generator(4))
    pool = prior_samples(model, 150, generator=generator(4))
    log_q = brute_force_log_q(aggregate, pool.z)
    expected = torch.sort(log_q).indices[:20]
    assert torch.equal(kept.z, pool.z[expected])
    torch.testing.assert_close(kept.log_q, log_q[expected], rtol=1e-9, atol=1e-9)


def test_high_posterior_is_the_brute_force_ranking(model, aggregate):
    pool = aggregate.sample(150, generator=generator(4)).float()
    with torch.no_grad():
        z0 = model.prior.to_generation(pool)[0]
        scores = {
            "representation": model.prior.log_prob(pool),
            "generation": standard_normal_log_prob(z0),
        }
    for rank, score in scores.items():
        kept = high_posterior(model, aggregate, 20, pool=150, generator=generator(4), rank=rank)
        assert torch.equal(kept.z, pool[torch.sort(score).indices[:20]]), rank


def test_an_overflowing_inverse_is_an_error():
    prior = Decoupled(scale_bound=None).build(2, None, (3,))
    prior.bijection.biases[-1].data[:, 0] = -500.0
    model = VAE(
        encoder=Encoder(torch.nn.Linear(3, 4)),
        decoder=torch.nn.Linear(2, 3),
        likelihood=GaussianLikelihood(1.0, learned=False, floor=1e-3),
        prior=prior,
        latent_dim=2,
        example_shape=(3,),
    )
    with pytest.raises(DpvaeError, match="10 of 10 samples"):
        prior_samples(model, 10, generator=generator())


def test_a_pool_smaller_than_the_samples_is_refused(model, aggregate):
    with pytest.raises(UsageError, match="pool of 5"):
        low_posterior(model, aggregate, 6, pool=5, generator=generator())
