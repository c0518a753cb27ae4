"""The quantities, where they lie where q(z) equals the prior, and the limits beyond which none is.

Shares and marginals compare independent draws of either side, so where q(z) = p(z) their law is
known: the beta-binomial one, and Kolmogorov's. The two KL divergences and the leakage score are
averages over random halves A, B of the codes, each of them the other way round too. The standard
error of value - null is a jackknife: everything again without one group of codes and samples at a
time. Where q(z) is near p(z) its variance is up to twice the true one, for value - null then is of
second order in the codes. Leaving out two groups at a time shows the excess, which is subtracted,
but at most half of the variance: that is the excess of a statistic of second order alone.

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

from dpvae_cli.diagnosis.densities import Density
from dpvae_cli.diagnosis.groups import (
    GROUPS,
    Draws,
    Groups,
    are_in,
    code_draws,
    log_density,
    part,
)
from dpvae_cli.diagnosis.quantities import (
    TAIL,
    share_in_tail,
)
from dpvae_cli.diagnosis.record import LEVEL, ROUNDING, Dimension, Name, Quantity
from dpvae_cli.evaluation.active_units import are_active
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.leakage import HEADLINE
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.shapes import Codes
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.mathematics.kolmogorov import kolmogorov_distance

LEAST = 8
"""Examples of which halves can be taken and held against each other."""
NATS: tuple[Name, ...] = ("kl_prior_to_posterior", "kl_posterior_to_prior", "leakage_score")
ALARMS = 0.002
"""Probability of a share, and of the marginals of all dimensions, to be off where q(z) = p(z)."""
HALF_EMPTY = math.log(2)
"""KL[q, p] in nats where q(z) is p(z) on one half of p's mass, and the other half is empty."""


@final
@dataclass(frozen=True)
class Splits:
    """Draws of the prior, of the codes and of held-out codes, and halves A and B of the groups."""

    groups: Groups
    halves: tuple[tuple[list[int], list[int]], ...]
    prior: Draws
    codes: Draws
    held_out: Draws | None

    def log_q(
        self, draws: Draws, half: Sequence[int], left_out: Sequence[Collection[int]] = ((),)
    ) -> Float[Tensor, "replicates batch"]:
        """Return log q(z) over half of the codes at some draws, without some groups in each row."""
        return log_density(draws.log_sums, self.groups.sizes, half, left_out)


