"""The flow along learned velocities: integration, traces and the loss against closed forms."""

import math

import pytest
import torch
from torch.testing import assert_close

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.mathematics.flow_matching import (
    EXACT_DIMENSIONS,
    PROBES,
    RungeKuttaStep,
    VelocityField,
    VelocityFlow,
)
from dpvae_cli.priors import FlowMatching, StandardizedPrior
from dpvae_cli.recipe.loading import load_recipe
from dpvae_cli.recipe.validation import spec_by_name
from tests.mathematics.random_models import normal, randomised

WIDE = EXACT_DIMENSIONS + 16


def flow(latent_dim: int, *, hidden: int = 8, steps: int = 3) -> VelocityFlow:
    return randomised(VelocityFlow(latent_dim, hidden=hidden, blocks=2, steps=steps), gain=0.9)


def test_integration_is_of_order_four():
    """dx/dt = t a x has the solution x exp(a t^2 / 2), and y the integral of its rate t a."""
    a, x = 1.3, normal(5, 1)
    still = x.new_zeros(1, len(x))

    class Rates(torch.nn.Module):
        def forward(self, x, t):
            return t * a * x, (t * a).expand(1, len(x))

    errors = []
    for steps in (4, 8):
        step = RungeKuttaStep(Rates(), 1 / steps)
        found, total = step.repeat(x, still, start=0.0, steps=steps)
        assert_close(total, torch.full_like(total, a / 2))
        errors.append(float((found - x * math.exp(a / 2)).abs().max()))
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.3)
    back, _ = RungeKuttaStep(Rates(), -1 / 50).repeat(found, still, start=1.0, steps=50)
    assert_close(back, x, rtol=1e-4, atol=0)


def test_derivatives_along_directions_are_those_of_autograd():
    field = randomised(VelocityField(3, hidden=8, blocks=2), gain=0.9)
    x, directions, t = normal(4, 3), normal(2, 3, seed=1), torch.tensor(0.3).double()
    velocity, forms = field.with_quadratic_forms(x, t, directions)
    assert_close(velocity, field(x, t.expand(4)))
    for row in range(4):
        jacobian = torch.autograd.functional.jacobian(lambda y: field(y[None], t)[0], x[row])
        expected = torch.einsum("dl,lm,dm->d", directions, jacobian, directions)
        assert_close(forms[:, row], expected)


@torch.no_grad()
def test_above_64_dimensions_traces_are_estimated_and_say_how_well():
    g, z0 = flow(WIDE), normal(40, WIDE)
    assert not g.is_exact
    assert g.directions.shape == (PROBES, WIDE)
    _, estimated = g.inverse(z0)
    error = g.log_det_error(z0)
    g.directions, g.is_exact = torch.eye(WIDE).double(), True
    _, exact = g.inverse(z0)
    deviations = (estimated - exact) / error
    assert (deviations.abs() < 5).all()
    assert float(deviations.square().mean()) == pytest.approx(1, abs=0.9)
    prior = StandardizedPrior(FlowMatching(hidden=8, steps=2).build(WIDE))
    assert prior.log_det_estimate.probes == PROBES
    assert StandardizedPrior(FlowMatching().build(2)).log_det_estimate is None


@torch.no_grad()
def test_chunks_and_points_are_the_same_as_the_whole():
    g, z0 = flow(2), normal(50, 2)
    z, log_abs_det = g.inverse(z0)
    assert_close(g.points(z0), z)
    g._chunk_rows = 7
    assert_close(g.inverse(z0), (z, log_abs_det))


@torch.no_grad()
def test_the_loss_is_least_at_the_velocity_of_the_paths():
    """For codes N(0, I) the best velocity is (2t - 1) / (t^2 + (1-t)^2) x; its loss is known.

    |z - z0|^2 has mean 2L, of which x_t explains L times the mean of (2t - 1)^2 / (t^2 + (1-t)^2).
    """
    g, z = VelocityFlow(2, hidden=4, blocks=1, steps=2).double(), normal(100_000, 2)
    still = g.matching_loss(z, generator=stream(0, "loss")).mean()
    assert float(still) == pytest.approx(4, abs=0.05)
    t = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    explained = 2 * ((2 * t - 1).square() / (t.square() + (1 - t).square())).mean()

    class Best(torch.nn.Module):
        def forward(self, x, t, context=None):
            return ((2 * t - 1) / (t.square() + (1 - t).square())).unsqueeze(1) * x

    g.velocity = Best()
    best = g.matching_loss(z, generator=stream(0, "loss")).mean()
    assert float(best) == pytest.approx(4 - float(explained), abs=0.05)


def test_it_is_not_trained_with_a_vae_and_says_why():
    assert load_recipe("vae_moons", ["fit_prior=flow_matching"]).fit_prior == FlowMatching()
    with pytest.raises(UsageError, match=r"regression on codes.*use fit_prior=flow_matching"):
        load_recipe("vae_moons", ["prior=flow_matching"])
    with pytest.raises(UsageError, match="cannot be trained with the VAE"):
        spec_by_name("prior", "flow_matching")
