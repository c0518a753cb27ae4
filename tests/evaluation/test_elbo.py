import math

import pytest
import torch
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

import dpvae_cli as dpvae
from dpvae_cli.evaluation.evaluate import evaluate
from dpvae_cli.evaluation.kl import decompose_kl, elbo_parts
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.mathematics.estimates import mean_and_error
from dpvae_cli.mathematics.gaussian import DiagonalGaussian
from dpvae_cli.priors import Decoupled, StandardNormalPrior
from dpvae_cli.recipe import Evaluation
from tests.mathematics.random_models import assert_near, normal, randomised
from tests.small import gaussian_posterior_vae, linear_gaussian_vae, random_dataset, small_recipe

NAMES = ["elbo", "reconstruction", "kl", "mutual_information", "total_correlation"]


def seeded():
    return torch.Generator().manual_seed(0)


def decomposed(mean, log_variance, *, samples=4_000, prior=None):
    prior = prior or StandardNormalPrior(mean.shape[1])
    model = gaussian_posterior_vae(mean[0], log_variance[0], prior).double()
    aggregate = AggregatePosterior(mean, log_variance)
    return decompose_kl(model, aggregate, samples=samples, generator=seeded())


def bent_prior(latent_dim):
    return randomised(Decoupled(hidden=8).build(latent_dim, None, (2,)))


@pytest.mark.parametrize("prior", [StandardNormalPrior(3), bent_prior(3)], ids=["normal", "bent"])
def test_every_term_of_every_draw_equals_brute_force(prior):
    """Few components, each density written out with torch.distributions."""
    mean, log_variance = normal(7, 3), normal(7, 3, seed=1)
    found = decomposed(mean, log_variance, samples=600, prior=prior)
    generator = seeded()
    chosen = torch.randint(7, (600,), generator=generator)
    z = DiagonalGaussian(mean[chosen], log_variance[chosen]).sample(generator=generator)
    z = z.float().double()
    scale = torch.exp(0.5 * log_variance)
    uniform = Categorical(torch.ones(7, dtype=torch.float64))
    conditional = Normal(mean[chosen], scale[chosen]).log_prob(z).sum(dim=1)
    joint = MixtureSameFamily(uniform, Independent(Normal(mean, scale), 1)).log_prob(z)
    product = sum(
        MixtureSameFamily(uniform, Normal(mean[:, l], scale[:, l])).log_prob(z[:, l])
        for l in range(3)
    )
    with torch.no_grad():
        log_p = prior.log_prob(z)
    for term, expected in (
        (found.kl, conditional - log_p),
        (found.mutual_information, conditional - joint),
        (found.total_correlation, joint - product),
        (found.dimension_wise_kl, product - log_p),
        (found.marginal_kl, joint - log_p),
    ):
        torch.testing.assert_close(term, expected, rtol=1e-6, atol=1e-6)
    parts = found.mutual_information + found.total_correlation + found.dimension_wise_kl
    torch.testing.assert_close(parts, found.kl)


def test_a_linear_gaussian_encoder_has_the_closed_forms():
    """With x ~ N(0, I), mean A x and noise s^2 I, q(z) is N(0, A A^T + s^2 I) for many x."""
    weight = torch.tensor([[0.9, 0.4], [-0.3, 0.8]], dtype=torch.float64)
    x, variance = normal(8_000, 2), torch.tensor(0.2, dtype=torch.float64)
    x = x - x.mean(dim=0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / len(x))).T  # moments exactly 0 and I
    found = decomposed(x @ weight.T, variance.log().expand(8_000, 2))._asdict()
    found = {name: mean_and_error(terms) for name, terms in found.items()}
    eye = torch.eye(2, dtype=torch.float64)
    covariance = weight @ weight.T + variance * eye
    total = torch.logdet(covariance)
    expected = {
        "mutual_information": 0.5 * (total - 2 * variance.log()),
        "total_correlation": 0.5 * (covariance.diagonal().log().sum() - total),
        "marginal_kl": kl_divergence(
            MultivariateNormal(torch.zeros(2, dtype=torch.float64), covariance),
            MultivariateNormal(torch.zeros(2, dtype=torch.float64), eye),
        ),
        "dimension_wise_kl": 0.5 * (covariance.diagonal() - 1 - covariance.diagonal().log()).sum(),
    }
    for name, value in expected.items():
        assert_near(found[name].value, float(value), error=found[name].standard_error, floor=5e-3)
        assert found[name].standard_error < 0.03


