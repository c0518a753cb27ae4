"""Independent Student t variables, the heavy-tailed base of a decoupled prior."""

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpvae_cli.foundation.randomness import uniform_noise
from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.priors.base import Prior

MIN_FREEDOM, INITIAL_FREEDOM = 2.0, 5.0
"""Degrees of freedom: more than two, so that variances are finite; and how many to begin with."""


@final
class StudentTPrior(Prior):
    """p(z) = product over l of t(z_l; nu_l), each with its own learned degrees of freedom nu_l.

    nu_l = 2 + softplus(raw_l). Source: Jaini et al. 2020 (tails of flows are those of their base);
    sampling by Bailey 1994, which is differentiable in nu.

    Args:
        latent_dim: L.

    Example:
        >>> StudentTPrior(2).sample(4).shape
        torch.Size([4, 2])
    """

    factorises = True

    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim)
        raw = math.log(math.expm1(INITIAL_FREEDOM - MIN_FREEDOM))
        self.raw = nn.Parameter(torch.full((latent_dim,), raw))

    @property
    def degrees_of_freedom(self) -> Tensor:
        """Return nu, `(latent,)`."""
        return MIN_FREEDOM + functional.softplus(self.raw)

    def log_prob(self, z: Codes) -> PerExample:
        """Return the sum over l of log t(z_l; nu_l), in nats."""
        nu = self.degrees_of_freedom
        constant = torch.lgamma((nu + 1) / 2) - torch.lgamma(nu / 2) - 0.5 * torch.log(math.pi * nu)
        return (constant - (nu + 1) / 2 * torch.log1p(z.square() / nu)).sum(dim=-1)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Codes:
        """Draw n points: sqrt(nu (U^(-2 / nu) - 1)) cos(2 pi V), U and V uniform."""
        nu = self.degrees_of_freedom
        u, v = uniform_noise(2, n, self.latent_dim, like=self.raw, generator=generator).unbind(0)
        # log1p: U = 1 - u is never zero. The floor keeps the root's slope finite at U = 1.
        squared = nu * torch.expm1(-2 / nu * torch.log1p(-u))
        return torch.sqrt(squared.clamp(min=1e-12)) * torch.cos(2 * math.pi * v)
