"""Whether two sets of points lie on the same support, by balls around nearest neighbours.

Around each point of a set lies a ball that reaches to its k-th nearest neighbour in that set; the
union of the balls estimates the support of the set's distribution.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.shapes import Codes, OtherCodes, PerExample
from dpvae_cli.mathematics.estimates import ErrorTerms, standard_error

HALVINGS = 10
"""Random halvings of both sets that the standard errors are taken from."""
CHUNK = 2**23
"""Distances that are in memory at a time."""


@final
class SupportEstimate(NamedTuple):
    """One of the four numbers and its error terms."""

    value: float
    error_terms: ErrorTerms

    @property
    def standard_error(self) -> float:
        """Return the standard error over both sets of points, without the bias of finite sets."""
        return standard_error(self.error_terms)


@final
class Support(NamedTuple):
    """How far samples lie where real points do, and the other way round."""

    precision: SupportEstimate
    recall: SupportEstimate
    density: SupportEstimate
    coverage: SupportEstimate


def compare_support(
    real: Tensor | np.ndarray, samples: Tensor | np.ndarray, *, neighbours: int = 5
) -> Support:
    """Return precision, recall, density and coverage of samples, with standard errors.

    With B(x_i) the ball around a real point that reaches to its k-th nearest other real point, and
    B(y_j) that around a sample among samples,

        precision = 1/M sum_j 1{y_j in some B(x_i)}
        recall    = 1/N sum_i 1{x_i in some B(y_j)}
        density   = 1/(k M) sum_j sum_i 1{y_j in B(x_i)}
        coverage  = 1/N sum_i 1{some y_j in B(x_i)}

    All but density lie between 0 and 1; density has mean 1 where both sets are of one distribution.
    Distances are Euclidean, in float64; a point on the edge of a ball is inside.

    Balls overlap, so the terms are not independent. The standard error compares the numbers of the
    two halves of both sets over `HALVINGS` random halvings: (T_a - T_b)^2 / 4 has the variance of
    the whole as its mean, as far as that falls with 1/n. Sets of one size are always halved alike.
    The error is NaN where a half has no k-th neighbour.

    Source: Kynkaanniemi et al. 2019, equations (1) and (2); Naeem et al. 2020, equations (3) and
    (4). The error: Politis and Romano 1994 (subsampling).

    Args:
        real: `(N, features)`.
        samples: `(M, features)`.
        neighbours: k.

    Raises:
        UsageError: the shapes do not fit, a number is not finite, or there are too few points.

    Example:
        >>> import torch
        >>> import dpvae_cli as dpvae
        >>> real = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
        >>> collapsed = dpvae.compare_support(real, real / 100)
        >>> collapsed.precision.value, collapsed.recall.value < 0.01
        (1.0, True)
    """
    x, y = (torch.as_tensor(given).detach().cpu().double() for given in (real, samples))
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise UsageError(f"features of shapes {tuple(x.shape)} and {tuple(y.shape)} do not compare")
    if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise UsageError("features that are not finite do not compare")
    if not 1 <= neighbours < min(len(x), len(y)):
        raise UsageError(
            f"{len(x):,} and {len(y):,} points have no {neighbours}-th neighbour each",
            hint="Give more examples or samples, or lower evaluation.support_neighbours.",
        )
    center = x.mean(dim=0)  # distances come from products, whose rounding grows with the norms
    x, y = x - center, y - center
    values = _compare(x, y, neighbours)
    if min(len(x), len(y)) // 2 > neighbours:
        differences = torch.stack([_difference(x, y, neighbours, i) for i in range(HALVINGS)])
    else:
        differences = torch.full((HALVINGS, 4), math.nan, dtype=torch.float64)
    terms = differences / (2 * math.sqrt(HALVINGS))
    return Support(*map(SupportEstimate, values.tolist(), terms.unbind(dim=1)))


def _difference(x: Codes, y: OtherCodes, k: int, halving: int) -> Float[Tensor, "4"]:
    """Return the numbers of one half of both sets minus those of the other half."""
    generator = torch.Generator().manual_seed(halving)
    halves_x, halves_y = (
        each[torch.randperm(len(each), generator=generator)].tensor_split(2) for each in (x, y)
    )
    first, second = map(_compare, halves_x, halves_y, (k, k))
    return first - second


def _compare(x: Codes, y: OtherCodes, k: int) -> Float[Tensor, "4"]:
    """Return precision, recall, density and coverage."""
    radii_x, radii_y = _radii(x, k), _radii(y, k)
    balls = torch.zeros(len(y), dtype=torch.float64)  # real balls around each sample
    recalled, covered = (torch.zeros(len(x), dtype=torch.float64) for _ in range(2))
    for rows, distances in _distances(x, y):
        is_inside = distances <= radii_x[rows, None]
        balls += is_inside.sum(dim=0)
        covered[rows] = is_inside.any(dim=1).double()
        recalled[rows] = (distances <= radii_y).any(dim=1).double()
    terms = ((balls > 0).double(), recalled, balls / k, covered)
    return torch.stack([each.mean() for each in terms])


def _radii(points: Codes, k: int) -> PerExample:
    """Return the distance of each point to its k-th nearest other point."""
    radii = []
    for rows, distances in _distances(points, points):
        distances[:, rows].fill_diagonal_(math.inf)
        radii.append(distances.topk(k, dim=1, largest=False).values[:, -1])
    return torch.cat(radii)


def _distances(points: Codes, others: OtherCodes) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows of the matrix of distances, some points at a time."""
    size = max(1, CHUNK // len(others))
    for start in range(0, len(points), size):
        rows = slice(start, start + size)
        yield rows, torch.cdist(points[rows], others)
