"""The MMD term: whose samples, which kernel."""

import pytest
from pydantic import ValidationError
from torch.testing import assert_close

from dpvae_cli.foundation.randomness import stream
from dpvae_cli.mathematics.divergences import mmd_squared
from dpvae_cli.regularizers import Info
from tests.mathematics.random_models import normal, random_posterior
from tests.regularizers.cases import BATCH, LATENT, PRIORS, build, kind_of, random_prior, terms_of


@pytest.mark.parametrize("prior_class", PRIORS, ids=kind_of)
@pytest.mark.parametrize(("given", "used"), [(None, float(LATENT**2)), (2.5, 2.5)])
def test_mmd_compares_the_codes_with_samples_of_the_prior(given, used, prior_class):
    prior, z = random_prior(prior_class), normal(BATCH, LATENT)
    terms = terms_of(build(Info(bandwidth=given)), random_posterior(BATCH, LATENT), z, prior)
    samples = prior.sample(BATCH, generator=stream(0, "further"))
    assert_close(terms["mmd"].value, mmd_squared(z, samples, bandwidth=used))


def test_lambda_is_spelt_lambda():
    assert Info.model_validate({"lambda": 5.0}).lambda_ == 5.0
    with pytest.raises(ValidationError):
        Info.model_validate({"lambda_": 5.0})


def test_alpha_above_one_is_refused():
    with pytest.raises(ValidationError):
        Info(alpha=1.5)
