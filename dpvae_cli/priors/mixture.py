"""A learned mixture of diagonal Gaussians."""

from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import nn

from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.mathematics.mixture import GaussianMixture
from dpvae_cli.priors.base import DirectPrior, PriorSpec


@final
class MixturePrior(DirectPrior):
    """p(z) = sum over k of w_k N(z; mean_k, diag(exp(log_variance_k))), all of it learned.

    Weights are the softmax of `logits`, equal at first; means begin as draws of N(0, I), variances
    as one. Source: the baseline of Tomczak and Welling 2018, section 3.

    Args:
        latent_dim: L.
        components: K.

    Example:
        >>> MixturePrior(2, 5).sample(4).shape
        torch.Size([4, 2])
    """

    factorises = False
    log_normaliser = None

    def __init__(self, latent_dim: int, components: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        self.mean = nn.Parameter(torch.randn(components, latent_dim))
        self.log_variance = nn.Parameter(torch.zeros(components, latent_dim))

    @property
    def latent_dim(self) -> int:
        """Return the width of the means."""
        return self.mean.shape[1]

    def log_prob(self, z: Codes) -> PerExample:
        """Return log p(z) of each row, in nats."""
        return self._mixture().log_prob(z)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Codes:
        """Draw n points; gradients reach means and variances, weights learn by `log_prob`."""
        return self._mixture().sample(n, generator=generator)

    def _mixture(self) -> GaussianMixture:
        return GaussianMixture(torch.log_softmax(self.logits, dim=0), self.mean, self.log_variance)


@final
class Mixture(PriorSpec):
    """A mixture of diagonal Gaussians: weights, means and variances learned with the VAE."""

    kind: Literal["mixture"] = "mixture"
    has_generation: ClassVar[bool] = False
    components: Annotated[int, Field(ge=1, le=10_000)] = 50
    """K, the number of Gaussians."""

    def complaint(self, latent_dim: int) -> str | None:
        """Fit every number of dimensions."""
        return None

    def build(
        self,
        latent_dim: int,
        encoder: nn.Module | None = None,
        example_shape: tuple[int, ...] | None = None,
    ) -> MixturePrior:
        """Return an untrained mixture in `latent_dim` dimensions."""
        prior = MixturePrior(latent_dim, self.components)
        prior.spec = self
        return prior
