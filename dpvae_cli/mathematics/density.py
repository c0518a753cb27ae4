"""What every latent density can do; priors implement it, regularizers and metrics ask no more."""

from typing import Protocol, runtime_checkable

import torch

from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.mathematics.gaussian import DiagonalGaussian


@runtime_checkable  # so that beartype can check it under pytest
class LatentDensity(Protocol):
    """A density p(z) on the representation space."""

    @property
    def factorises(self) -> bool:
        """Tell whether p(z) is the product of its marginals."""
        ...

    def log_prob(self, z: Codes) -> PerExample:
        """Return log p(z) in nats."""
        ...

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Codes:
        """Draw n points of p(z)."""
        ...

    def kl(self, posterior: DiagonalGaussian, z: Codes) -> PerExample:
        """Return KL[q(z|x), p(z)] in nats, in closed form or from the draw `z` of the posterior."""
        ...
