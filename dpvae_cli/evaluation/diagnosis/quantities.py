"""What is measured of a prior against q(z), in one split of the training codes.

The codes are split into halves A and B. q(z) is q_B; codes that it has not seen are drawn from q_A.
"""

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from dpvae_cli.evaluation.diagnosis.sides import Side, of_aggregate
from dpvae_cli.evaluation.leakage import HEADLINE, leakage_score
from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.mathematics.kolmogorov import kolmogorov_distance

TAIL = 0.01
"""Which part of one side's samples counts as its tail, when the other side's are looked for."""


@final
@dataclass(frozen=True)
class Split:
    """Halves of the codes, with fresh codes of q_A and codes of q_B, and their log q_B(z)."""

    unseen: AggregatePosterior
    q: AggregatePosterior
    fresh: Codes
    fresh_log_q: PerExample
    own: Codes
    own_log_q: PerExample

    @property
    def tail_of_codes(self) -> float:
        """Return the log q(z) that only `TAIL` of the fresh codes lies below, in nats."""
        return float(torch.quantile(self.fresh_log_q, TAIL))


def split(
    halves: tuple[AggregatePosterior, AggregatePosterior], n: int, *, generator: torch.Generator
) -> Split:
    """Return two halves with n codes of either."""
    unseen, q = halves
    fresh, own = (half.sample(n, generator=generator).cpu() for half in halves)
    return Split(unseen, q, fresh, q.log_prob(fresh).cpu(), own, q.log_prob(own).cpu())


class Quantities(NamedTuple):
    """The quantities of one prior in one split; shares of 1, nats, and a distance from 0 to 1."""

    pocket_share: float
    kl_prior_to_posterior: float
    leak_share: float
    kl_posterior_to_prior: float
    leakage_score: float
    marginals: Float[Tensor, " latent"]


@final
@dataclass(frozen=True)
class Drawn:
    """Samples of a prior in a split, and the log-densities of either side everywhere."""

    z: Codes
    log_p: PerExample
    log_q: PerExample
    fresh_log_p: PerExample
    own_log_p: PerExample

    @property
    def tail_of_samples(self) -> float:
        """Return the log p(z) that only `TAIL` of the prior's samples lies below, in nats."""
        return float(torch.quantile(self.log_p, TAIL))


def drawn(prior: Side, at: Split, *, generator: torch.Generator) -> Drawn:
    """Draw as many samples of a prior as the split has codes."""
    z = prior.draw(len(at.fresh), generator)
    log_p, log_q = prior.log_prob(z), at.q.log_prob(z).cpu()
    return Drawn(z, log_p, log_q, prior.log_prob(at.fresh), prior.log_prob(at.own))


def measured(found: Drawn, at: Split) -> Quantities:
    """Return the quantities of a prior.

    The share of samples with log q(z) below the 1 % quantile of fresh codes, KL[p, q], the share
    of fresh codes with log p(z) below the 1 % quantile of samples, KL[q, p], the leakage score at
    the 5 % quantile, and each dimension's distance between p(z_l) and q(z_l).
    """
    tau = float(torch.quantile(found.log_p, HEADLINE))
    score = leakage_score(at.own_log_q, found.own_log_p, threshold=tau)
    return Quantities(
        pocket_share=_share(found.log_q, below=at.tail_of_codes),
        kl_prior_to_posterior=float((found.log_p - found.log_q).mean()),
        leak_share=_share(found.fresh_log_p, below=found.tail_of_samples),
        kl_posterior_to_prior=float((at.own_log_q - found.own_log_p).mean()),
        leakage_score=score.value,
        marginals=kolmogorov_distance(found.z.double(), at.own.double()),
    )


def null_case(prior: Side, found: Drawn, at: Split, *, generator: torch.Generator) -> Quantities:
    """Return the same quantities where q(z) equals the prior.

    q_A plays the prior: what a prior would give that is as good as fresh data. Only for the share
    of leaks does the prior keep its place, and fresh samples of it play the codes, since q_A's
    density is high at its own codes as no prior's is.
    """
    null = measured(drawn(of_aggregate(at.unseen), at, generator=generator), at)
    again = prior.log_prob(prior.draw(len(at.fresh), generator))
    return null._replace(leak_share=_share(again, below=found.tail_of_samples))


def _share(values: PerExample, *, below: float) -> float:
    return float((values < below).double().mean())
