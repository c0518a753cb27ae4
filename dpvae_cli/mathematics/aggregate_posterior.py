"""The aggregate posterior q(z) = 1/N sum over n of q(z|x_n), exactly (paper, section 4.1).

Every log-density is a log-sum-exp over all N components. The exponents are quadratic in z, so a
block of them, less the largest found so far, is one matrix product of (z^2, z, 1, -largest) with
per-component coefficients; memory stays at one block for any N. All of it is float64: float32
products cancel at small component scales (1e-2 nats at scale 0.03, L = 32).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor

from dpvae_cli.foundation.shapes import Codes, Components, PerExample
from dpvae_cli.mathematics.gaussian import LOG_2PI

ROWS, COLUMNS = 256, 1024
"""A block of exponents: 2 MiB, which stays in a core's cache from one pass to the next."""

NEGLIGIBLE = -80.0
"""Exponents this far below a row's largest count as this far: N exp(-80) is lost in the rounding of
the sum, and exponentials that underflow cost ten times as much."""
LARGE = 600.0
"""Exponents this far above the largest so far are still summed as they are: exp(709) is a float64,
and taking a new largest off costs another pass."""

RowMap = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]
"""Evaluates a function that treats each row alike: `map_rows(compute, rows) = compute(rows)`."""


@final
class AggregatePosterior:
    """q(z), the uniform mixture of N diagonal Gaussians, with `log_prob` and `sample`.

    Source: paper, section 4.1; the exact mixture of all N components, every latent dimension.

    Args:
        mean: encoder means of all N examples, `(components, latent)`.
        log_variance: encoder log-variances, `(components, latent)`.
        map_rows: evaluates log-densities of many rows, in chunks or shared by processes; None
            evaluates all rows at once.

    Example:
        >>> import torch
        >>> q = AggregatePosterior(torch.zeros(10, 2), torch.zeros(10, 2))
        >>> q.log_prob(q.sample(5)).shape
        torch.Size([5])
    """

    def __init__(
        self, mean: Components, log_variance: Components, *, map_rows: RowMap | None = None
    ) -> None:
        self._map_rows: RowMap = map_rows or (lambda compute, rows: compute(rows))
        self.mean = _double(mean)
        self.log_variance = _double(log_variance)
        self.latent_dim = mean.shape[1]
        self._centre = self.mean.mean(dim=0)

    def __len__(self) -> int:
        """Return N, the number of components."""
        return self.mean.shape[0]

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return E[z] `(latent,)` and Cov[z] `(latent, latent)` in closed form, float64.

        Cov[z] is the covariance of the encoder means plus the mean of the posterior variances.
        """
        centred = self.mean - self._centre
        variances = torch.exp(self.log_variance).mean(dim=0)
        return self._centre, centred.T @ centred / len(self) + torch.diag(variances)

    def log_prob(self, z: Codes) -> PerExample:
        """Return log q(z) of each row in nats, float64, on the device and in the order of `z`.

        Costs 4 L N multiplications and N exponentials a row; memory does not grow with N.
        """
        return self._map_rows(partial(self._log_prob, dimensions=slice(None)), z)

    def marginal_log_prob(self, z: Codes) -> Codes:
        """Return log q(z_l) of each row and dimension l in nats, float64, `(batch, latent)`."""
        dimensions = (slice(l, l + 1) for l in range(self.latent_dim))
        columns = [self._map_rows(partial(self._log_prob, dimensions=d), z) for d in dimensions]
        return torch.stack(columns, dim=-1)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Codes:
        """Draw n points of q(z): a component uniformly at random, then a point of it; float64."""
        return self.sample_with_components(n, generator=generator)[0]

    def sample_with_components(
        self, n: int, *, generator: torch.Generator | None = None
    ) -> tuple[Codes, Int[Tensor, " batch"]]:
        """Draw the same points as `sample`, and return which component each is of."""
        device = self.mean.device
        chosen = torch.randint(len(self), (n,), generator=generator, device=device)
        noise = torch.randn(
            (n, self.latent_dim), generator=generator, dtype=torch.float64, device=device
        )
        return self.mean[chosen] + torch.exp(0.5 * self.log_variance[chosen]) * noise, chosen

    def _log_prob(self, z: Codes, dimensions: slice) -> PerExample:
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
            # A (2 latent + 2, components): [z^2, z, 1, -m] A_n = log q(z|x_n) - m
            precision, shifted = torch.exp(-log_variance), mean - centre
            quadratic = precision * shifted.square() + log_variance + LOG_2PI
            constants = -0.5 * quadratic.sum(dim=1, keepdim=True)
            parts = [-0.5 * precision, precision * shifted, constants, torch.ones_like(constants)]
            total.add(torch.cat(parts, dim=1).T.contiguous())
        return (total.value() - math.log(len(self))).to(z.device)


@final
class _LogSumExp:
    """log sum_n exp([z^2, z, 1, 0] A_n) of each row, over blocks of n that come one by one.

    Each row's sum is kept relative to exp(m), m nearly its largest exponent so far; -m is the last
    of the row's features.
    """

    def __init__(self, features: Tensor) -> None:
        one = features.new_ones(len(features), 1)
        self._features = torch.cat([features, one, torch.zeros_like(one)], dim=1)
        self._total = torch.zeros_like(one)
        self._scratch = features.new_empty(ROWS * COLUMNS)
        self._is_empty = True

    def add(self, coefficients: Tensor) -> None:
        """Add one block of components to every row."""
        for start in range(0, len(self._features), ROWS):
            rows = slice(start, start + ROWS)
            features, total = self._features[rows], self._total[rows]
            shape = len(features), coefficients.shape[1]
            exponents = self._scratch[: shape[0] * shape[1]].view(shape)
            torch.mm(features, coefficients, out=exponents)
            largest = exponents.amax(dim=1, keepdim=True)
            if self._is_empty or bool((largest > LARGE).any()):
                rise = largest if self._is_empty else largest.clamp(min=0)
                exponents.sub_(rise)
                features[:, -1:].sub_(rise)
                total.mul_(torch.exp(-rise.clamp(min=0)))
            total.add_(exponents.clamp_(min=NEGLIGIBLE).exp_().sum(dim=1, keepdim=True))
        self._is_empty = False

    def value(self) -> Tensor:
        """Return the sum's logarithm, `(rows,)`."""
        return (torch.log(self._total) - self._features[:, -1:]).squeeze(1)


def _double(tensor: Tensor) -> Tensor:
    """Return float64, on the CPU where the device has none."""
    tensor = tensor.detach()
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).to(torch.float64)
