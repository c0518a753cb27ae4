"""log q(z), and log p(z) beside it, on a grid over a two-dimensional representation space."""

import numpy as np
import torch

from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.model import VAE
from dpvae_cli.sampling.samples import from_codes

CELLS = 160
MARGIN, DEVIATIONS = 0.15, 3.5
"""What the grid adds around the codes: a share of their range, or standard deviations."""


def density_map(
    aggregate: AggregatePosterior, *, also: np.ndarray, model: VAE | None = None
) -> dict[str, np.ndarray]:
    """Return log q(z), and log p(z) where a model is given, on a grid over the codes and `also`."""
    points = np.concatenate([aggregate.mean.cpu().numpy(), also])
    low, high = points.min(axis=0), points.max(axis=0)
    widest = torch.exp(0.5 * aggregate.log_variance).amax(dim=0).cpu().numpy()
    margin = np.maximum(MARGIN * (high - low), DEVIATIONS * widest)
    grid_x, grid_y = (np.linspace(low[i] - margin[i], high[i] + margin[i], CELLS) for i in range(2))
    z = torch.from_numpy(np.stack(np.meshgrid(grid_x, grid_y), axis=-1).reshape(-1, 2))
    shape = (CELLS, CELLS)
    maps = {"log_q": aggregate.log_prob(z).cpu().numpy().reshape(shape)}
    if model is not None:
        maps["log_p"] = from_codes(model, z).log_p.numpy().reshape(shape)
    return {"grid_x": grid_x, "grid_y": grid_y, **maps}
