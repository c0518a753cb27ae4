"""The quantities of a diagnosis, their null where q(z) equals the prior, and their limits.

Shares and marginals compare independent draws of prior and codes, so where q(z) = p(z) their
distributions are known: beta-binomial, and Kolmogorov's. The two KL divergences and the leakage
score are averages over random halves A, B of the codes, in both roles. The standard error of
value - null is a jackknife that leaves out one group of codes and samples at a time. Where q(z) is
near p(z) its variance is up to twice the true one, since value - null is of second order in the
codes. Leaving out two groups at a time estimates the excess, which is subtracted, but at most half
of the variance: that is the excess of a statistic of second order alone.

Source: Efron and Stein 1981, section 5, for the correction.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import final

import torch
from jaxtyping import Float, Int
from scipy import stats
from torch import Tensor

from dpvae_cli.diagnosis.groups import (
    GROUPS,
    TAIL,
    GroupedDraws,
    Groups,
    are_in,
    code_draws,
    part,
    share_in_tail,
)
from dpvae_cli.diagnosis.record import LEVEL, ROUNDING, Dimension, Name, Quantity
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.kl import are_active
from dpvae_cli.evaluation.leakage import HEADLINE
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.shapes import Codes
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.mathematics.divergences import kolmogorov_distance
from dpvae_cli.sampling.samples import from_codes, prior_samples

MIN_EXAMPLES = 8
"""Training examples that can be split into halves and compared."""
NATS: tuple[Name, ...] = ("kl_prior_to_posterior", "kl_posterior_to_prior", "leakage_score")
ALARMS = 0.002
"""Probability that a share, or any of the marginals, is off where q(z) = p(z)."""
HALF_EMPTY = math.log(2)
"""KL[q, p] in nats where q(z) is p(z) on one half of p's mass, and the other half is empty."""


@final
@dataclass(frozen=True)
class HalfSplits:
    """Draws of the prior, of the codes and of held-out codes, and halves A and B of the groups."""

    groups: Groups
    halves: tuple[tuple[list[int], list[int]], ...]
    prior: GroupedDraws
    codes: GroupedDraws
    held_out: GroupedDraws | None

    def log_q(
        self, draws: GroupedDraws, half: Sequence[int], left_out: Sequence[Collection[int]] = ((),)
    ) -> Float[Tensor, "replicates batch"]:
        """Return log q(z) over half of the codes at some draws, without some groups in each row.

        Groups that are left out need not belong to the half.
        """
        remaining = [tuple(g for g in half if g not in groups) for groups in left_out]
        columns = draws.log_sums.T.contiguous()
        rows = {
            groups: torch.logsumexp(columns[list(groups)], dim=0)
            - math.log(int(self.groups.sizes[list(groups)].sum()))
            for groups in set(remaining)
        }
        return torch.stack([rows[groups] for groups in remaining])


