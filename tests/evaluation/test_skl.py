import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from dpvae_cli.evaluation.evaluate import evaluate
from dpvae_cli.evaluation.kl import symmetric_kl
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.priors import Decoupled, StandardNormalPrior
from dpvae_cli.recipe import Evaluation
from dpvae_cli.sampling.samples import encode
from tests.small import gaussian_posterior_vae, random_dataset

MEAN, LOG_VARIANCE = torch.tensor([0.5, -0.3]), torch.tensor([-0.8, 0.4])


def known_skl(mean=MEAN, log_variance=LOG_VARIANCE):
    q = MultivariateNormal(mean, torch.diag(log_variance.exp()))
    p = MultivariateNormal(torch.zeros(2), torch.eye(2))
    return float(kl_divergence(p, q) + kl_divergence(q, p))


def measured(model, metric, **sizes):
    data = random_dataset(2)
    return evaluate(model, data, [metric], evaluation=Evaluation(**sizes))


def test_skl_of_two_gaussians_is_the_closed_form():
    model = gaussian_posterior_vae(MEAN, LOG_VARIANCE, StandardNormalPrior(2))
    [result] = measured(model, "skl", samples=20_000)
    assert abs(result.value - known_skl()) < 4 * result.standard_error
    assert result.standard_error < 0.05
    halves = result.details["kl_prior_to_posterior"], result.details["kl_posterior_to_prior"]
    assert result.value == pytest.approx(sum(half["value"] for half in halves))


def test_skl_is_zero_where_prior_and_posterior_agree():
    model = gaussian_posterior_vae(torch.zeros(2), torch.zeros(2), StandardNormalPrior(2))
    [result] = measured(model, "skl", samples=2_000)
    assert result.value == pytest.approx(0, abs=1e-4)


def test_the_standard_error_is_the_spread_over_seeds():
    model = gaussian_posterior_vae(MEAN, LOG_VARIANCE, StandardNormalPrior(2))
    posterior = encode(model, random_dataset(2).train)
    q = AggregatePosterior(posterior.mean, posterior.log_variance)
    found = [
        symmetric_kl(model, q, samples=500, generator=torch.Generator().manual_seed(seed))
        for seed in range(60)
    ]
    spread = float(torch.tensor([estimate.value for estimate in found]).std())
    stated = float(torch.tensor([estimate.standard_error for estimate in found]).mean())
    assert stated == pytest.approx(spread, rel=0.35)


def test_skl_has_the_log_determinant_of_a_decoupled_prior():
    """Quadrature on a grid gives KL[p, q] + KL[q, p] for a bent prior."""
    torch.manual_seed(0)
    prior = Decoupled(hidden=8).build(2, None, (2,))
    for parameter in prior.parameters():
        parameter.data *= 2
    model = gaussian_posterior_vae(MEAN, LOG_VARIANCE, prior)
    [result] = measured(model, "skl", samples=20_000)
    axis = torch.linspace(-12, 12, 500)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        log_p = prior.log_prob(grid).double()
    q = MultivariateNormal(MEAN.double(), torch.diag(LOG_VARIANCE.double().exp()))
    log_q = q.log_prob(grid.double())
    cell = float(axis[1] - axis[0]) ** 2
    expected = float(((log_p - log_q) * (log_p.exp() - log_q.exp())).sum() * cell)
    assert abs(result.value - expected) < 4 * result.standard_error


def test_skl_knn_of_two_gaussians():
    mean, log_variance = torch.tensor([0.6, -0.4]), torch.tensor([-0.2, 0.2])
    model = gaussian_posterior_vae(mean, log_variance, StandardNormalPrior(2))
    in_z, in_z0 = measured(model, "skl_knn", samples=5_000, neighbours=5)
    assert (in_z.metric, in_z0.metric) == ("skl_knn", "skl_knn_generation")
    assert in_z.value == pytest.approx(known_skl(mean, log_variance), abs=0.1)
    assert in_z.value > 0.4
    assert in_z.details["coinciding"] == 0
    assert in_z0.value == pytest.approx(in_z.value), "the identity maps z to z0"
