"""A two-dimensional latent space as a map of its densities, and as a square of decoded points."""

from collections.abc import Sequence

import numpy as np
import torch

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.model import VAE
from dpvae_cli.sampling.paths import DRAWS, Space, interpolate
from dpvae_cli.sampling.samples import decode_to_data_units, from_codes

CELLS = 200
MARGIN, DEVIATIONS = 0.08, 3.5
"""What the grid adds around the codes: a share of their range, or standard deviations."""
EMPTY = 12.0
"""Nats below the peak of log q(z) at which pictures of it are white."""
GROWTH, ROUNDS = 1.15, 5
CENTRAL = 0.99
"""Share of q(z) between the sides of the box, in each dimension."""
NET = 201
"""Points of each curve of the net."""


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


@torch.no_grad()
def plane(
    model: VAE, aggregate: AggregatePosterior, *, spaces: Sequence[Space], side: int
) -> dict[str, np.ndarray]:
    """Decode a square of points of each latent space; the first axis of every array is the space.

    In z0 the coordinates are the quantiles (i + 1/2) / side of N(0, 1), so every point stands for
    as much of the prior where its z0 is normal, and g^-1 maps them to z. In z they are evenly
    spaced over the box that holds the central 99 % of q(z) in either dimension. Without a
    generation space there is no `plane_z0`.

    `plane_space` (S,), `plane_x` and `plane_y` (S, n) in their own space, `plane_z` and `plane_z0`
    (S, n, n, 2), a row for each y, `plane_log_q` (S, n, n) in nats, `plane_decoded`
    (S, n, n, *example) in data units, `lowest_log_q` (S,), and a map of log q(z): `grid_x`,
    `grid_y`, `log_q`. The rows and columns are curves in finer steps in `net_z` (S, 2 n, P, 2),
    which `net_decoded` shows in data space where that is a plane too.

    Raises:
        UsageError: the latent space is not two-dimensional, or a z0 is asked for and there is none.
    """
    check_two_dimensional(model)
    parts = []
    for space in spaces:
        if space == "z0":
            x = y = torch.special.ndtri((torch.arange(side, dtype=torch.float64) + 0.5) / side)
        else:  # the same draws always
            generator = stream(0, "plane", device=aggregate.mean.device)
            drawn = aggregate.sample(DRAWS, generator=generator).cpu()
            ends = torch.tensor([(1 - CENTRAL) / 2, (1 + CENTRAL) / 2], dtype=torch.float64)
            low, high = torch.quantile(drawn, ends, dim=0).unsqueeze(-1)
            share = torch.linspace(0, 1, side, dtype=torch.float64)
            x, y = (1 - share) * low + share * high
        square = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        square = square.to(model.device, model.dtype)
        flat = square.view(-1, 2)
        z = model.prior.points(flat).view_as(square) if space == "z0" else square
        log_q = aggregate.log_prob(z.view(-1, 2)).view(side, side)
        decoded = decode_to_data_units(model, z.view(-1, 2))
        tensors = {"x": x, "y": y, "z": z, "log_q": log_q}
        if space == "z0":
            tensors["z0"] = square
        elif model.prior.generation is not None:
            tensors["z0"] = model.prior.to_generation(flat)[0].view_as(square)
        start = torch.cat([square[:, 0], square[0]])  # of each row, then of each column
        end = torch.cat([square[:, -1], square[-1]])
        curves, _ = interpolate(model, start, end, space=space, points=NET)
        part = {
            "plane_space": np.array(space),
            **{f"plane_{name}": tensor.cpu().numpy() for name, tensor in tensors.items()},
            "plane_decoded": decoded.reshape(side, side, *decoded.shape[1:]),
            "lowest_log_q": np.array(float(log_q.min())),
            "net_z": curves.cpu().numpy(),
        }
        if model.example_shape == (2,):
            net = decode_to_data_units(model, curves.flatten(0, 1))
            part["net_decoded"] = net.reshape(curves.shape)
        parts.append(part)
    arrays = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
    return arrays | density_map(aggregate, also=arrays["plane_z"].reshape(-1, 2))


def check_two_dimensional(model: VAE) -> None:
    """Check that the latent space of a model is a plane."""
    if model.latent_dim != 2:
        raise UsageError(
            f"a decoded plane (--grid) needs latent_dim 2; this model has {model.latent_dim}",
            hint="Walk along single dimensions with --dimensions.",
        )