def test_codes_far_apart_on_the_diagonal_know_their_example_twice():
    """I(z;n) = log N, and TC = 2 log N - log N."""
    mean = 10 * torch.arange(50, dtype=torch.float64).unsqueeze(1).expand(50, 2)
    found = decomposed(mean, torch.zeros(50, 2, dtype=torch.float64), samples=200)
    expected = torch.full((200,), math.log(50), dtype=torch.float64)
    torch.testing.assert_close(found.mutual_information, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.total_correlation, expected, rtol=1e-4, atol=1e-4)


def test_the_standard_error_is_the_spread_over_seeds():
    mean, log_variance = normal(20, 2), normal(20, 2, seed=1)
    model = gaussian_posterior_vae(mean[0], log_variance[0], StandardNormalPrior(2)).double()
    q = AggregatePosterior(mean, log_variance)
    found = [
        mean_and_error(
            decompose_kl(
                model, q, samples=200, generator=torch.Generator().manual_seed(seed)
            ).total_correlation
        )
        for seed in range(60)
    ]
    spread = float(torch.tensor([estimate.value for estimate in found]).std())
    stated = float(torch.tensor([estimate.standard_error for estimate in found]).mean())
    assert stated == pytest.approx(spread, rel=0.35)


@pytest.mark.parametrize("prior", ["standard_normal", "decoupled"])
def test_the_records_say_what_each_prior_allows(prior):
    recipe = small_recipe("vae", f"prior={prior}")
    model, data = dpvae.build(recipe), recipe.data.load()
    results = evaluate(model, data, ["elbo"], evaluation=recipe.evaluation, seed=2)
    by_name = {result.metric: result for result in results}
    rest = ["dimension_wise_kl", "marginal_kl"] if prior == "standard_normal" else ["marginal_kl"]
    assert list(by_name) == NAMES + rest
    assert [by_name[name].split for name in NAMES] == ["test"] * 3 + ["train"] * 2
    assert [by_name[name].samples for name in NAMES] == [40] * 3 + [50] * 2
    value = {name: result.value for name, result in by_name.items()}
    assert value["elbo"] == pytest.approx(-(value["reconstruction"] + value["kl"]))
    kl = by_name["marginal_kl"].details["training_kl"]["value"]
    assert kl == pytest.approx(value["mutual_information"] + value["marginal_kl"])
    assert by_name["marginal_kl"].details["components"] == 120


def test_held_out_terms_average_to_their_integrals():
    """Of a linear decoder E|x - W z - b|^2 has a closed form, and so has the KL."""
    model = linear_gaussian_vae(2, 3, scale=0.6)
    data = random_dataset(3, count=400)
    split = type(data.test)(data.test.stored.double())
    parts = elbo_parts(model, split, seed=0, purpose="evaluation")
    with torch.no_grad():
        posterior = model.encode(split.examples())
        residual = split.examples() - model.decoder(posterior.mean)
        noise = torch.exp(posterior.log_variance) @ model.decoder.weight.square().sum(dim=0)
        squared = residual.square().sum(dim=1) + noise
        expected = 0.5 * squared / 0.36 + 3 * (math.log(0.6) + 0.5 * math.log(2 * math.pi))
        kl = kl_divergence(
            Normal(posterior.mean, torch.exp(0.5 * posterior.log_variance)),
            Normal(torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)),
        ).sum(dim=1)
    difference = parts.reconstruction - expected
    assert_near(
        float(difference.mean()), 0.0, error=float(difference.std()) / math.sqrt(400), floor=1e-5
    )
    torch.testing.assert_close(parts.kl, kl)


def test_the_error_is_over_examples_and_the_noise_follows_from_seed_and_purpose():
    model, data = linear_gaussian_vae(2, 3, scale=0.6).float(), random_dataset(3)
    [elbo, reconstruction, kl, *_] = evaluate(
        model, data, ["elbo"], evaluation=Evaluation(samples=20), seed=7
    )
    parts = elbo_parts(model, data.test, seed=7, purpose="evaluation")
    negative = parts.reconstruction + parts.kl
    assert elbo.value == pytest.approx(-float(negative.mean()))
    assert elbo.standard_error == pytest.approx(float(negative.std()) / math.sqrt(30))
    assert kl.value == pytest.approx(float(parts.kl.mean()))
    assert reconstruction.value == pytest.approx(float(parts.reconstruction.mean()))
    other = elbo_parts(model, data.test, seed=7, purpose="validation")
    assert not torch.equal(parts.reconstruction, other.reconstruction)
