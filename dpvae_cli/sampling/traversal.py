"""Walks through the latent spaces: a line between two examples, a sweep of each dimension (5.3)."""

from typing import Literal

import numpy as np
import torch

from dpvae_cli.foundation.shapes import Codes, OtherCodes
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.model import VAE
from dpvae_cli.sampling.density_map import density_map
from dpvae_cli.sampling.encodings import decode

Space = Literal["z0", "z"]
FINE = 201
"""Points of the path itself; its lowest log q(z) is read off these, not off the decoded few."""


@torch.no_grad()
def line(
    model: VAE, aggregate: AggregatePosterior, start: Codes, end: Codes, *, space: Space, steps: int
) -> dict[str, np.ndarray]:
    """Walk straight from one code to another in z0 or z and decode every step.

    A straight line in z0 is a curve in z. Source: paper, section 5.3 and Figure 6 (11 steps).

    Args:
        model: the trained model.
        aggregate: q(z), for the log-density along the path.
        start: `(1, latent)`, in z.
        end: `(1, latent)`, in z.
        space: where the walk is straight.
        steps: points on the path, both ends included.
    """
    ends = torch.cat([start, end]).to(model.device)
    if space == "z0":
        ends = model.prior.to_generation(ends)[0]
    z, z0 = _between(model, ends, space, steps)
    path, _ = _between(model, ends, space, FINE)
    return {
        "line_z": z.cpu().numpy(),
        "line_z0": z0.cpu().numpy(),
        "line_decoded": decode(model, z).numpy(),
        "line_log_q": aggregate.log_prob(z).cpu().numpy(),
        "path_z": path.cpu().numpy(),
        "path_log_q": aggregate.log_prob(path).cpu().numpy(),
    }


def _between(model: VAE, ends: OtherCodes, space: Space, steps: int) -> tuple[Codes, Codes]:
    """Return points on the line between two ends given in `space`, in z and in z0."""
    share = torch.linspace(0, 1, steps, device=ends.device, dtype=ends.dtype).unsqueeze(1)
    points = (1 - share) * ends[:1] + share * ends[1:]
    if space == "z0":
        return model.prior.to_representation(points)[0], points
    return points, model.prior.to_generation(points)[0]


@torch.no_grad()
def sweep(
    model: VAE,
    aggregate: AggregatePosterior,
    centre: Codes,
    *,
    dimensions: int,
    reach: float,
    steps: int,
) -> dict[str, np.ndarray]:
    """Move one example's code along each of the dimensions that vary most under q(z).

    Source: paper, section 5.3 and Figure 8: +-5 standard deviations, largest deviations first.

    Args:
        model: the trained model.
        aggregate: q(z).
        centre: `(1, latent)`, in z.
        dimensions: how many dimensions, at most L.
        reach: how far to either side, in standard deviations under q(z).
        steps: points of each sweep.
    """
    deviations = standard_deviations(aggregate)
    chosen = torch.argsort(deviations, descending=True)[:dimensions]
    z = centre.cpu().expand(len(chosen), steps, -1).clone()
    offsets = torch.linspace(-reach, reach, steps, dtype=z.dtype)
    for row, dimension in enumerate(chosen.tolist()):
        z[row, :, dimension] += offsets * deviations[dimension].to(z.dtype)
    decoded = decode(model, z.flatten(0, 1))
    return {
        "sweep_dimensions": chosen.numpy(),
        "sweep_standard_deviations": deviations[chosen].numpy(),
        "sweep_offsets": offsets.numpy(),
        "sweep_z": z.numpy(),
        "sweep_decoded": decoded.unflatten(0, (len(chosen), steps)).numpy(),
    }


def standard_deviations(aggregate: AggregatePosterior) -> torch.Tensor:
    """Return each dimension's standard deviation under q(z): within plus between components."""
    within = torch.exp(aggregate.log_variance).mean(dim=0)
    between = aggregate.mean.var(dim=0, correction=0)
    return torch.sqrt(within + between).cpu()


def traverse(
    model: VAE,
    aggregate: AggregatePosterior,
    start: Codes,
    end: Codes,
    *,
    space: Space = "z0",
    steps: int = 11,
    dimensions: int = 5,
    reach: float = 5.0,
) -> dict[str, np.ndarray]:
    """Return one traversal's record: the line, the sweeps from `start`, and at L = 2 the map."""
    record = line(model, aggregate, start, end, space=space, steps=steps)
    record |= sweep(
        model,
        aggregate,
        start,
        dimensions=min(dimensions, model.latent_dim),
        reach=reach,
        steps=steps,
    )
    if model.latent_dim == 2:
        record |= density_map(aggregate, also=record["line_z"])
    return {"space": np.array(space), **record}
