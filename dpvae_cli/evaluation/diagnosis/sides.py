"""Whatever can stand where the prior stands: its samples and its log-density."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import final

import torch

from dpvae_cli.foundation.memory import in_parts
from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.model import VAE
from dpvae_cli.priors import Prior
from dpvae_cli.sampling.samples import CHUNK, from_codes, prior_samples


@final
@dataclass(frozen=True)
class Side:
    """A density: `draw(n, generator)` gives n codes, `log_prob(z)` nats; both on the CPU."""

    draw: Callable[[int, torch.Generator], Codes]
    log_prob: Callable[[Codes], PerExample]


def of_model(model: VAE) -> Side:
    """Return a model's prior."""
    return Side(
        lambda n, generator: prior_samples(model, n, generator=generator).z,
        lambda z: from_codes(model, z).log_p.double(),
    )


def of_prior(prior: Prior) -> Side:
    """Return a prior that stands alone."""
    some = next(chain(prior.parameters(), prior.buffers()))

    @torch.no_grad()
    def draw(n: int, generator: torch.Generator) -> Codes:
        return prior.sample(n, generator=generator).cpu()

    @torch.no_grad()
    def log_prob(z: Codes) -> PerExample:
        z = z.to(some.device, some.dtype)
        parts = in_parts(
            lambda rows: prior.log_prob(z[rows]).cpu(), len(z), size=CHUNK, what="log-densities"
        )
        return torch.cat(list(parts)).double()

    return Side(draw, log_prob)


def of_aggregate(aggregate: AggregatePosterior) -> Side:
    """Return q(z) in the prior's place, which is what the null case is."""
    return Side(
        lambda n, generator: aggregate.sample(n, generator=generator).cpu(),
        lambda z: aggregate.log_prob(z).cpu(),
    )
