"""The aggregate posterior q(z) = 1/N sum over n of q(z|x_n), exactly (paper, section 4.1).

Every log-density is a log-sum-exp over all N components. The exponents are quadratic in z, so a
block of them is one matrix product of (z^2, z) with per-component coefficients; a running maximum
keeps the memory at one block whatever N is. All of it is float64: float32 products cancel at small
component scales (1e-2 nats at scale 0.03, L = 32).
"""

import math
from typing import final

import torch
from torch import Tensor

from dpvae_cli.foundation.memory import in_parts
from dpvae_cli.foundation.shapes import Codes, Components, PerExample
from dpvae_cli.mathematics.gaussian import LOG_2PI

ROWS, COLUMNS = 256, 1024
"""A block of exponents: 2 MiB, which stays in a core's cache from one pass to the next."""

NEGLIGIBLE = -80.0
"""Exponents this far below a row's largest count as this far: N exp(-80) is lost in the rounding of
the sum, and exponentials that underflow cost ten times as much."""


@final
class AggregatePosterior:
    """q(z), the uniform mixture of N diagonal Gaussians; speaks `log_prob` and `sample`.

    Source: paper, section 4.1; the exact mixture of all N components, every latent dimension.

    Args:
        mean: encoder means of all N examples, `(components, latent)`.
        log_variance: encoder log-variances, `(components, latent)`.

    Example:
        >>> import torch
        >>> q = AggregatePosterior(torch.zeros(10, 2), torch.zeros(10, 2))
        >>> q.log_prob(q.sample(5)).shape
        torch.Size([5])
    """

    def __init__(self, mean: Components, log_variance: Components) -> None:
        self.mean = _double(mean)
        self.log_variance = _double(log_variance)
        self._centre = self.mean.mean(dim=0)

    @property
    def latent_dim(self) -> int:
        """Return L."""
        return self.mean.shape[1]

    def __len__(self) -> int:
        """Return N, the number of components."""
        return self.mean.shape[0]

    def log_prob(self, z: Codes) -> PerExample:
        """Return log q(z) of each row in nats, float64, on the device and in the order of `z`.

        Costs 4 L N multiplications and N exponentials a row; memory does not grow with N.
        """
        return self._log_prob(z, slice(None))

    def marginal_log_prob(self, z: Codes) -> Codes:
        """Return log q(z_l) of each row and dimension l in nats, float64, `(batch, latent)`."""
        columns = [self._log_prob(z, slice(l, l + 1)) for l in range(self.latent_dim)]
        return torch.stack(columns, dim=-1)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Codes:
        """Draw n points of q(z): a component uniformly at random, then a point of it; float64."""
        device = self.mean.device
        chosen = torch.randint(len(self), (n,), generator=generator, device=device)
        noise = torch.randn(
            (n, self.latent_dim), generator=generator, dtype=torch.float64, device=device
        )
        return self.mean[chosen] + torch.exp(0.5 * self.log_variance[chosen]) * noise

    def _log_prob(self, z: Codes, dimensions: slice) -> PerExample:
        """Return log q of the chosen dimensions of each row."""
        parts = in_parts(
            lambda rows: self._log_prob_at_once(z[rows], dimensions),
            len(z),
            size=max(1, len(z)),
            what="log q(z)",
        )
        return torch.cat(list(parts))

    def _log_prob_at_once(self, z: Codes, dimensions: slice) -> PerExample:
        """Return log q of the chosen dimensions of each row, block by block of components."""
        centre = self._centre[dimensions]
        centred = _double(z[:, dimensions]).to(centre.device) - centre
        features = torch.cat([centred.square(), centred], dim=1)
        total = _LogSumExp(features)
        for mean, log_variance in zip(
            self.mean[:, dimensions].split(COLUMNS),
            self.log_variance[:, dimensions].split(COLUMNS),
            strict=True,
        ):
            total.add(*_coefficients(mean - centre, log_variance))
        return (total.value() - math.log(len(self))).to(z.device)


def _coefficients(mean: Components, log_variance: Components) -> tuple[Tensor, Tensor]:
    """Return A `(2 latent, components)` and c: log q(z|x_n) = [z^2, z] A_n + c_n."""
    precision = torch.exp(-log_variance)
    coefficients = torch.cat([-0.5 * precision, precision * mean], dim=1).T
    constants = -0.5 * (precision * mean.square() + log_variance + LOG_2PI).sum(dim=1)
    return coefficients, constants


@final
class _LogSumExp:
    """log sum_n exp([z^2, z] A_n + c_n) of each row, over blocks of n that come one by one."""

    def __init__(self, features: Tensor) -> None:
        self._features = features
        self._maximum = features.new_full((len(features), 1), -torch.inf)
        self._total = features.new_zeros(len(features), 1)
        self._scratch = features.new_empty(ROWS * COLUMNS)

    def add(self, coefficients: Tensor, constants: Tensor) -> None:
        """Add one block of components to every row."""
        for start in range(0, len(self._features), ROWS):
            rows = slice(start, start + ROWS)
            features, maximum = self._features[rows], self._maximum[rows]
            shape = len(features), len(constants)
            exponents = self._scratch[: shape[0] * shape[1]].view(shape)
            torch.addmm(constants, features, coefficients, out=exponents)
            larger = torch.maximum(maximum, exponents.amax(dim=1, keepdim=True))
            summands = exponents.sub_(larger).clamp_(min=NEGLIGIBLE).exp_()
            total = self._total[rows]
            total.mul_(torch.exp(maximum - larger)).add_(summands.sum(dim=1, keepdim=True))
            maximum.copy_(larger)

    def value(self) -> Tensor:
        """Return the sum's logarithm, `(rows,)`."""
        return (self._maximum + torch.log(self._total)).squeeze(1)


def _double(tensor: Tensor) -> Tensor:
    """Return float64, on the CPU where the device has none."""
    tensor = tensor.detach()
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).to(torch.float64)
