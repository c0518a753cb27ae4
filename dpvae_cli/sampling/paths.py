"""Straight lines in one latent space and what they are in the other, and how far codes spread."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dpvae_cli.foundation.errors import DpvaeError
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.foundation.shapes import Codes
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.model import VAE
from dpvae_cli.sampling.samples import from_codes

Space = Literal["z0", "z"]
Paths = Float[Tensor, "batch points latent"]

DRAWS = 10_000
"""Draws of q(z) where it has no closed form."""


@torch.no_grad()
def interpolate(
    model: VAE, start: Codes, end: Codes, *, space: Space, points: int
) -> tuple[Paths, Paths | None]:
    """Return evenly spaced points of the straight lines from each start to its end, in z and in z0.

    (1 - s) start + s end in `space`, and its image under g or g^-1. Lines in z have no image where
    the prior has no generation space. `points` counts both ends.

    Raises:
        UsageError: the line is to be straight in a z0 that the prior does not have.
        DpvaeError: g^-1 overflowed, which only lifted bounds of the coupling allow.
    """
    share = torch.linspace(0, 1, points, device=start.device, dtype=start.dtype).view(1, -1, 1)
    lines = (1 - share) * start.unsqueeze(1) + share * end.unsqueeze(1)
    if space == "z" and model.prior.generation is None:
        return lines, None
    mapped = model.prior.to_representation if space == "z0" else model.prior.to_generation
    images = mapped(lines.flatten(0, 1))[0].view_as(lines)
    if not torch.isfinite(images).all():
        raise DpvaeError(
            f"the path that is straight in {space} leaves the finite numbers",
            hint="Stay closer with --range; train with prior.scale_bound and "
            "prior.translate_bound (not null).",
        )
    return (images, lines) if space == "z0" else (lines, images)


def standard_deviations(
    model: VAE, aggregate: AggregatePosterior, *, space: Space
) -> Float[Tensor, " latent"]:
    """Return the standard deviation of each coordinate of z, or of z0 = g(z), under q(z).

    In closed form for z: within plus between components. For z0 from `DRAWS` draws, always the
    same.
    """
    if space == "z0":
        model.prior.require_generation()
        generator = stream(0, "traversal", device=aggregate.mean.device)
        drawn = aggregate.sample(DRAWS, generator=generator)
        z0 = from_codes(model, drawn).z0
        assert z0 is not None
        return z0.double().std(dim=0)
    within = torch.exp(aggregate.log_variance).mean(dim=0)
    between = aggregate.mean.var(dim=0, correction=0)
    return torch.sqrt(within + between).cpu()
