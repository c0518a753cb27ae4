import math

import pytest
import torch

from dpvae_cli.evaluation.evaluate import evaluate
from dpvae_cli.evaluation.leakage import leakage_score
from dpvae_cli.priors import Decoupled, StandardNormalPrior
from dpvae_cli.recipe import Evaluation
from tests.small import gaussian_posterior_vae, random_dataset

LOG_Q = torch.tensor([-1.0, -2.0, -3.0, -4.0])
LOG_P = torch.tensor([-0.5, -5.0, -6.0, -20.0])


def test_by_hand():
    value, error = leakage_score(LOG_Q, LOG_P, threshold=-5.5)
    terms = [0.0, 0.0, 3.0, 16.0]
    mean = sum(terms) / 4
    assert value == pytest.approx(mean), "over all samples, not only those below"
    variance = sum((term - mean) ** 2 for term in terms) / 3
    assert error == pytest.approx(math.sqrt(variance / 4))
    assert leakage_score(LOG_Q, LOG_P, threshold=-5.0)[0] == pytest.approx(mean), "strictly below"
    assert leakage_score(LOG_Q, LOG_P, threshold=-30.0) is None


def test_the_printed_ratio_changes_the_ratio_alone():
    in_ratio = LOG_P + 1
    value, _ = leakage_score(LOG_Q, LOG_P, threshold=-5.5, log_p_ratio=in_ratio)
    assert value == pytest.approx((2.0 + 15.0) / 4)


def test_of_a_wide_posterior_by_quadrature():
    """q(z) = N(0, 4 I) leaks out of N(0, I); LS(tau) is a one-dimensional integral in |z|^2."""
    log_variance = torch.full((2,), math.log(4.0))
    model = gaussian_posterior_vae(torch.zeros(2), log_variance, StandardNormalPrior(2))
    thresholds = (-90.0, -10.0, -5.0, -1.0)
    sizes = Evaluation(samples=20_000, thresholds=thresholds)
    leak, printed = evaluate(model, random_dataset(2), ["leak"], evaluation=sizes)
    radius = torch.linspace(0, 20, 20_001, dtype=torch.float64)
    log_p = -0.5 * radius**2 - math.log(2 * math.pi)
    log_q = -(radius**2) / 8 - math.log(2 * math.pi * 4)
    density = log_q.exp() * 2 * math.pi * radius
    assert leak.details["values"][0] is None
    for tau, value, error in list(
        zip(thresholds, leak.details["values"], leak.details["standard_errors"], strict=True)
    )[1:]:
        expected = float(torch.trapezoid(density * (log_q - log_p) * (log_p < tau), radius))
        assert abs(value - expected) < 4 * error, tau
    assert printed.details["values"] == leak.details["values"], "the identity has no Jacobian"


def test_the_printed_ratio_leaves_the_jacobian_out():
    torch.manual_seed(0)
    prior = Decoupled(hidden=8).build(2, None, (2,))
    model = gaussian_posterior_vae(torch.zeros(2), torch.full((2,), 1.0), prior)
    leak, printed = evaluate(model, random_dataset(2), ["leak"], evaluation=Evaluation(samples=500))
    assert leak.details["shares_below"] == printed.details["shares_below"]
    assert leak.details["quantile_values"] != printed.details["quantile_values"]


def test_quantile_thresholds_are_those_of_the_prior():
    model = gaussian_posterior_vae(torch.zeros(2), torch.zeros(2), StandardNormalPrior(2))
    sizes = Evaluation(samples=20_000)
    leak, _ = evaluate(model, random_dataset(2), ["leak"], evaluation=sizes)
    details = leak.details
    for level, threshold, share in zip(
        details["quantiles"],
        details["quantile_thresholds"],
        details["quantile_shares_below"],
        strict=True,
    ):
        exact = math.log(level) - math.log(2 * math.pi)
        tolerance = 5 * math.sqrt((1 - level) / (level * 20_000))
        assert threshold == pytest.approx(exact, abs=tolerance)
        assert share == pytest.approx(level, abs=5 * math.sqrt(2 * level / 20_000))
