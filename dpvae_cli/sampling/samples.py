"""Samples of the prior, and the ends where it and the aggregate posterior disagree (4.1)."""

from dataclasses import dataclass, replace
from typing import Literal, final

import torch

from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.memory import in_parts
from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.mathematics.gaussian import standard_normal_log_prob
from dpvae_cli.model import VAE

Rank = Literal["representation", "generation"]
CHUNK = 65_536


@final
@dataclass(frozen=True)
class LatentSamples:
    """Codes with their log-densities in nats.

    `log_p` is log p(z) with the log-determinant, `log_p_generation` is log N(z0; 0, I), and `log_q`
    the exact log q(z) where it was asked for.
    """

    z: Codes
    z0: Codes
    log_p: PerExample
    log_p_generation: PerExample
    log_q: PerExample | None = None

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.z.shape[0]

    def keep(self, index: torch.Tensor) -> "LatentSamples":
        """Return the samples at `index`, in its order."""
        return LatentSamples(
            self.z[index],
            self.z0[index],
            self.log_p[index],
            self.log_p_generation[index],
            None if self.log_q is None else self.log_q[index],
        )

    def with_log_q(self, aggregate: AggregatePosterior) -> "LatentSamples":
        """Return the same samples with the exact log q(z)."""
        return replace(self, log_q=aggregate.log_prob(self.z))


@torch.no_grad()
def from_codes(model: VAE, z: Codes) -> LatentSamples:
    """Return codes of the representation space with z0 and their densities under the prior.

    They are rounded to the model's precision first, and returned as rounded.
    """
    z = z.to(model.dtype).to(model.device)
    to_generation = model.prior.to_generation
    parts = list(in_parts(lambda rows: to_generation(z[rows]), len(z), size=CHUNK, what="g"))
    z0 = torch.cat([z0 for z0, _ in parts]).cpu()
    log_abs_det = torch.cat([log_det for _, log_det in parts]).cpu()
    log_p_generation = standard_normal_log_prob(z0)
    return LatentSamples(z.cpu(), z0, log_p_generation + log_abs_det, log_p_generation)


@torch.no_grad()
def prior_samples(model: VAE, n: int, *, generator: torch.Generator) -> LatentSamples:
    """Draw z0 ~ N(0, I) on the CPU and map it to z = g^-1(z0).

    Args:
        model: the trained model.
        n: how many.
        generator: a CPU generator; the draws are the same on every device.

    Raises:
        DpvaeError: g^-1 overflowed, which only lifted bounds of the coupling allow.
    """
    z0 = torch.randn(n, model.latent_dim, generator=generator, dtype=model.dtype)

    def part(rows: slice) -> tuple[Codes, PerExample]:
        return model.prior.to_representation(z0[rows].to(model.device))

    parts = list(in_parts(part, n, size=CHUNK, what="the inverse of g"))
    z = torch.cat([z for z, _ in parts]).cpu()
    if bad := int((~torch.isfinite(z).all(dim=1)).sum()):
        raise DpvaeError(
            f"{bad} of {n} samples are not finite: g^-1 overflows",
            hint="Train with prior.scale_bound and prior.translate_bound (not null).",
        )
    log_abs_det = torch.cat([log_det for _, log_det in parts]).cpu()
    log_p_generation = standard_normal_log_prob(z0)
    return LatentSamples(z, z0, log_p_generation - log_abs_det, log_p_generation)


def low_posterior(
    model: VAE, aggregate: AggregatePosterior, n: int, *, pool: int, generator: torch.Generator
) -> LatentSamples:
    """Draw `pool` samples of the prior and keep the n with the lowest exact log q(z), lowest first.

    Source: paper, section 4.1; the paper gives no pool size.

    Raises:
        UsageError: the pool is smaller than n.
    """
    _refuse_small_pool(pool, n)
    drawn = prior_samples(model, pool, generator=generator).with_log_q(aggregate)
    assert drawn.log_q is not None
    return drawn.keep(lowest(drawn.log_q, n))


def high_posterior(
    model: VAE,
    aggregate: AggregatePosterior,
    n: int,
    *,
    pool: int,
    generator: torch.Generator,
    rank: Rank = "representation",
) -> LatentSamples:
    """Draw `pool` samples of q(z) and keep the n with the lowest prior density, lowest first.

    Source: paper, section 4.1. `rank="generation"` ranks by log N(g(z); 0, I), as the paper prints;
    the default ranks by log p(z), which has the log-determinant too.

    Raises:
        UsageError: the pool is smaller than n.
    """
    _refuse_small_pool(pool, n)
    drawn = from_codes(model, aggregate.sample(pool, generator=generator))
    score = drawn.log_p if rank == "representation" else drawn.log_p_generation
    return drawn.keep(lowest(score, n)).with_log_q(aggregate)


def lowest(score: PerExample, n: int) -> torch.Tensor:
    """Return the positions of the n lowest scores, lowest first; ties in their order."""
    return torch.sort(score, stable=True).indices[:n]


def _refuse_small_pool(pool: int, n: int) -> None:
    if pool < n:
        raise UsageError(
            f"a pool of {pool} is too small to keep {n} samples of", hint="Raise --pool."
        )
