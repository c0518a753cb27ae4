"""A density to draw from and to evaluate: the prior of a model, or a candidate."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import final

import torch

from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.model import VAE
from dpvae_cli.priors import Prior
from dpvae_cli.sampling.samples import from_codes, log_density, prior_samples


@final
@dataclass(frozen=True)
class Density:
    """A density: `draw(n, generator)` gives n codes, `log_prob(z)` nats; both on the CPU."""

    draw: Callable[[int, torch.Generator], Codes]
    log_prob: Callable[[Codes], PerExample]


def from_model(model: VAE) -> Density:
    """Return a model's prior."""
    return Density(
        lambda n, generator: prior_samples(model, n, generator=generator).z,
        lambda z: from_codes(model, z).log_p.double(),
    )


def from_prior(prior: Prior) -> Density:
    """Return a prior that stands alone."""
    some = next(chain(prior.parameters(), prior.buffers()))

    @torch.no_grad()
    def draw(n: int, generator: torch.Generator) -> Codes:
        return prior.sample(n, generator=generator).cpu()

    @torch.no_grad()
    def log_prob(z: Codes) -> PerExample:
        return log_density(prior, z.to(some.device, some.dtype)).double()

    return Density(draw, log_prob)
