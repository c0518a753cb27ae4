"""Weights of the terms: what Table 2's numbers and `weights_per` turn into."""

import pytest

from dpvae_cli.priors import Decoupled, StandardNormal
from dpvae_cli.regularizers import BetaB, BetaH, BetaTc, Factor, Info, Vae
from tests.mathematics.random_models import normal, random_posterior
from tests.regularizers.cases import BATCH, LATENT, build, random_prior, spec_of, terms_of


def weights(spec, prior_class=StandardNormal) -> dict[str, float]:
    terms = terms_of(
        build(spec),
        random_posterior(BATCH, LATENT),
        normal(BATCH, LATENT),
        random_prior(prior_class),
    )
    return {name: term.weight for name, term in terms.items()}


def test_kl_weights():
    assert weights(Vae()) == {"kl": 1.0}
    assert weights(BetaH(beta=3.0)) == {"kl": 3.0}
    assert weights(BetaB(gamma=7.0, stop_step=5)) == {
        "capacity_gap": 7.0,
        "kl": 0.0,
        "capacity": 0.0,
    }


@pytest.mark.parametrize(("per", "divisor"), [("example", 1), ("batch", BATCH)])
def test_beta_tc(per, divisor):
    spec = BetaTc(alpha=2.0, beta=5.0, gamma=8.0, weights_per=per)
    assert weights(spec) == {
        "mutual_information": 2 / divisor,
        "total_correlation": 5 / divisor,
        "dimension_wise_kl": 8 / divisor,
    }


@pytest.mark.parametrize(("per", "divisor"), [("example", 1), ("batch", BATCH)])
def test_beta_tc_joint_never_rewards_total_correlation(per, divisor):
    spec = BetaTc(alpha=2.0, beta=5.0, gamma=8.0, weights_per=per)
    assert weights(spec, Decoupled) == {
        "mutual_information": 2 / divisor,
        "total_correlation": 4 / divisor,
        "marginal_kl": 8 / divisor,
    }


@pytest.mark.parametrize(("per", "divisor"), [("example", 1), ("batch", BATCH)])
def test_factor_divides_gamma_alone(per, divisor):
    spec = spec_of(Factor, gamma=100.0, weights_per=per)
    assert weights(spec) == {"kl": 1.0, "total_correlation": 100 / divisor}


@pytest.mark.parametrize(("per", "divisor"), [("example", 1), ("batch", BATCH)])
def test_info_divides_the_mmd_alone(per, divisor):
    spec = spec_of(Info, alpha=0.25, lambda_=100.0, weights_per=per)
    assert weights(spec) == {"kl": 0.75, "mmd": 99.25 / divisor}


@pytest.mark.parametrize("kind", [Vae, BetaH, BetaB])
def test_the_others_have_no_such_field(kind):
    assert "weights_per" not in kind.model_fields
