"""A learned mixture of Gaussians."""

from typing import Annotated, ClassVar, Literal, final

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.mathematics.mixture import GaussianMixture
from dpvae_cli.priors.base import Prior, PriorSpec

JOINT_COMPONENTS = 50
"""K of a mixture that learns with its VAE, where the recipe does not say."""


@final
class MixturePrior(Prior):
    """p(z) = sum over k of w_k N(z; mean_k, covariance_k), all of it learned.

    Weights are the softmax of `logits`, equal at first; means begin as draws of N(0, I),
    covariances as the identity. A full covariance has the entries below the diagonal of its unit
    triangular factor (`GaussianMixture`) in `below`, row by row. Source: the baseline of Tomczak
    and Welling 2018, section 3.

    Args:
        latent_dim: L.
        components: K.
        full: whether covariances have more than a diagonal.

    Example:
        >>> MixturePrior(2, 5).sample(4).shape
        torch.Size([4, 2])
    """

    def __init__(self, latent_dim: int, components: int, *, full: bool = False) -> None:
        super().__init__(latent_dim)
        self.logits = nn.Parameter(torch.zeros(components))
        self.mean = nn.Parameter(torch.randn(components, latent_dim))
        self.log_variance = nn.Parameter(torch.zeros(components, latent_dim))
        entries = latent_dim * (latent_dim - 1) // 2
        self.below = nn.Parameter(torch.zeros(components, entries)) if full and entries else None

    def log_prob(self, z: Codes) -> PerExample:
        """Return log p(z) of each row, in nats."""
        return self._mixture().log_prob(z)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Codes:
        """Draw n points; gradients reach means and covariances, weights learn by `log_prob`."""
        return self._mixture().sample(n, generator=generator)

    @torch.no_grad()
    def set_components(
        self,
        weights: Float[Tensor, " components"],
        mean: Float[Tensor, "components latent"],
        factors: Float[Tensor, "components latent latent"],
    ) -> None:
        """Set every component; the dtype and the device stay.

        Args:
            weights: w_k, positive, of sum one.
            mean: of each component.
            factors: lower triangular W_k with covariance_k^-1 = W_k^T W_k; diagonal ones where
                the prior's covariances are.
        """
        scale = factors.diagonal(dim1=-2, dim2=-1)
        self.logits.copy_(weights.log())
        self.mean.copy_(mean)
        self.log_variance.copy_(-2 * scale.log())
        if self.below is not None:
            rows, columns = self._below_diagonal()
            self.below.copy_((factors / scale.unsqueeze(-1))[:, rows, columns])

    def _mixture(self) -> GaussianMixture:
        log_weights = torch.log_softmax(self.logits, dim=0)
        lower = None
        if self.below is not None:
            rows, columns = self._below_diagonal()
            lower = self.mean.new_zeros(*self.mean.shape, self.latent_dim)
            lower[:, rows, columns] = self.below
        return GaussianMixture(log_weights, self.mean, self.log_variance, lower)

    def _below_diagonal(self) -> Tensor:
        """Return rows and columns of the entries below the diagonal."""
        size = self.latent_dim
        return torch.tril_indices(size, size, offset=-1, device=self.mean.device)


@final
class Mixture(PriorSpec):
    """A mixture of Gaussians: learned with the VAE, or fitted by expectation maximisation.

    Example:
        >>> import torch
        >>> import dpvae_cli as dpvae
        >>> codes = torch.cat([torch.randn(200, 2) - 5, torch.randn(200, 2) + 5])
        >>> fitted = dpvae.fit_prior(codes, prior=dpvae.Mixture(components=2))
        >>> fitted.record.gain.value > 1  # nats a held-out code, against N(0, I)
        True
    """

    kind: Literal["mixture"] = "mixture"
    has_generation: ClassVar[bool] = False
    components: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """K; null: 50 if trained jointly, selected on held-out codes if fitted afterwards."""
    covariance: Literal["diagonal", "full"] = "diagonal"
    """Covariances of the components: `diagonal`, or `full` with L (L - 1) / 2 more numbers each."""

    def _build(self, latent_dim: int, *_: object) -> MixturePrior:
        components = self.components or JOINT_COMPONENTS
        return MixturePrior(latent_dim, components, full=self.covariance == "full")
