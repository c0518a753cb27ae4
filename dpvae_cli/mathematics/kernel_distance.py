"""Kernel distance (KID): the squared MMD of two sets of features, unbiased at any sample size."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.shapes import Codes, OtherCodes, Scalar

PerSubset = Float[Tensor, " subsets"]

SUBSET, SUBSETS = 1_000, 10
"""Rows of a subset (KID's usual size), and how many subsets a small sample is cut into."""


class KernelDistance(NamedTuple):
    """A squared MMD, its standard error, and the subsets that it is a mean over."""

    value: float
    standard_error: float
    subset_size: int
    subsets: int


def polynomial_mmd(x: Codes, y: OtherCodes) -> Scalar:
    """Return the unbiased estimate of MMD^2 with the kernel k(a, b) = (a.b / features + 1)^3.

    Means over distinct pairs within x and within y, minus twice the mean over cross pairs; no unit,
    and negative now and then where both sets come from one distribution.

    Source: Binkowski et al. 2018, section 3.
    """

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a: Tensor) -> Tensor:
        matrix = kernel(a, a)
        return (matrix.sum() - matrix.trace()) / (len(a) * (len(a) - 1))

    return within(x) + within(y) - 2 * kernel(x, y).mean()


def subset_size(rows: int) -> int:
    """Return the rows of a subset: the usual 1,000, or fewer so that there are ten subsets."""
    if rows < 4:
        raise UsageError(f"{rows} rows are too few for a kernel distance; it takes 4 or more")
    return max(2, min(SUBSET, rows // SUBSETS))


def mmd_of_subsets(x: Codes, y: OtherCodes, *, size: int) -> PerSubset:
    """Return the MMD^2 of each pair of subsets: the first `size` rows of both, the next, and so on.

    No row is in two subsets, so the values are independent. Rows must be in random order.
    """
    count = min(len(x), len(y)) // size
    parts = [slice(start, start + size) for start in range(0, count * size, size)]
    return torch.stack([polynomial_mmd(x[part].double(), y[part].double()) for part in parts])


def kernel_distance(
    x: Tensor | np.ndarray, y: Tensor | np.ndarray, *, size: int | None = None, seed: int = 0
) -> KernelDistance:
    """Return the kernel distance (KID) of two sets of features with its standard error.

    The mean of `polynomial_mmd` over subsets without common rows. Other tools draw subsets that
    overlap: the same value in expectation, but their spread is not a standard error.

    Source: Binkowski et al. 2018, section 3.

    Args:
        x: `(samples, features)`.
        y: `(others, features)`.
        size: rows of a subset; None takes 1,000, or a tenth of a smaller set.
        seed: of the order in which rows are dealt to subsets.

    Raises:
        UsageError: the shapes do not fit, or the sets are too small for two subsets.

    Example:
        >>> import torch
        >>> import dpvae_cli as dpvae
        >>> found = dpvae.kernel_distance(torch.randn(500, 8), torch.randn(600, 8))
        >>> found.subset_size, found.subsets, abs(found.value) < 5 * found.standard_error
        (50, 10, True)
    """
    a, b = (torch.as_tensor(given).detach().cpu() for given in (x, y))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise UsageError(f"features of shapes {tuple(a.shape)} and {tuple(b.shape)} do not compare")
    rows = min(len(a), len(b))
    size = subset_size(rows) if size is None else size
    if not 2 <= size <= rows // 2:
        raise UsageError(f"{rows} rows have no two subsets of {size}", hint="Lower size.")
    generator = torch.Generator().manual_seed(seed)
    a, b = (each[torch.randperm(len(each), generator=generator)] for each in (a, b))
    return mean_over_subsets(mmd_of_subsets(a, b, size=size), size=size)


def mean_over_subsets(values: PerSubset, *, size: int) -> KernelDistance:
    """Return the mean over subsets and its standard error."""
    error = float(values.std()) / len(values) ** 0.5
    return KernelDistance(float(values.mean()), error, size, len(values))
