"""The resampled prior: its formula, its truncation, and the two estimates of its normaliser."""

import math

import pytest
import torch
from torch.testing import assert_close

import dpvae_cli as dpvae
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.priors import ResampledPrior
from dpvae_cli.priors.resampled import DECAY
from tests.mathematics.random_models import normal, randomised


def built(*, truncation: int = 10, latent_dim: int = 2, seed: int = 3) -> ResampledPrior:
    prior = ResampledPrior(latent_dim, truncation=truncation, hidden=16, draws=500)
    return randomised(prior, gain=2.0, seed=seed)


def acceptance(prior, z):
    return torch.sigmoid(prior.acceptance(z)).squeeze(-1)


@torch.no_grad()
@pytest.mark.parametrize("truncation", [2, 3, 100])
def test_density_is_the_paper_s_formula_at_the_normaliser_of_a_quadrature(truncation):
    prior = built(truncation=truncation).eval()
    axis = torch.linspace(-7, 7, 401, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    pi = torch.distributions.Normal(0.0, 1.0).log_prob(points).sum(dim=1).exp()
    normaliser = float((pi * acceptance(prior, points)).sum() * (14 / 400) ** 2)
    known = prior.log_normaliser
    assert known.standard_error < 0.01
    assert abs(known.value - math.log(normaliser)) < 4 * known.standard_error
    left = (1 - normaliser) ** (truncation - 1)
    expected = pi * (acceptance(prior, points) * (1 - left) / normaliser + left)
    assert_close(prior.log_prob(points).exp(), expected, rtol=0.03, atol=0)


@torch.no_grad()
def test_truncation_two_accepts_or_takes_the_next():
    """Of T = 2 the share that keeps its first proposal is Z."""
    prior = built(truncation=2).eval()
    first = prior._proposals(20_000, stream(0, "z"))
    kept = (prior.sample(20_000, generator=stream(0, "z")) == first).all(dim=1).double()
    share = math.exp(prior.log_normaliser.value)
    assert abs(float(kept.mean()) - share) < 4 * (share * (1 - share) / 20_000) ** 0.5 + 0.01


@torch.no_grad()
def test_nothing_but_rejection_still_ends():
    prior = built(truncation=5)
    prior.acceptance[-1].weight.zero_()
    prior.acceptance[-1].bias.fill_(-50.0)
    assert prior.sample(100, generator=stream(0, "z")).shape == (100, 2)
    normal_log_prob = torch.distributions.Normal(0.0, 1.0).log_prob(normal(5, 2)).sum(dim=1)
    assert_close(prior.log_prob(normal(5, 2)), normal_log_prob, rtol=1e-4, atol=1e-4)


def test_training_has_fresh_proposals_a_moving_average_and_the_fresh_gradient():
    prior = built()
    means = []
    for step in range(3):
        proposals = prior._proposals(prior.draws, stream(0, "resampled", step))
        means.append(acceptance(prior, proposals).mean().item())
    for _ in range(3):
        prior.log_prob(normal(5, 2))
    average = means[0]
    for mean in means[1:]:
        average = DECAY * average + (1 - DECAY) * mean
    assert float(prior.smoothed) == pytest.approx(average, rel=1e-9)
    assert int(prior.estimates) == 3
    estimate = prior._training_estimate()
    assert estimate.item() == pytest.approx(float(prior.smoothed), rel=1e-12)
    proposals = prior._proposals(prior.draws, stream(0, "resampled", 3))
    fresh = acceptance(prior, proposals).mean()
    expected = torch.autograd.grad(fresh, list(prior.acceptance.parameters()))
    found = torch.autograd.grad(estimate, list(prior.acceptance.parameters()))
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other)


def test_evaluation_leaves_the_state_alone_and_follows_the_weights():
    prior, z = built().eval(), normal(5, 2)
    state = {name: tensor.clone() for name, tensor in prior.state_dict().items()}
    before = prior.log_prob(z)
    assert torch.equal(prior.log_prob(z), before)
    assert all(torch.equal(t, state[name]) for name, t in prior.state_dict().items())
    with torch.no_grad():
        prior.acceptance[-1].bias += 1.0
    assert not torch.allclose(prior.log_prob(z), before, rtol=1e-3)
    prior.train()
    with torch.no_grad():
        prior.log_prob(z)
    assert int(prior.estimates) == 0, "no step, no estimate"


def test_the_gradient_in_evaluation_mode_has_that_of_log_z():
    """By finite differences in the last bias, in which a is monotonic and the density is not."""
    prior, z = built(truncation=10).eval(), normal(20, 2)
    value = prior.log_prob(z).mean()
    with torch.no_grad():
        assert torch.equal(prior.log_prob(z).mean(), value)
    [gradient] = torch.autograd.grad(value, [prior.acceptance[-1].bias])
    step, differences = 1e-5, []
    for sign in (1, -1):
        with torch.no_grad():
            prior.acceptance[-1].bias += sign * step
            differences.append(prior.log_prob(z).mean())
            prior.acceptance[-1].bias -= sign * step
    expected = (differences[0] - differences[1]) / (2 * step)
    assert float(gradient) == pytest.approx(float(expected), rel=1e-5)
    assert all(weight.grad is None for weight in prior.parameters())


def test_it_learns_a_ring():
    """What N(0, I) cannot be: the density inside falls, the normaliser with it."""
    torch.manual_seed(0)
    prior = ResampledPrior(2, truncation=100, hidden=32, draws=256)
    optimizer = torch.optim.Adam(prior.parameters(), lr=1e-2)
    angle = 2 * math.pi * torch.rand(2_000)
    ring = torch.stack([angle.cos(), angle.sin()], dim=1) * 1.5 + 0.1 * torch.randn(2_000, 2)
    before = prior.eval().log_prob(ring).mean().item()
    prior.train()
    for _ in range(150):
        optimizer.zero_grad()
        (-prior.log_prob(ring).mean()).backward()
        optimizer.step()
    prior.eval()
    assert prior.log_prob(ring).mean().item() > before + 0.3
    drawn = prior.sample(2_000, generator=stream(0, "z")).norm(dim=1)
    assert float((drawn < 0.5).double().mean()) < 0.05, "N(0, I) has 0.12"


def test_results_say_how_sure_the_density_is():
    from tests.small import small_recipe

    recipe = small_recipe("vae", "prior=resampled")
    model, data = dpvae.build(recipe), recipe.data.load()
    [result] = dpvae.evaluate(model, data, ["skl"], evaluation=recipe.evaluation)
    assert result.details["log_normaliser"] == model.eval().prior.log_normaliser._asdict()
    assert result.details["log_normaliser"]["standard_error"] > 0
