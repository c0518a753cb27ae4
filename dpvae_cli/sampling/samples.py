"""Samples of the prior, and the ends where it and the aggregate posterior disagree (4.1)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, final

import torch
from torch import Tensor

from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.memory import map_in_chunks
from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.model import VAE
from dpvae_cli.priors import Prior

Rank = Literal["representation", "generation"]
Transform = Callable[[Codes], tuple[Codes, PerExample]]
CHUNK = 65_536


@final
@dataclass(frozen=True)
class LatentSamples:
    """Codes with their log-densities in nats.

    `log_p` is log p(z) with the log-determinant, `log_p_generation` is the log-density of z0, and
    `log_q` the exact log q(z) where it was asked for. A prior without generation space has neither
    z0 nor its density.
    """

    z: Codes
    z0: Codes | None
    log_p: PerExample
    log_p_generation: PerExample | None
    log_q: PerExample | None = None

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.z.shape[0]

    def select(self, index: torch.Tensor) -> "LatentSamples":
        """Return the samples at `index`, in its order."""
        tensors = {name: value for name, value in vars(self).items() if value is not None}
        return replace(self, **{name: value[index] for name, value in tensors.items()})

    def with_log_q(self, aggregate: AggregatePosterior) -> "LatentSamples":
        """Return the same samples with the exact log q(z)."""
        return replace(self, log_q=check_log_density(aggregate.log_prob(self.z), "log q(z)"))

    @property
    def base_log_prob(self) -> PerExample:
        """Return the log-density under the base distribution: of z0, or without a z0 of z."""
        return self.log_p if self.log_p_generation is None else self.log_p_generation


@torch.no_grad()
def from_codes(model: VAE, z: Codes) -> LatentSamples:
    """Return codes of the representation space with z0 and their densities under the prior.

    They are rounded to the model's precision first, and returned as rounded.
    """
    z = z.to(model.dtype).to(model.device)
    generation, to_generation = model.prior.generation, model.prior.to_generation
    if generation is None:
        return LatentSamples(z.cpu(), None, log_density(model.prior, z), None)
    z0, log_abs_det = _transform(to_generation, z, "g")
    log_p_generation = log_density(generation, z0)
    log_p = check_log_density(log_p_generation + log_abs_det, "log p(z)")
    return LatentSamples(z.cpu(), z0.cpu(), log_p, log_p_generation)


@torch.no_grad()
def prior_samples(model: VAE, n: int, *, generator: torch.Generator) -> LatentSamples:
    """Draw z0 on the CPU and map it to z = g^-1(z0); without a z0 draw z itself.

    The generator is the CPU's, so that the draws are the same on every device.

    Raises:
        DpvaeError: g^-1 overflowed, which only lifted bounds of the coupling allow.
    """
    generation = model.prior.generation
    if generation is None:
        z = model.prior.sample(n, generator=generator)
        return LatentSamples(_finite(z).cpu(), None, log_density(model.prior, z), None)
    z0, to_representation = generation.sample(n, generator=generator), model.prior.to_representation
    z, log_abs_det = _transform(to_representation, z0, "the inverse of g")
    z = _finite(z).cpu()
    log_p_generation = log_density(generation, z0)
    return LatentSamples(z, z0.cpu(), log_p_generation - log_abs_det, log_p_generation)


def posterior_samples(
    model: VAE, aggregate: AggregatePosterior, n: int, *, generator: torch.Generator
) -> LatentSamples:
    """Draw n points of q(z): a training example at random, then z ~ q(z|x).

    What they decode to is what no prior of this model can improve on.
    """
    drawn = from_codes(model, aggregate.sample(n, generator=generator))
    return drawn.with_log_q(aggregate)


def _transform(g: Transform, z: Codes, what: str) -> tuple[Codes, PerExample]:
    """Return g(z) and, on the CPU, its log-determinant, some rows at a time."""
    parts = map_in_chunks(lambda rows: g(z[rows]), len(z), size=CHUNK, what=what)
    values, log_abs_det = map(torch.cat, zip(*parts, strict=True))
    return values, log_abs_det.cpu()


def log_density(density: Prior, z: Codes) -> PerExample:
    """Return log-densities on the CPU, some rows at a time.

    Raises:
        DpvaeError: some are NaN.
    """
    parts = map_in_chunks(
        lambda rows: density.log_prob(z[rows]).cpu(), len(z), size=CHUNK, what="log-densities"
    )
    return check_log_density(torch.cat(list(parts)), "log p(z)")


def check_log_density(values: Tensor, what: str) -> Tensor:
    """Return log-densities that a metric is computed from.

    Where a density overflows it is -inf, so NaN comes of codes or weights that are NaN.

    Raises:
        DpvaeError: some are NaN.
    """
    if bad := int(torch.isnan(values).sum()):
        raise DpvaeError(
            f"{what} is NaN for {bad} of {values.numel()} codes: the codes or the prior's weights "
            "are not finite",
            hint="Take an earlier checkpoint (--best, checkpoint.previous.pt), or train again with "
            "a smaller training.learning_rate or with training.gradient_clip.",
        )
    return values


def _finite(z: Codes) -> Tensor:
    if bad := int((~torch.isfinite(z).all(dim=1)).sum()):
        raise DpvaeError(
            f"{bad} of {len(z)} samples are not finite: g^-1 overflows",
            hint="Train with prior.scale_bound and prior.translate_bound (not null).",
        )
    return z


def low_posterior(
    model: VAE, aggregate: AggregatePosterior, n: int, *, pool: int, generator: torch.Generator
) -> LatentSamples:
    """Draw `pool` samples of the prior and keep the n with the lowest exact log q(z), lowest first.

    Source: paper, section 4.1; the paper gives no pool size.

    Raises:
        UsageError: the pool is smaller than n.
    """
    _check_pool_size(pool, n)
    drawn = prior_samples(model, pool, generator=generator).with_log_q(aggregate)
    assert drawn.log_q is not None
    return drawn.select(lowest(drawn.log_q, n))


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
        UsageError: the pool is smaller than n, or the prior has no generation space to rank in.
    """
    _check_pool_size(pool, n)
    if rank == "generation":
        model.prior.require_generation()
    drawn = from_codes(model, aggregate.sample(pool, generator=generator))
    score = drawn.log_p if rank == "representation" else drawn.base_log_prob
    return drawn.select(lowest(score, n)).with_log_q(aggregate)


def lowest(score: PerExample, n: int) -> torch.Tensor:
    """Return the positions of the n lowest scores, lowest first; ties in their order."""
    return torch.sort(score, stable=True).indices[:n]


def _check_pool_size(pool: int, n: int) -> None:
    if pool < n:
        raise UsageError(
            f"a pool of {pool} is too small to keep {n} samples of", hint="Raise --pool."
        )
