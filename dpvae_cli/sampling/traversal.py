"""Walks through the latent spaces: a line between two examples, a sweep of each dimension (5.3)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.model import VAE
from dpvae_cli.sampling.paths import Space, interpolate, standard_deviations
from dpvae_cli.sampling.plane import density_map
from dpvae_cli.sampling.samples import decode_to_data_units

FINE = 200
"""Minimal number of intervals of a path; its lowest log q(z) is that of all its points."""


@final
@dataclass(frozen=True)
class LatentTraversal:
    """A path in both latent spaces, straight in `space`; a step is every `stride`-th point of it.

    Args:
        space: where the path is straight.
        z: `(points, latent)`.
        z0: `(points, latent)`; None where the prior has no generation space.
        log_q: exact log q(z) of every point, nats, float64.
        stride: points from one step to the next.
        position: of each step, from 0 to 1 on a line; from the centre of a sweep, in standard
            deviations.
        dimension: the coordinate of `space` that a sweep moves; -1 for a line.
        standard_deviation: of that coordinate under q(z); NaN for a line.
    """

    space: Space
    z: Codes
    z0: Codes | None
    log_q: PerExample
    stride: int
    position: Tensor
    dimension: int = -1
    standard_deviation: float = float("nan")

    @property
    def lowest_log_q(self) -> float:
        """Return the lowest log q(z) on the path, in nats."""
        return float(self.log_q.min())


@torch.no_grad()
def line(
    model: VAE, aggregate: AggregatePosterior, start: Codes, end: Codes, *, space: Space, steps: int
) -> LatentTraversal:
    """Walk straight from one code to another in z0 or z.

    A straight line in z0 is a curve in z. Source: paper, section 5.3 and Figure 6 (11 steps).
    `start` and `end` are `(1, latent)`, in z, and two of the `steps`.
    """
    ends = _in_space(model, torch.cat([start, end]), space)
    [walk] = _walk(model, aggregate, ends[:1], ends[1:], space, torch.linspace(0, 1, steps))
    return walk


@torch.no_grad()
def sweeps(
    model: VAE,
    aggregate: AggregatePosterior,
    centre: Codes,
    *,
    space: Space,
    dimensions: int,
    reach: float,
    steps: int,
) -> list[LatentTraversal]:
    """Move one example's code along each of the coordinates that vary most under q(z).

    `centre` is `(1, latent)`, in z, and `reach` in standard deviations.

    Source: paper, section 5.3 and Figure 8: +-5 standard deviations, largest deviations first.
    """
    deviations = standard_deviations(model, aggregate, space=space)
    chosen = torch.argsort(deviations, descending=True, stable=True)[:dimensions]
    middle = _in_space(model, centre, space)
    away = reach * torch.diag(deviations)[chosen].to(middle)
    position = torch.linspace(-reach, reach, steps)
    walks = _walk(model, aggregate, middle - away, middle + away, space, position)
    return [
        replace(walk, dimension=dimension, standard_deviation=float(deviations[dimension]))
        for walk, dimension in zip(walks, chosen.tolist(), strict=True)
    ]


def _in_space(model: VAE, z: Codes, space: Space) -> Codes:
    z = z.to(model.device)
    return z if space == "z" else model.prior.to_generation(z)[0]


def _walk(
    model: VAE, aggregate: AggregatePosterior, start: Codes, end: Codes, space: Space, at: Tensor
) -> list[LatentTraversal]:
    """Walk from each start to its end in `space`, where positions are `at`."""
    intervals = len(at) - 1
    stride = max(1, -(-FINE // intervals))
    z, z0 = interpolate(model, start, end, space=space, points=stride * intervals + 1)
    log_q = aggregate.log_prob(z.flatten(0, 1)).cpu().view(len(z), -1)
    z, z0 = z.cpu(), None if z0 is None else z0.cpu()
    return [
        LatentTraversal(space, z[row], None if z0 is None else z0[row], log_q[row], stride, at)
        for row in range(len(z))
    ]


def record(
    model: VAE, aggregate: AggregatePosterior, walks: Sequence[LatentTraversal]
) -> dict[str, np.ndarray]:
    """Return walks of equally many steps as arrays whose first axis counts them.

    `walk_space`, `walk_dimension`, `walk_standard_deviation` (W,), `walk_position` (W, T), `walk_z`
    and `walk_z0` (W, T, L), `walk_log_q` (W, T), `walk_decoded` (W, T, *example) in data units; the
    path in finer steps, `path_z`, `path_z0` (W, P, L) and `path_log_q` (W, P); `lowest_log_q` (W,).
    What is of z0 is left out where the prior has none. For two latent dimensions a map of log q(z)
    over codes and lines: `grid_x`, `grid_y`, `log_q`.
    """
    stride = walks[0].stride
    path_z, path_log_q = (
        torch.stack([getattr(walk, name) for walk in walks]) for name in ("z", "log_q")
    )
    z = path_z[:, ::stride]
    decoded = decode_to_data_units(model, z.flatten(0, 1))
    arrays = {
        "walk_space": np.array([walk.space for walk in walks]),
        "walk_dimension": np.array([walk.dimension for walk in walks]),
        "walk_standard_deviation": np.array([walk.standard_deviation for walk in walks]),
        "walk_position": torch.stack([walk.position for walk in walks]).numpy(),
        "walk_z": z.numpy(),
        "walk_log_q": path_log_q[:, ::stride].numpy(),
        "walk_decoded": decoded.reshape(*z.shape[:2], *decoded.shape[1:]),
        "path_z": path_z.numpy(),
        "path_log_q": path_log_q.numpy(),
        "lowest_log_q": np.array([walk.lowest_log_q for walk in walks]),
    }
    generated = [walk.z0 for walk in walks if walk.z0 is not None]
    if generated:
        path_z0 = torch.stack(generated)
        arrays |= {"walk_z0": path_z0[:, ::stride].numpy(), "path_z0": path_z0.numpy()}
    if model.latent_dim == 2:
        middle = len(path_z[0]) // 2  # of a sweep, which goes far out, only the centre
        shown = [w.z if w.dimension < 0 else w.z[middle : middle + 1] for w in walks]
        arrays |= density_map(aggregate, also=torch.cat(shown).numpy())
    return arrays
