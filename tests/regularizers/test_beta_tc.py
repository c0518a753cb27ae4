"""The decomposed KL: it telescopes, its forms agree where they must, and its parts are right."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dpvae_cli.mathematics.gaussian import standard_normal_log_prob
from dpvae_cli.priors import Decoupled, Prior, StandardNormal
from dpvae_cli.regularizers import BetaTc
from dpvae_cli.regularizers.base import DataSizes
from tests.mathematics.random_models import normal, random_posterior
from tests.mathematics.test_aggregate_posterior import marginals, mixture
from tests.regularizers.cases import BATCH, LATENT, PRIORS, build, kind_of, random_prior, terms_of

each_prior = pytest.mark.parametrize("prior_class", PRIORS, ids=kind_of)
POSTERIOR = random_posterior(BATCH, LATENT)
Z = POSTERIOR.mean.detach() + 0.3 * normal(BATCH, LATENT, seed=6)


def total(spec: BetaTc, prior: Prior) -> Tensor:
    """Return the weighted terms of each example."""
    terms = terms_of(build(spec), POSTERIOR, Z, prior)
    return sum(term.weight * term.value for term in terms.values())


@dataclass
class WithoutJacobian:
    """A broken prior, as the released code's beta_tc had it: no log-determinant."""

    prior: Prior
    factorises: bool = False

    def log_prob(self, z: Tensor) -> Tensor:
        return standard_normal_log_prob(self.prior.to_generation(z)[0])

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        return self.prior.sample(n, generator=generator)

    def kl(self, posterior, z: Tensor) -> Tensor:
        return self.prior.kl(posterior, z)


def check_is_the_elbo(spec: BetaTc, *, terms_prior, prior: Prior) -> None:
    """Assert that the terms sum to log q(z|x) - log p(z) for each example."""
    expected = POSTERIOR.log_prob(Z) - prior.log_prob(Z)
    assert_close(total(spec, terms_prior), expected, rtol=0, atol=1e-10)


@each_prior
@pytest.mark.parametrize("sampling", ["stratified", "weighted"])
@pytest.mark.parametrize("form", ["auto", "joint", "printed"])
def test_weights_of_one_give_the_elbo(form, sampling, prior_class):
    prior = random_prior(prior_class)
    spec = BetaTc(alpha=1.0, beta=1.0, gamma=1.0, form=form, sampling=sampling)
    check_is_the_elbo(spec, terms_prior=prior, prior=prior)


@pytest.mark.parametrize("form", ["joint", "printed"])
def test_without_the_jacobian_they_do_not(form):
    prior = random_prior(Decoupled)
    spec = BetaTc(alpha=1.0, beta=1.0, gamma=1.0, form=form)
    with pytest.raises(AssertionError):
        check_is_the_elbo(spec, terms_prior=WithoutJacobian(prior), prior=prior)


@each_prior
def test_forms_agree_at_gamma_one_and_only_there(prior_class):
    prior = random_prior(prior_class)

    def both(gamma: float) -> list[Tensor]:
        return [
            total(BetaTc(alpha=2.0, beta=5.0, gamma=gamma, form=form), prior)
            for form in ("joint", "printed")
        ]

    assert_close(*both(1.0), rtol=0, atol=1e-10)
    joint, printed = both(3.0)
    assert (joint - printed).abs().min() > 1e-3


@pytest.mark.parametrize(
    ("prior_class", "form"), [(StandardNormal, "printed"), (Decoupled, "joint")]
)
def test_auto_goes_by_whether_the_prior_factorises(prior_class, form):
    prior = random_prior(prior_class)
    auto, chosen = (terms_of(build(BetaTc(form=f)), POSTERIOR, Z, prior) for f in ("auto", form))
    assert auto.keys() == chosen.keys()
    assert_close(total(BetaTc(form="auto"), prior), total(BetaTc(form=form), prior))


@each_prior
@pytest.mark.parametrize("form", ["joint", "printed"])
def test_whole_data_set_as_the_batch_equals_brute_force(form, prior_class):
    prior = random_prior(prior_class)
    training = DataSizes(batch_size=BATCH, dataset_size=BATCH)
    terms = terms_of(build(BetaTc(form=form), sizes=training), POSTERIOR, Z, prior)
    log_q = mixture(POSTERIOR.mean, POSTERIOR.log_variance).log_prob(Z)
    log_q_product = marginals(POSTERIOR.mean, POSTERIOR.log_variance, Z).sum(dim=-1)
    expected = {
        "mutual_information": POSTERIOR.log_prob(Z) - log_q,
        "total_correlation": log_q - log_q_product,
        "marginal_kl": log_q - prior.log_prob(Z),
        "dimension_wise_kl": log_q_product - prior.log_prob(Z),
    }
    assert len(terms) == 3
    for name, term in terms.items():
        assert_close(term.value, expected[name], rtol=1e-5, atol=1e-5)
