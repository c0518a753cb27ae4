"""The standard normal prior of the plain VAE; its bijection is the identity."""

from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.mathematics.gaussian import (
    DiagonalGaussian,
    standard_normal_log_prob,
    standard_normal_sample,
)
from dpvae_cli.priors.base import Prior, PriorSpec


@final
class StandardNormalPrior(Prior):
    """p(z) = N(z; 0, I). Source: paper, section 3.1."""

    origin: Tensor
    factorises = True

    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim)
        self.register_buffer("origin", torch.zeros(latent_dim), persistent=False)
        self.spec = StandardNormal()

    @property
    def generation(self) -> Prior:
        """Return the prior itself: g is the identity."""
        return self

    def log_prob(self, z: Codes) -> PerExample:
        """Return log N(z; 0, I), in nats."""
        return standard_normal_log_prob(z)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Codes:
        """Draw n points of N(0, I)."""
        return standard_normal_sample(n, self.origin, generator=generator)

    def kl(self, posterior: DiagonalGaussian, z: Codes) -> PerExample:
        """Return KL[q(z|x), N(0, I)] in closed form, in nats; `z` is not needed."""
        return posterior.cross_entropy_to_standard_normal() - posterior.entropy()

    def to_generation(self, z: Codes) -> tuple[Codes, PerExample]:
        """Return z itself and zeros."""
        return z, z.new_zeros(z.shape[0])

    def to_representation(self, z0: Codes) -> tuple[Codes, PerExample]:
        """Return z0 itself and zeros."""
        return z0, z0.new_zeros(z0.shape[0])


@final
class StandardNormal(PriorSpec):
    """The standard normal N(0, I): z is the generation space itself.

    Example:
        >>> import torch
        >>> import dpvae_cli as dpvae
        >>> float(dpvae.StandardNormal().build(latent_dim=2).log_prob(torch.zeros(1, 2)))
        -1.8378770351409912
    """

    kind: Literal["standard_normal"] = "standard_normal"
    has_generation: ClassVar[bool] = True

    def _build(self, latent_dim: int, *_: object) -> StandardNormalPrior:
        return StandardNormalPrior(latent_dim)