def draw_splits(
    context: EvaluationContext,
    prior: Density,
    held_out: AggregatePosterior | None,
    *,
    splits: int,
    samples: int,
    components: int,
) -> Splits:
    """Draw of every side, and choose halves of the codes.

    Args:
        context: the model with its codes, its seed and who hears of the progress.
        prior: stands where the prior stands.
        held_out: posteriors of examples that the model was not trained on.
        splits: how often the codes are split into halves, which both play both parts.
        samples: draws of the prior, and the most of codes, one of each.
        components: the most codes that go into a half.
    """
    aggregate = context.aggregate
    check_enough(len(aggregate))
    generator = context.generator("diagnosis")
    order = torch.randperm(len(aggregate), generator=generator)[: 2 * components]
    groups = Groups(part(aggregate, order), min(GROUPS, len(order)) // 2 * 2)

    def drawn(z: Codes, what: str) -> Draws:
        log_sums = groups.log_sums(z, context.progress, what)
        return Draws(z, groups.of(len(z)), prior.log_prob(z), log_sums)

    halves = []
    for _ in range(splits):
        shuffled = torch.randperm(groups.count, generator=generator).tolist()
        a, b = shuffled[: groups.count // 2], shuffled[groups.count // 2 :]
        halves += [(a, b), (b, a)]
    held = None
    if held_out is not None:
        rows = torch.randperm(len(held_out), generator=generator)[:samples]
        held = drawn(code_draws(part(held_out, rows), samples, generator), "held-out codes")
    return Splits(
        groups,
        tuple(halves),
        drawn(prior.draw(samples, generator), "samples"),
        drawn(code_draws(groups.codes, samples, generator), "codes"),
        held,
    )


def check_enough(count: int) -> None:
    """Check that codes can be split.

    Raises:
        UsageError: they are too few.
    """
    if count < LEAST:
        raise UsageError(
            f"a diagnosis splits the training codes in two, and there are {count}",
            hint=f"{LEAST} training examples are the least, thousands are better.",
        )


def shares(at: Splits) -> list[Quantity]:
    """Return the shares of samples, of codes and of held-out codes in the other side's tail."""
    samples, codes = len(at.prior.z), len(at.codes.z)
    pockets, outside = [], []
    for a, b in at.halves:
        fresh = at.log_q(at.codes, b)[0][are_in(at.codes.group, a)]
        pockets.append(share_in_tail(at.log_q(at.prior, b)[0], of=fresh))
        if at.held_out is not None:
            outside.append(share_in_tail(at.log_q(at.held_out, b)[0], of=fresh))
    leaked = share_in_tail(at.codes.log_p, of=at.prior.log_p)
    found = [
        _share("pocket_share", _mean(pockets), samples, of=codes // 2, parts=2),
        _share("leak_share", leaked, codes, of=samples),
    ]
    if at.held_out is not None:
        count = len(at.held_out.z)
        leaked = share_in_tail(at.held_out.log_p, of=at.prior.log_p)
        found += [
            _share("held_out_leak_share", leaked, count, of=samples),
            _share("held_out_outside_share", _mean(outside), count, of=codes // 2, parts=2),
        ]
    return found


def _share(name: Name, value: float, count: int, *, of: int, parts: int = 1) -> Quantity:
    """Return a share of `count` draws below the 1 % quantile of `of` draws, and its law's limits.

    The quantile lies between two of the draws; the k-th lowest has a part of the density below it
    that is beta-distributed. The mean of two quantiles is as sure as of twice as many draws.
    """
    k = 1 + TAIL * (of - 1)
    law = stats.betabinom(count, parts * k, parts * (of + 1 - k))
    mean, error, limit = law.mean() / count, law.std() / count, law.isf(ALARMS) / count
    return Quantity(name, value, float(mean), float(error), "share", float(limit))


def nats(at: Splits) -> list[Quantity]:
    """Return both KL divergences and the leakage score, means over the splits."""
    count = at.groups.count
    left_out = [(), *((group,) for group in range(count)), *combinations(range(count), 2)]
    found = torch.stack([_divergences(at, *half, left_out) for half in at.halves]).mean(dim=0)
    value, null = found[0]
    errors = _standard_errors(found[:, 0] - found[:, 1], count)
    return [
        Quantity(name, float(v), float(n), float(e), "nats", float(n + (LEVEL * e).clamp(ROUNDING)))
        for name, v, n, e in zip(NATS, value, null, errors, strict=True)
    ]


def _divergences(
    at: Splits, a: Sequence[int], b: Sequence[int], left_out: Sequence[Collection[int]]
) -> Float[Tensor, "replicates 2 quantities"]:
    """Return KL[p, q], KL[q, p] and the leakage score, p the prior and then q_A; q is q_B.

    In each replicate some groups of the codes and of the samples are left out.
    """
    log_p, log_q = at.prior.log_p, at.log_q(at.prior, b, left_out)
    forward = _means(log_p - log_q, at.prior.group, left_out)
    log_p, log_q, log_null = (
        at.codes.log_p,
        at.log_q(at.codes, b, left_out),
        at.log_q(at.codes, a, left_out),
    )
    is_fresh = are_in(at.codes.group, a)
    fresh, own = at.codes.group[is_fresh], at.codes.group[~is_fresh]
    null_forward = _means((log_null - log_q)[:, is_fresh], fresh, left_out)
    found = [[forward], [null_forward]]
    samples_log_p = at.prior.log_p, log_null[0, is_fresh]
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
    found: Float[Tensor, "replicates quantities"], count: int
) -> Float[Tensor, " quantities"]:
    """Return the corrected jackknife's standard errors.

    Args:
        found: with all groups, without each of them, and without each pair of them.
        count: how many groups.
    """
    whole, one, two = found.split([1, count, count * (count - 1) // 2])
    variance = (count - 1) / count * (one - one.mean(dim=0)).square().sum(dim=0)
    first, second = torch.combinations(torch.arange(count)).unbind(1)
    # the jackknife counts the variance of a term of order k in the codes k times, and the excess is
    # k (k - 1) / 2 times that variance: their difference is exact for orders 1 and 2
    pairs = count * whole - (count - 1) * (one[first] + one[second]) + (count - 2) * two
    excess = (pairs - pairs.mean(dim=0)).square().sum(dim=0) / (count * (count - 1))
    return torch.maximum(variance - excess, variance / 2).sqrt()


def marginals(at: Splits, codes: AggregatePosterior) -> tuple[Quantity, tuple[Dimension, ...]]:
    """Return the largest distance of marginals, and the distance in every dimension.

    Args:
        at: what was drawn.
        codes: all of them.
    """
    distances = kolmogorov_distance(at.prior.z.double(), at.codes.z)
    latent_dim = len(distances)
    law = stats.kstwobign(scale=(1 / len(at.prior.z) + 1 / len(at.codes.z)) ** 0.5)
    limit, error = float(law.isf(ALARMS / latent_dim)), float(law.std())

    def judged(distance: float, largest_of: int) -> Quantity:
        median = float(law.ppf(0.5 ** (1 / largest_of)))
        return Quantity("marginals", distance, median, error, "distance", limit)

    means, noise = codes.mean.cpu(), codes.log_variance.exp().cpu()
    variances = means.var(dim=0, correction=0).tolist()
    active = are_active(means, noise).tolist()
    each = tuple(
        Dimension(index, judged(distance, 1), variance, is_active)
        for index, (distance, variance, is_active) in enumerate(
            zip(distances.tolist(), variances, active, strict=True)
        )
    )
    return judged(float(distances.max()), latent_dim), each


def shows_half_empty(at: Splits, judged: Sequence[Quantity]) -> bool:
    """Tell whether these codes would show it if half of the prior's mass lay where no code is.

    Either KL[q, p] may not be log 2 nats larger without being off, or pockets are seen when one
    half of the codes is left out, beyond a plane through them. Where neither holds codes are too
    few for their dimensions, and that nothing is off says nothing.
    """
    by_name = {each.name: each for each in judged}
    kl, pockets = by_name["kl_posterior_to_prior"], by_name["pocket_share"]
    if kl.limit - kl.value <= HALF_EMPTY:
        return True
    generator = torch.Generator().manual_seed(0)
    found = [_share_beyond_plane(at, a, b, generator) for a, b in at.halves]
    return _mean(found) > pockets.limit


def _share_beyond_plane(
    at: Splits, a: Sequence[int], b: Sequence[int], generator: torch.Generator
) -> float:
    """Return the share of q_A's codes in pockets of q_B without its codes beyond a random plane."""
    z, q = at.codes.z[are_in(at.codes.group, a)], at.groups.half(b)
    normal = torch.randn(z.shape[1], generator=generator, dtype=torch.float64)
    normal = normal / z.std(dim=0).clamp(min=1e-12)
    heights = q.mean.cpu() @ normal
    kept = heights > heights.median()
    log_q = part(q, kept.nonzero().squeeze(1)).log_prob(z).cpu()
    return share_in_tail(log_q, of=log_q[z @ normal > heights.median()])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
