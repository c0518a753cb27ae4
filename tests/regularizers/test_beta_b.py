"""The capacity schedule and the distance of the mean KL from it."""

import pytest
from torch.testing import assert_close

from dpvae_cli.foundation.randomness import stream
from dpvae_cli.regularizers import BetaB
from dpvae_cli.regularizers.beta_b import capacity
from tests.mathematics.random_models import random_posterior
from tests.regularizers.cases import (
    BATCH,
    LATENT,
    PRIORS,
    TRAINING,
    build,
    kind_of,
    random_prior,
    terms_of,
    weighted,
)


@pytest.mark.parametrize(
    ("step", "nats"), [(1, 0.025), (100, 2.5), (500, 12.5), (1000, 25.0), (9999, 25.0)]
)
def test_capacity(step, nats):
    assert capacity(step, max_capacity=25.0, stop_step=1000) == pytest.approx(nats)


@pytest.mark.parametrize("prior_class", PRIORS, ids=kind_of)
@pytest.mark.parametrize(("iteration", "nats"), [(0, 1.0), (19, 20.0), (39, 40.0), (80, 40.0)])
def test_terms_hold_the_mean_kl_at_the_capacity(iteration, nats, prior_class):
    posterior, prior = random_posterior(BATCH, LATENT), random_prior(prior_class)
    z = posterior.sample(generator=stream(0, "z"))
    regularizer = build(BetaB(gamma=3.0, max_capacity=40.0, stop_step=40))
    terms = terms_of(regularizer, posterior, z, prior, iteration=iteration)
    kl = prior.kl(posterior, z)
    assert_close(terms["kl"].value, kl)
    assert terms["capacity"].value.item() == pytest.approx(nats)
    assert_close(terms["capacity_gap"].value, (kl.mean() - nats).abs())
    assert_close(weighted(terms), 3 * (kl.mean() - nats).abs())


def test_kl_below_the_capacity_is_pushed_up():
    prior = random_prior(PRIORS[0])
    gradients = []
    for iteration in (0, 999_999):
        posterior = random_posterior(BATCH, LATENT)
        z = posterior.sample(generator=stream(0, "z"))
        regularizer = build(BetaB(max_capacity=1000.0, stop_step=1_000_000))
        weighted(terms_of(regularizer, posterior, z, prior, iteration=iteration)).backward()
        gradients.append(posterior.mean.grad)
    assert_close(gradients[0], -gradients[1])


def test_an_open_stop_step_is_no_regularizer():
    with pytest.raises(ValueError, match="stop_step"):
        BetaB().build(LATENT, TRAINING)
