"""The decoupled prior: the density of z0 pulled back to z by a bijection (section 4.2)."""

from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import Field

from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.foundation.spec import FROM_LIST
from dpvae_cli.mathematics.coupling import (
    AffineCoupling,
    Bijection,
    Mask,
    alternating,
    constant_dimensions,
    halves,
)
from dpvae_cli.priors.base import Prior, PriorSpec
from dpvae_cli.priors.mixture import MixturePrior
from dpvae_cli.priors.standard_normal import StandardNormalPrior
from dpvae_cli.priors.student_t import StudentTPrior


class DecoupledPrior(Prior):
    """p(z) = p0(g(z)) |det dg/dz|, g a bijection trained with the VAE, p0 = N(0, I) in the paper.

    Source: paper, equations (2) and (7); KL as (12) with the entropy (16), constants kept.
    Deviations from the printed formulas stand in `docs/equations.md`.

    Args:
        bijection: g, from z to z0.
        base: p0, the density of z0; it may have parameters of its own.

    Example:
        >>> import torch
        >>> prior = Decoupled().build(2, None, (2,))
        >>> prior.log_prob(prior.sample(4)).shape
        torch.Size([4])
    """

    def __init__(self, bijection: Bijection, base: Prior) -> None:
        super().__init__(base.latent_dim)
        self.bijection = bijection
        self.base = base

    @property
    def generation(self) -> Prior:
        """Return p0."""
        return self.base

    def log_prob(self, z: Codes) -> PerExample:
        """Return log p0(g(z)) + log|det dg/dz|, in nats."""
        z0, log_abs_det = self.to_generation(z)
        return self.base.log_prob(z0) + log_abs_det

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Codes:
        """Draw n points z0 of p0 and return z = g^-1(z0)."""
        return self.points(self.base.sample(n, generator=generator))

    def to_generation(self, z: Codes) -> tuple[Codes, PerExample]:
        """Return z0 = g(z) and log|det dz0/dz| in nats."""
        return self.bijection.forward(z)

    def to_representation(self, z0: Codes) -> tuple[Codes, PerExample]:
        """Return z = g^-1(z0) and log|det dz/dz0| in nats."""
        return self.bijection.inverse(z0)


Bound = Annotated[float, Field(gt=0)] | None


@final
class Decoupled(PriorSpec):
    """The decoupled prior of the paper: z0 ~ N(0, I), z = g^-1(z0), g learned with the VAE.

    Example:
        >>> import dpvae_cli as dpvae
        >>> prior = dpvae.Decoupled(blocks=4).build(latent_dim=2)
        >>> z0, log_abs_det = prior.to_generation(prior.sample(5))
        >>> z0.shape, log_abs_det.shape
        (torch.Size([5, 2]), torch.Size([5]))
    """

    kind: Literal["decoupled"] = "decoupled"
    has_generation: ClassVar[bool] = True
    takes_labels: ClassVar[bool] = True
    blocks: Annotated[int, Field(ge=1, le=256)] = 6
    """K, the number of coupling blocks (paper: Figure 9; released code: 6)."""
    masks: (
        Literal["halves", "alternating"]
        | Annotated[
            tuple[Annotated[tuple[Annotated[int, Field(ge=0, le=1)], ...], FROM_LIST], ...],
            FROM_LIST,
        ]
    ) = "halves"
    """`halves`, `alternating`, or the K masks themselves; 1 conditions, 0 is transformed."""
    hidden: Annotated[int, Field(ge=1)] = 64
    """Width of the two hidden layers of each scale and translation net."""
    scale_bound: Bound = 1.0
    """Log-scales stay within +-bound per block (tanh); null removes the bound."""
    translate_bound: Bound = 1.0
    """Translations stay within +-bound per block (tanh); null removes the bound."""
    base: Literal["normal", "student_t", "mixture"] = "normal"
    """What z0 is drawn from: N(0, I), heavy tails or several modes; the last two learn with g."""
    base_components: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Gaussians of `base: mixture`."""

    def resolve_masks(self, latent_dim: int) -> tuple[Mask, ...]:
        """Return the K masks of length `latent_dim`."""
        if self.masks == "halves":
            return halves(self.blocks, latent_dim)
        if self.masks == "alternating":
            return alternating(self.blocks, latent_dim)
        return self.masks

    def validation_error(self, latent_dim: int) -> str | None:
        """Reject one dimension, masks of another size, idle blocks and untouched dimensions."""
        if latent_dim < 2:
            return (
                f"coupling splits z in two and needs latent_dim >= 2 (given: {latent_dim}); "
                "raise architecture.latent_dim or use prior=standard_normal"
            )
        masks = self.resolve_masks(latent_dim)
        if len(masks) != self.blocks:
            return f"{len(masks)} masks are given for {self.blocks} blocks; give one mask a block"
        if wrong := [mask for mask in masks if len(mask) != latent_dim]:
            return f"mask {list(wrong[0])} has {len(wrong[0])} entries, latent_dim is {latent_dim}"
        if any(all(mask) for mask in masks):
            return "a mask of ones alone transforms nothing; put a 0 where the block shall act"
        if idle := constant_dimensions(masks):
            return (
                f"no block transforms dimension {idle[0]}, so g would leave it as it is; "
                "raise blocks or give it a 0 in some mask"
            )
        return None

    def _build(
        self, latent_dim: int, _encoder: object, _shape: object, context: int, /
    ) -> DecoupledPrior:
        bijection = AffineCoupling(
            self.resolve_masks(latent_dim),
            hidden=self.hidden,
            scale_bound=self.scale_bound,
            translate_bound=self.translate_bound,
            context=context,
        )
        base = {"normal": StandardNormalPrior, "student_t": StudentTPrior}.get(self.base)
        if base is None:
            return DecoupledPrior(bijection, MixturePrior(latent_dim, self.base_components))
        return DecoupledPrior(bijection, base(latent_dim))