def draw_splits(
    context: EvaluationContext,
    held_out: AggregatePosterior | None,
    *,
    splits: int,
    samples: int,
    components: int,
) -> HalfSplits:
    """Draw from prior and codes, and choose halves of the codes.

    The codes are split `splits` times into halves of at most `components` codes, each of which
    takes both roles. There are `samples` draws of the prior, and at most as many of codes, one of
    each.

    Raises:
        UsageError: there are too few training examples.
    """
    model, aggregate = context.model, context.aggregate
    if len(aggregate) < MIN_EXAMPLES:
        raise UsageError(
            f"a diagnosis splits the training codes in two, and there are {len(aggregate)}",
            hint=f"It needs {MIN_EXAMPLES} training examples, better thousands.",
        )
    generator = context.generator("diagnosis")
    order = torch.randperm(len(aggregate), generator=generator)[: 2 * components]
    groups = Groups(part(aggregate, order), min(GROUPS, len(order)) // 2 * 2)

    def draws(z: Codes, what: str) -> GroupedDraws:
        log_sums = groups.log_sums(z, context.progress, what)
        return GroupedDraws(z, groups.of(len(z)), from_codes(model, z).log_p.double(), log_sums)

    halves = []
    for _ in range(splits):
        shuffled = torch.randperm(groups.count, generator=generator).tolist()
        a, b = shuffled[: groups.count // 2], shuffled[groups.count // 2 :]
        halves += [(a, b), (b, a)]
    held_out_draws = None
    if held_out is not None:
        rows = torch.randperm(len(held_out), generator=generator)[:samples]
        z = code_draws(part(held_out, rows), samples, generator)
        held_out_draws = draws(z, "held-out codes")
    return HalfSplits(
        groups,
        tuple(halves),
        draws(prior_samples(model, samples, generator=generator).z, "samples"),
        draws(code_draws(groups.codes, samples, generator), "codes"),
        held_out_draws,
    )


def shares(splits: HalfSplits) -> list[Quantity]:
    """Return the shares of samples, codes and held-out codes in the tails of the other density."""
    samples, codes, held_out = len(splits.prior.z), len(splits.codes.z), splits.held_out
    pockets, outside = [], []
    for a, b in splits.halves:
        fresh = splits.log_q(splits.codes, b)[0][are_in(splits.codes.group, a)]
        pockets.append(share_in_tail(splits.log_q(splits.prior, b)[0], of=fresh))
        if held_out is not None:
            outside.append(share_in_tail(splits.log_q(held_out, b)[0], of=fresh))

    def leak_share(name: Name, draws: GroupedDraws) -> Quantity:
        share = share_in_tail(draws.log_p, of=splits.prior.log_p)
        return _share(name, share, len(draws.z), of=samples)

    quantities = [
        _share("pocket_share", _mean(pockets), samples, of=codes // 2, parts=2),
        leak_share("leak_share", splits.codes),
    ]
    if held_out is not None:
        count = len(held_out.z)
        quantities += [
            leak_share("held_out_leak_share", held_out),
            _share("held_out_outside_share", _mean(outside), count, of=codes // 2, parts=2),
        ]
    return quantities


def _share(name: Name, value: float, count: int, *, of: int, parts: int = 1) -> Quantity:
    """Return a share of `count` draws below the 1 % quantile of `of` draws, with its limit.

    The mass below the k-th lowest draw is beta-distributed, so the count is beta-binomial. The mean
    of two quantiles is as certain as one of twice as many draws.
    """
    k = 1 + TAIL * (of - 1)
    law = stats.betabinom(count, parts * k, parts * (of + 1 - k))
    mean, error, limit = law.mean() / count, law.std() / count, law.isf(ALARMS) / count
    return Quantity(name, value, float(mean), float(error), "share", float(limit))


def nats(splits: HalfSplits) -> list[Quantity]:
    """Return both KL divergences and the leakage score, means over the splits."""
    count = splits.groups.count
    left_out = [(), *((group,) for group in range(count)), *combinations(range(count), 2)]
    replicates = torch.stack([_divergences(splits, *half, left_out) for half in splits.halves])
    replicates = replicates.mean(dim=0)
    value, null = replicates[0]
    errors = _standard_errors(replicates[:, 0] - replicates[:, 1], count)
    return [
        Quantity(name, float(v), float(n), float(e), "nats", float(n + (LEVEL * e).clamp(ROUNDING)))
        for name, v, n, e in zip(NATS, value, null, errors, strict=True)
    ]


def _divergences(
    splits: HalfSplits, a: Sequence[int], b: Sequence[int], left_out: Sequence[Collection[int]]
) -> Float[Tensor, "replicates 2 quantities"]:
    """Return KL[p, q], KL[q, p] and the leakage score, p the prior and then q_A; q is q_B.

    In each replicate some groups of the codes and of the samples are left out.
    """
    log_p, log_q = splits.prior.log_p, splits.log_q(splits.prior, b, left_out)
    forward = _means(log_p - log_q, splits.prior.group, left_out)
    log_p, log_q, log_null = (
        splits.codes.log_p,
        splits.log_q(splits.codes, b, left_out),
        splits.log_q(splits.codes, a, left_out),
    )
    is_fresh = are_in(splits.codes.group, a)
    fresh, own = splits.codes.group[is_fresh], splits.codes.group[~is_fresh]
    null_forward = _means((log_null - log_q)[:, is_fresh], fresh, left_out)
    found = [[forward], [null_forward]]
    samples_log_p = splits.prior.log_p, log_null[0, is_fresh]
    densities = log_p.expand_as(log_q), log_null
    for row, density, samples in zip(found, densities, samples_log_p, strict=True):
        ratio = (log_q - density)[:, ~is_fresh]
        leaked = ~(density[:, ~is_fresh] >= torch.quantile(samples, HEADLINE))
        row.append(_means(ratio, own, left_out))
        row.append(_means(torch.where(leaked, ratio, 0), own, left_out))
    return torch.stack([torch.stack(row, dim=1) for row in found], dim=1)


def _means(
    values: Float[Tensor, "replicates batch"],
    group: Int[Tensor, " batch"],
    left_out: Sequence[Collection[int]],
) -> Float[Tensor, " replicates"]:
    """Return each row's mean over the points whose group is not left out of it."""
    kept = torch.stack([~are_in(group, groups) for groups in left_out])
    return torch.where(kept, values, 0).sum(dim=1) / kept.sum(dim=1)


def _standard_errors(
    replicates: Float[Tensor, "replicates quantities"], count: int
) -> Float[Tensor, " quantities"]:
    """Return corrected jackknife errors; replicates lack no group, then each, then each pair."""
    whole, one, two = replicates.split([1, count, count * (count - 1) // 2])
    variance = (count - 1) / count * (one - one.mean(dim=0)).square().sum(dim=0)
    first, second = torch.combinations(torch.arange(count)).unbind(1)
    # the jackknife counts the variance of a term of order k in the codes k times, and the excess is
    # k (k - 1) / 2 times that variance: their difference is exact for orders 1 and 2
    pairs = count * whole - (count - 1) * (one[first] + one[second]) + (count - 2) * two
    excess = (pairs - pairs.mean(dim=0)).square().sum(dim=0) / (count * (count - 1))
    return torch.maximum(variance - excess, variance / 2).sqrt()


def marginals(
    splits: HalfSplits, codes: AggregatePosterior
) -> tuple[Quantity, tuple[Dimension, ...]]:
    """Return the largest distance of marginals, and the distance in every dimension."""
    distances = kolmogorov_distance(splits.prior.z.double(), splits.codes.z)
    latent_dim = len(distances)
    scale = (1 / len(splits.prior.z) + 1 / len(splits.codes.z)) ** 0.5
    law = stats.kstwobign(scale=scale)
    limit = float(law.isf(ALARMS / latent_dim))
    # law.std() integrates numerically what is known: the moments of Kolmogorov's distribution
    error = scale * math.sqrt(math.pi**2 / 12 - math.pi / 2 * math.log(2) ** 2)

    def quantity(distance: float, largest_of: int) -> Quantity:
        median = float(law.ppf(0.5 ** (1 / largest_of)))
        return Quantity("marginals", distance, median, error, "distance", limit)

    means, noise = codes.mean.cpu(), codes.log_variance.exp().cpu()
    variances = means.var(dim=0, correction=0).tolist()
    active = are_active(means, noise).tolist()
    by_dimension = tuple(
        Dimension(index, quantity(distance, 1), variance, is_active)
        for index, (distance, variance, is_active) in enumerate(
            zip(distances.tolist(), variances, active, strict=True)
        )
    )
    return quantity(float(distances.max()), latent_dim), by_dimension


def can_detect_half_empty(splits: HalfSplits, quantities: Sequence[Quantity]) -> bool:
    """Tell whether the diagnosis would notice it if half of the prior's mass had no codes.

    Either KL[q, p] cannot be log 2 nats larger without being off, or pockets appear when the codes
    on one side of a plane are left out. Where neither holds there are too few codes for their
    dimensions, and that nothing is off means nothing.
    """
    by_name = {quantity.name: quantity for quantity in quantities}
    kl, pockets = by_name["kl_posterior_to_prior"], by_name["pocket_share"]
    if kl.limit - kl.value <= HALF_EMPTY:
        return True
    generator = torch.Generator().manual_seed(0)
    beyond = []  # shares of q_A's codes in pockets of q_B without its codes beyond a random plane
    for a, b in splits.halves:
        z, q = splits.codes.z[are_in(splits.codes.group, a)], splits.groups.half(b)
        normal = torch.randn(z.shape[1], generator=generator, dtype=torch.float64)
        normal = normal / z.std(dim=0).clamp(min=1e-12)
        heights = q.mean.cpu() @ normal
        remaining = heights > heights.median()
        log_q = part(q, remaining.nonzero().squeeze(1)).log_prob(z).cpu()
        beyond.append(share_in_tail(log_q, of=log_q[z @ normal > heights.median()]))
    return _mean(beyond) > pockets.limit


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
