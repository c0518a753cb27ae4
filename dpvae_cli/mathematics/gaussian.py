"""Diagonal Gaussians: the encoder's q(z|x) and the standard normal (paper, section 3.1)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from dpvae_cli.foundation.randomness import normal_noise
from dpvae_cli.foundation.shapes import Codes, PerExample

LOG_2PI = math.log(2 * math.pi)


def standard_normal_log_prob(z: Codes) -> PerExample:
    """Return log N(z; 0, I) = -1/2 (|z|^2 + L log 2 pi) of each row, in nats."""
    return -0.5 * (z.square().sum(dim=-1) + z.shape[-1] * LOG_2PI)


def standard_normal_sample(
    n: int, like: Tensor, *, generator: torch.Generator | None = None
) -> Codes:
    """Draw n points of N(0, I), as wide as the last dimension of `like`, of its type and device."""
    return normal_noise(n, like.shape[-1], like=like, generator=generator)


@final
@dataclass(frozen=True)
class DiagonalGaussian:
    """q(z|x) = N(z; mean, diag(exp(log_variance))), one Gaussian a row.

    Source: paper, section 3.1 (where `sigma_z` is a variance).

    Args:
        mean: `(batch, latent)`.
        log_variance: log of the variance (not of the standard deviation), `(batch, latent)`.

    Example:
        >>> import torch
        >>> posterior = DiagonalGaussian(torch.zeros(3, 2), torch.zeros(3, 2))
        >>> posterior.log_prob(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    mean: Codes
    log_variance: Codes

    def log_prob(self, z: Codes) -> PerExample:
        """Return log q(z|x) of row i of `z` under Gaussian i, in nats."""
        squared = (z - self.mean).square() * torch.exp(-self.log_variance)
        return (-0.5 * (squared + self.log_variance + LOG_2PI)).sum(dim=-1)

    def sample(self, n: int | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw by reparameterisation, mean + standard deviation * noise; gradients pass through.

        Args:
            n: None gives one draw a row, `(batch, latent)`; a number gives `(n, batch, latent)`.
            generator: source of the noise, on the same device.
        """
        shape = self.mean.shape if n is None else (n, *self.mean.shape)
        noise = torch.randn(
            shape, generator=generator, dtype=self.mean.dtype, device=self.mean.device
        )
        return self.reparameterise(noise)

    def reparameterise(self, noise: Tensor) -> Tensor:
        """Return mean + standard deviation * noise, the draw that belongs to standard noise."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def entropy(self) -> PerExample:
        """Return the differential entropy L/2 (1 + log 2 pi) + 1/2 sum log_variance, in nats.

        Source: paper, equation (16).
        """
        latent_dim = self.mean.shape[-1]
        return 0.5 * (self.log_variance.sum(dim=-1) + latent_dim * (1 + LOG_2PI))

    def cross_entropy_to_standard_normal(self) -> PerExample:
        """Return -E_q[log N(z; 0, I)] = 1/2 sum(mean^2 + variance + log 2 pi), in nats."""
        second_moment = self.mean.square() + torch.exp(self.log_variance)
        return 0.5 * (second_moment + LOG_2PI).sum(dim=-1)


def mean_and_log_variance(output: object) -> tuple[Tensor, Tensor]:
    """Return the two parts of what an encoder returned, a Gaussian or a pair of tensors.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(output, DiagonalGaussian):
        return output.mean, output.log_variance
    if isinstance(output, Sequence) and len(output) == 2:
        mean, log_variance = output
        if isinstance(mean, Tensor) and isinstance(log_variance, Tensor):
            return mean, log_variance
    raise TypeError("neither a Gaussian nor a pair of tensors")
