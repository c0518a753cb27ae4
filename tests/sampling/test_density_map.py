import numpy as np
import pytest
import torch

from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.plotting import style
from dpvae_cli.sampling.plane import EMPTY, density_map


@pytest.mark.parametrize("deviation", [0.02, 0.5, 3.0])
def test_the_map_holds_everything_and_is_empty_along_its_sides(deviation):
    """No straight edge: q(z) falls below what is drawn before the map ends."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(300, 2, generator=generator, dtype=torch.float64) * torch.tensor([3.0, 0.5])
    variance = torch.full_like(mean, deviation**2)
    aggregate = AggregatePosterior(mean, variance.log())
    also = np.array([[9.0, -4.0]])
    found = density_map(aggregate, also=also)
    x, y, log_q = (found[name] for name in ("grid_x", "grid_y", "log_q"))
    assert x[-1] - x[0] == pytest.approx(y[-1] - y[0]), "panels are square"
    points = np.concatenate([mean.numpy(), also])
    assert ((points > [x[0], y[0]]) & (points < [x[-1], y[-1]])).all()
    sides = np.concatenate([log_q[0], log_q[-1], log_q[:, 0], log_q[:, -1]])
    assert sides.max() < log_q.max() - EMPTY
    assert EMPTY == style.DEPTH
    z = torch.tensor([[x[7], y[150]]])
    assert log_q[150, 7] == pytest.approx(float(aggregate.log_prob(z)))
