import math

import pytest
import torch

from dpvae_cli.evaluation.evaluate import evaluate
from dpvae_cli.evaluation.leakage import leakage_score, leakage_score_at_quantile
from dpvae_cli.mathematics.estimates import error_of_difference
from dpvae_cli.priors import Decoupled, StandardNormalPrior
from dpvae_cli.recipe import Evaluation
from tests.small import gaussian_posterior_vae, random_dataset

LOG_Q = torch.tensor([-1.0, -2.0, -3.0, -4.0])
LOG_P = torch.tensor([-0.5, -5.0, -6.0, -20.0])


def test_by_hand():
    score = leakage_score(LOG_Q, LOG_P, threshold=-5.5)
    terms = [0.0, 0.0, 3.0, 16.0]
    mean = sum(terms) / 4
    assert score.value == pytest.approx(mean), "over all samples, not only those below"
    variance = sum((term - mean) ** 2 for term in terms) / 3
    assert score.standard_error == pytest.approx(math.sqrt(variance / 4))
    assert score.share_below == 0.5
    assert leakage_score(LOG_Q, LOG_P, threshold=-5.0).value == pytest.approx(mean), "strictly"
    below_all = leakage_score(LOG_Q, LOG_P, threshold=-30.0)
    assert (below_all.value, below_all.standard_error, below_all.share_below) == (0, 0, 0)


def test_the_printed_ratio_changes_the_ratio_alone():
    in_ratio = LOG_P + 1
    score = leakage_score(LOG_Q, LOG_P, threshold=-5.5, log_p_ratio=in_ratio)
    assert score.value == pytest.approx((2.0 + 15.0) / 4)


@pytest.mark.parametrize("level", [0.001, 0.01, 0.05, 0.25])
def test_the_error_at_a_quantile_holds_that_of_the_quantile(level):
    """q(z) = N(0, 1.2^2 I) in 8 dimensions: the quantile of 5,000 draws moves the score most."""
    generator = torch.Generator().manual_seed(0)

    def squared_norm() -> torch.Tensor:
        return torch.randn(5_000, 8, generator=generator).double().square().sum(dim=1)

    found = []
    for _ in range(200):
        base, prior = squared_norm(), squared_norm()
        log_q = -base / 2 - 8 * math.log(1.2)
        found.append(leakage_score_at_quantile(log_q, -0.72 * base, -prior / 2, level=level))
    spread = float(torch.tensor([score.value for score in found]).std())
    stated = float(torch.tensor([score.standard_error for score in found]).mean())
    # 200 draws tell a spread to 5 %; without the quantile's error 0.1 % has a ratio of 2.6
    assert 0.85 < spread / stated < 1.2
    pairs = zip(found[::2], found[1::2], strict=True)
    independent = [error_of_difference(a.error_terms, b.error_terms) for a, b in pairs]
    assert float(torch.tensor(independent).mean()) == pytest.approx(stated * 2**0.5, rel=0.1)


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
