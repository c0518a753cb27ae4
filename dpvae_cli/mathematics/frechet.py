"""Frechet distance between two Gaussians, and the running statistics that describe them.

d^2 = |m_a - m_b|^2 + tr(A) + tr(B) - 2 tr((A B)^(1/2))

The last trace needs no matrix root: with A = F F^T it is the sum of the roots of the eigenvalues of
F^T B F, which is symmetric, so nothing turns complex and nothing iterates.
"""

from typing import final

import numpy as np
import torch
from torch import Tensor

from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.shapes import Codes

Array = Tensor | np.ndarray

ROUNDING = 10 * torch.finfo(torch.float64).eps
"""Eigenvalues below this share of the largest are rounding errors of zeros."""


def frechet_distance(
    mean_a: Array, covariance_a: Array, mean_b: Array, covariance_b: Array
) -> float:
    """Return the squared Frechet distance of two Gaussians, as FID quotes it, in float64.

    d^2 = |m_a - m_b|^2 + tr(A) + tr(B) - 2 tr((A B)^(1/2)). Singular covariances, as of fewer
    samples than dimensions, are fine.

    Source: Dowson and Landau 1982; Heusel et al. 2017, equation (6).

    Args:
        mean_a: `(features,)`.
        covariance_a: `(features, features)`, symmetric.
        mean_b: like `mean_a`.
        covariance_b: like `covariance_a`.

    Returns:
        The distance in squared units of the features; never negative.

    Raises:
        UsageError: the shapes do not fit, or a number is not finite.

    Example:
        >>> import torch
        >>> import dpvae_cli as dpvae
        >>> one, two = torch.eye(3), 4 * torch.eye(3)
        >>> round(dpvae.frechet_distance(torch.zeros(3), one, torch.ones(3), two), 6)
        6.0
    """
    given = {"a": (mean_a, covariance_a), "b": (mean_b, covariance_b)}
    tensors = []
    for name, pair in given.items():
        m, c = (torch.as_tensor(each).detach().cpu().double() for each in pair)
        if m.ndim != 1 or c.shape != (len(m), len(m)):
            raise UsageError(
                f"mean_{name} has shape {tuple(m.shape)} and covariance_{name} {tuple(c.shape)}",
                hint="A mean is (features,), its covariance (features, features).",
            )
        if not bool(torch.isfinite(m).all() and torch.isfinite(c).all()):
            raise UsageError(f"mean_{name} or covariance_{name} has numbers that are not finite")
        tensors += [m, c]
    m_a, a, m_b, b = tensors
    if m_a.shape != m_b.shape:
        raise UsageError(f"means of {len(m_a)} and {len(m_b)} features cannot be compared")
    for first, second in ((a, b), (b, a)):
        factor, failed = torch.linalg.cholesky_ex(first)
        if not failed:
            eigenvalues = torch.linalg.eigvalsh(factor.T @ second @ factor)
            trace_of_root = _significant(eigenvalues).sqrt().sum()
            break
    else:
        trace_of_root = torch.linalg.svdvals(_factor(a).T @ _factor(b)).sum()
    squared = (m_a - m_b).square().sum() + a.trace() + b.trace() - 2 * trace_of_root
    return max(0.0, float(squared))


def _factor(matrix: Tensor) -> Tensor:
    """Return F with F F^T = matrix."""
    eigenvalues, vectors = torch.linalg.eigh(matrix)
    factor: Tensor = vectors * _significant(eigenvalues).sqrt()
    return factor


def _significant(eigenvalues: Tensor) -> Tensor:
    """Set to zero what is zero but for rounding, whose root would be far from zero."""
    zero = eigenvalues <= ROUNDING * eigenvalues[-1:]
    return eigenvalues.masked_fill(zero, 0).clamp(min=0)


@final
class RunningMoments:
    """Mean and covariance of rows that come batch by batch, in float64; the rows are not kept.

    Source: Chan, Golub and LeVeque 1983 (merging two sets' mean and scatter).
    """

    def __init__(self, dimensions: int) -> None:
        self.count = 0
        self.mean = torch.zeros(dimensions, dtype=torch.float64)
        self._scatter = torch.zeros(dimensions, dimensions, dtype=torch.float64)

    def add(self, rows: Codes) -> None:
        """Take in a batch of rows."""
        values = rows.detach().cpu().double()
        center = values.mean(dim=0)
        shift, total = center - self.mean, self.count + len(values)
        self._scatter.addmm_((values - center).T, values - center)
        self._scatter.addr_(shift, shift, alpha=self.count * len(values) / total)
        self.mean += shift * len(values) / total
        self.count = total

    @property
    def covariance(self) -> Tensor:
        """Return the unbiased covariance, `(dimensions, dimensions)`.

        Raises:
            DpvaeError: there are fewer than two rows.
        """
        if self.count < 2:
            raise DpvaeError(f"{self.count} rows have no covariance")
        return self._scatter / (self.count - 1)
