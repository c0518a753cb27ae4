"""The aggregate posterior q(z) = 1/N sum over n of q(z|x_n), exactly (paper, section 4.1).

Every log-density is a log-sum-exp over all N components. The exponents are quadratic in z, so a
block of them is one matrix product of (z^2, z) with per-component coefficients; a running maximum
keeps the memory at one block whatever N is. All of it is float64: float32 products cancel at small
component scales (1e-2 nats at scale 0.03, L = 32).
"""

from typing import final

import torch
from torch import Tensor

from dpvae_cli.foundation.shapes import Codes, Components, PerExample
from dpvae_cli.mathematics.gaussian import LOG_2PI

ROWS, COLUMNS = 256, 2048


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
        centred = _double(z).to(self.mean.device) - self._centre
        coefficients, constants = self._coefficients(self.mean, self.log_variance)
        return _log_mean_exp(centred, coefficients, constants).to(z.device)

    def marginal_log_prob(self, z: Codes) -> Codes:
        """Return log q(z_l) of each row and dimension l in nats, float64, `(batch, latent)`."""
        centred = _double(z).to(self.mean.device) - self._centre
        columns = []
        for l in range(self.latent_dim):
            one = slice(l, l + 1)
            coefficients, constants = self._coefficients(
                self.mean[:, one], self.log_variance[:, one], centre=self._centre[one]
            )
            columns.append(_log_mean_exp(centred[:, one], coefficients, constants))
        return torch.stack(columns, dim=-1).to(z.device)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Codes:
        """Draw n points of q(z): a component uniformly at random, then a point of it; float64."""
        device = self.mean.device
        chosen = torch.randint(len(self), (n,), generator=generator, device=device)
        noise = torch.randn(
            (n, self.latent_dim), generator=generator, dtype=torch.float64, device=device
        )
        return self.mean[chosen] + torch.exp(0.5 * self.log_variance[chosen]) * noise

    def _coefficients(
        self, mean: Components, log_variance: Components, *, centre: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return A `(2 latent, components)` and c: log q(z|x_n) = [z^2, z] A_n + c_n, z centred."""
        mean = mean - (self._centre if centre is None else centre)
        precision = torch.exp(-log_variance)
        coefficients = torch.cat([-0.5 * precision, precision * mean], dim=1).T.contiguous()
        constants = -0.5 * (precision * mean.square() + log_variance + LOG_2PI).sum(dim=1)
        return coefficients, constants


def _log_mean_exp(z: Codes, coefficients: Tensor, constants: Tensor) -> PerExample:
    """Return log 1/N sum_n exp([z^2, z] A_n + c_n) of each row, block by block."""
    features = torch.cat([z.square(), z], dim=1)
    blocks = list(
        zip(torch.split(coefficients, COLUMNS, dim=1), torch.split(constants, COLUMNS), strict=True)
    )
    rows = []
    for part in torch.split(features, ROWS):
        maximum = part.new_full((part.shape[0], 1), -torch.inf)
        total = part.new_zeros(part.shape[0], 1)
        for matrix, constant in blocks:
            exponents = torch.addmm(constant, part, matrix)
            larger = torch.maximum(maximum, exponents.amax(dim=1, keepdim=True))
            total = total * torch.exp(maximum - larger)
            total = total + exponents.sub_(larger).exp_().sum(dim=1, keepdim=True)
            maximum = larger
        rows.append((maximum + torch.log(total)).squeeze(1))
    count = torch.tensor(float(constants.shape[0]), dtype=torch.float64)
    joined = torch.cat(rows) if rows else features.new_zeros(0)
    return joined - torch.log(count).to(joined.device)


def _double(tensor: Tensor) -> Tensor:
    """Return float64, on the CPU where the device has none."""
    tensor = tensor.detach()
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).to(torch.float64)
