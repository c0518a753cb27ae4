"""Draws, and the density of every group of codes at each draw.

The codes are divided into groups. A half of the codes is half of the groups: from the densities of
the groups follows q(z) of any half, also without some groups.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dpvae_cli.evaluation.context import Progress
from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.sampling.samples import check_log_density

GROUPS = 16
"""At most; standard errors are from leaving out one and two at a time."""
TAIL = 0.01
"""Share of the draws of one density that is its tail, in which draws of the other are counted."""


@final
@dataclass(frozen=True)
class GroupedDraws:
    """Points, each of one group, with log p(z) and each group's log sum over n of q(z|x_n)."""

    z: Codes
    group: Int[Tensor, " batch"]
    log_p: PerExample
    log_sums: Float[Tensor, "batch groups"]


@final
class Groups:
    """Codes divided into groups of equal size, or one more.

    The codes are in random order.
    """

    def __init__(self, aggregate: AggregatePosterior, count: int) -> None:
        self.codes = aggregate
        self.count = count
        self.sizes = torch.bincount(self.of(len(aggregate)), minlength=count)
        self._groups = [
            part(aggregate, torch.arange(g, len(aggregate), count)) for g in range(count)
        ]

    def of(self, count: int) -> Int[Tensor, " batch"]:
        """Return the group of each of `count` points, in turn."""
        return torch.arange(count) % self.count

    def log_sums(self, z: Codes, progress: Progress, what: str) -> Float[Tensor, "batch groups"]:
        """Return each group's log sum over n of q(z|x_n), in nats."""
        columns = []
        for index, group in enumerate(self._groups):
            progress(f"diagnosis: {what}", index, self.count)
            log_q = check_log_density(group.log_prob(z).cpu(), "log q(z)")
            columns.append(log_q + math.log(self.sizes[index]))
        progress(f"diagnosis: {what}", self.count, self.count)
        return torch.stack(columns, dim=1)

    def half(self, members: Sequence[int]) -> AggregatePosterior:
        """Return q(z) over the codes of some groups."""
        return part(self.codes, are_in(self.of(len(self.codes)), members).nonzero().squeeze(1))


def are_in(group: Int[Tensor, " batch"], members: Collection[int]) -> Bool[Tensor, " batch"]:
    """Tell of each point whether its group is one of these."""
    return torch.isin(group, torch.tensor(list(members), dtype=group.dtype))


def share_in_tail(values: PerExample, *, of: Float[Tensor, " others"]) -> float:
    """Return which share of log-densities lies below the 1 % quantile of others; NaN lies there."""
    return float((~(values >= torch.quantile(of, TAIL))).double().mean())


def part(aggregate: AggregatePosterior, rows: Tensor) -> AggregatePosterior:
    """Return q(z) over some of the codes."""
    rows = rows.to(aggregate.mean.device)
    return AggregatePosterior(aggregate.mean[rows], aggregate.log_variance[rows])


def code_draws(aggregate: AggregatePosterior, most: int, generator: torch.Generator) -> Codes:
    """Return one draw of each of the first codes: independent points of q(z)."""
    mean, log_variance = aggregate.mean[:most].cpu(), aggregate.log_variance[:most].cpu()
    noise = torch.randn(mean.shape, generator=generator, dtype=torch.float64)
    return mean + torch.exp(0.5 * log_variance) * noise
