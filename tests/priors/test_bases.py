"""The mixture and the Student t: against torch's distributions and SciPy's test of samples."""

import pytest
import torch
from scipy import stats
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, StudentT
from torch.testing import assert_close

from dpvae_cli.foundation.randomness import stream
from dpvae_cli.priors import Decoupled, MixturePrior, StudentTPrior
from dpvae_cli.priors.student_t import INITIAL_FREEDOM
from tests.mathematics.random_models import normal, randomised


def test_student_t_is_torchs():
    prior, z = randomised(StudentTPrior(3), seed=1), 3 * normal(20, 3)
    expected = StudentT(prior.degrees_of_freedom).log_prob(z).sum(dim=1)
    assert_close(prior.log_prob(z), expected)


def test_its_samples_are_student_t():
    prior = StudentTPrior(2).double()
    prior.raw.data = torch.tensor([0.0, 3.0], dtype=torch.float64)
    with torch.no_grad():
        z = prior.sample(5_000, generator=stream(0, "t"))
    for column, nu in zip(z.T.numpy(), prior.degrees_of_freedom.tolist(), strict=True):
        assert stats.kstest(column, stats.t(nu).cdf).pvalue > 1e-3
        assert stats.kstest(column, stats.norm.cdf).pvalue < 0.01
    assert abs(stats.pearsonr(*z.clamp(-4, 4).T.numpy()).statistic) < 0.06


def test_degrees_of_freedom_begin_at_a_number_and_stay_above_two():
    prior = StudentTPrior(4)
    assert_close(prior.degrees_of_freedom, torch.full((4,), INITIAL_FREEDOM))
    prior.raw.data -= 100
    assert (prior.degrees_of_freedom >= 2).all()


def test_the_gradient_of_a_sample_in_its_degrees_of_freedom_is_that_of_its_quantile():
    """At fixed uniforms d sample / d nu is what finite differences say."""
    prior = StudentTPrior(2).double()
    prior.sample(50, generator=stream(0, "t")).square().sum().backward()
    step = 1e-6
    totals = []
    for sign in (1, -1):
        moved = StudentTPrior(2).double()
        moved.raw.data[0] += sign * step
        totals.append(moved.sample(50, generator=stream(0, "t")).square().sum().item())
    assert prior.raw.grad[0].item() == pytest.approx((totals[0] - totals[1]) / (2 * step), rel=1e-4)


def test_mixture_is_torchs():
    prior, z = randomised(MixturePrior(3, 7), gain=2.0, seed=1), 2 * normal(20, 3)
    parts = Independent(Normal(prior.mean, torch.exp(0.5 * prior.log_variance)), 1)
    expected = MixtureSameFamily(Categorical(logits=prior.logits), parts)
    assert_close(prior.log_prob(z), expected.log_prob(z))
    with torch.no_grad():
        assert_close(prior.log_prob(z), expected.log_prob(z))


def test_components_are_drawn_by_their_weights():
    prior = MixturePrior(1, 3).double()
    prior.logits.data = torch.tensor([0.2, 0.0, 0.8], dtype=torch.float64).log()
    prior.mean.data = torch.tensor([[-10.0], [0.0], [10.0]], dtype=torch.float64)
    with torch.no_grad():
        z = prior.sample(10_000, generator=stream(0, "mixture")).squeeze(1)
    assert float((z.abs() < 5).double().mean()) == 0
    assert abs(float((z > 0).double().mean()) - 0.8) < 4 * (0.16 / 10_000) ** 0.5


def test_a_decoupled_prior_has_the_base_it_is_told():
    assert type(Decoupled(base="student_t").build(2).generation) is StudentTPrior
    mixture = Decoupled(base="mixture", base_components=3).build(2).generation
    assert (type(mixture), len(mixture.logits)) == (MixturePrior, 3)


def test_the_paper_s_prior_has_no_more_state_than_before():
    """Checkpoints made before bases could be chosen still load."""
    names = {name.split(".")[0] for name in Decoupled().build(2).state_dict()}
    assert names == {"bijection"}
