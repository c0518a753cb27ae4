"""Mixtures of Gaussians that gradients pass through: learned ones, and the VampPrior's.

`aggregate_posterior` has the exact mixture over all training examples, without gradients.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from dpvae_cli.foundation.randomness import normal_noise, uniform_noise
from dpvae_cli.foundation.shapes import Codes, Components, PerExample
from dpvae_cli.mathematics.gaussian import LOG_2PI

AT_ONCE = 2**22
"""Exponents held at a time where no gradient is wanted."""


@final
@dataclass(frozen=True)
class GaussianMixture:
    """p(z) = sum over k of w_k N(z; mean_k, covariance_k).

    Without `lower` covariance_k = diag(v_k), v_k = exp(log_variance_k). With it
    covariance_k^-1 = (I + lower_k)^T diag(1 / v_k) (I + lower_k): v_kl is the variance of z_l
    given the dimensions before it, and no covariance is other than positive definite. The
    exponentials of `log_weights` sum to one; `lower` is strictly lower triangular.

    Source: the modified Cholesky decomposition of Pourahmadi 1999.

    Example:
        >>> import torch
        >>> weights = torch.tensor([0.3, 0.7])
        >>> p = GaussianMixture(weights.log(), torch.zeros(2, 5), torch.zeros(2, 5))
        >>> p.log_prob(p.sample(4)).shape
        torch.Size([4])
    """

    log_weights: Float[Tensor, " components"]
    mean: Components
    log_variance: Components
    lower: Float[Tensor, "components latent latent"] | None = None

    def log_prob(self, z: Codes) -> PerExample:
        """Return log p(z) of each row in nats; gradients reach z and all parameters."""
        if torch.is_grad_enabled():
            return self._log_prob(z)
        rows = max(1, AT_ONCE // self.mean.numel())
        return torch.cat([self._log_prob(part) for part in z.split(rows)])

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Codes:
        """Draw n points: a component by its weight, then a point of it.

        Gradients reach means and variances; which component is drawn has none.
        """
        cumulative = torch.cumsum(self.log_weights.detach().exp(), dim=0)
        uniform = uniform_noise(n, like=self.mean, generator=generator)
        last = len(cumulative) - 1
        chosen = torch.searchsorted(cumulative, uniform, right=True).clamp(max=last)
        noise = normal_noise(n, self.mean.shape[1], like=self.mean, generator=generator)
        deviations = torch.exp(0.5 * self.log_variance[chosen]) * noise
        if self.lower is not None:
            deviations = torch.linalg.solve_triangular(
                self.lower[chosen], deviations.unsqueeze(-1), upper=False, unitriangular=True
            ).squeeze(-1)
        return self.mean[chosen] + deviations

    def _log_prob(self, z: Codes) -> PerExample:
        # Differences, not products: those cancel in float32 where components are narrow.
        deviations = z.unsqueeze(1) - self.mean
        if self.lower is not None:
            deviations = deviations + torch.einsum("kij,bkj->bki", self.lower, deviations)
        squared = deviations.square() * torch.exp(-self.log_variance)
        exponents = -0.5 * (squared + self.log_variance + LOG_2PI).sum(dim=-1)
        return torch.logsumexp(exponents + self.log_weights, dim=1)
