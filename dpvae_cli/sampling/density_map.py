"""log q(z), and log p(z) beside it, on a grid over a two-dimensional representation space."""

import numpy as np
import torch

from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.model import VAE
from dpvae_cli.sampling.samples import from_codes

CELLS = 200
MARGIN, DEVIATIONS = 0.08, 3.5
"""What the grid adds around the codes: a share of their range, or standard deviations."""
EMPTY = 12.0
"""Nats below the peak of log q(z) at which pictures of it are white."""
GROWTH, ROUNDS = 1.15, 5


def density_map(
    aggregate: AggregatePosterior, *, also: np.ndarray, model: VAE | None = None
) -> dict[str, np.ndarray]:
    """Return log q(z), and log p(z) where a model is given, on a square grid.

    The square holds all codes and `also`, and grows until log q(z) is empty along its sides, so
    that no picture cuts the density off.
    """
    means = aggregate.mean.cpu().numpy()
    widest = torch.exp(0.5 * aggregate.log_variance).amax(dim=0).cpu().numpy()
    low, high = (end(np.concatenate([means, also]), axis=0) for end in (np.min, np.max))
    low = np.minimum(low - MARGIN * (high - low), means.min(axis=0) - DEVIATIONS * widest)
    high = np.maximum(high + MARGIN * (high - low), means.max(axis=0) + DEVIATIONS * widest)
    centre, half = (low + high) / 2, float((high - low).max()) / 2
    floor = float(aggregate.log_prob(aggregate.mean[:1_000]).max()) - EMPTY
    for _ in range(ROUNDS):
        along, side = np.linspace(-half, half, CELLS), np.full(CELLS, half)
        pairs = [(along, side), (along, -side), (side, along), (-side, along)]
        sides = centre + np.concatenate([np.stack(pair, axis=-1) for pair in pairs])
        if aggregate.log_prob(torch.from_numpy(sides)).max() < floor:
            break
        half *= GROWTH
    grid_x, grid_y = (np.linspace(c - half, c + half, CELLS) for c in centre)
    z = torch.from_numpy(np.stack(np.meshgrid(grid_x, grid_y), axis=-1).reshape(-1, 2))
    shape = (CELLS, CELLS)
    maps = {"log_q": aggregate.log_prob(z).cpu().numpy().reshape(shape)}
    if model is not None:
        maps["log_p"] = from_codes(model, z).log_p.numpy().reshape(shape)
    return {"grid_x": grid_x, "grid_y": grid_y, **maps}
