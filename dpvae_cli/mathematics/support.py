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
from dpvae_cli.foundation.shapes import Codes, OtherCodes
from dpvae_cli.mathematics.estimates import EstimateWithTerms

HALVINGS = 10
"""Random halvings of both sets that the standard errors are taken from."""
CHUNK = 2**23
"""Distances that are in memory at a time."""


@final
class Support(NamedTuple):
    """How far samples lie where real points do, and the other way round."""

    precision: EstimateWithTerms
    recall: EstimateWithTerms
    density: EstimateWithTerms
    coverage: EstimateWithTerms


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
    parts = [(torch.arange(len(x)), torch.arange(len(y)))]
    if min(len(x), len(y)) // 2 > neighbours:
        parts += [half for index in range(HALVINGS) for half in _halve(len(x), len(y), index)]
    values, *halves = _compare(x, y, parts, neighbours)
    differences = torch.full((HALVINGS, 4), math.nan, dtype=torch.float64)
    if halves:
        differences = torch.stack(halves[::2]) - torch.stack(halves[1::2])
    terms = differences / (2 * math.sqrt(HALVINGS))
    return Support(*map(EstimateWithTerms, values.tolist(), terms.unbind(dim=1)))


def _halve(real: int, samples: int, halving: int) -> list[tuple[Tensor, Tensor]]:
    """Return the indices of both halves of both sets."""
    generator = torch.Generator().manual_seed(halving)
    halves = [torch.randperm(n, generator=generator).tensor_split(2) for n in (real, samples)]
    return list(zip(*halves, strict=True))


def _compare(
    x: Codes, y: OtherCodes, parts: list[tuple[Tensor, Tensor]], k: int
) -> list[Float[Tensor, "4"]]:
    """Return precision, recall, density and coverage of parts of both sets, given by indices.

    Distances are computed once for all parts.
    """
    of_x, of_y = map(list, zip(*parts, strict=True))
    radii_x, radii_y = _radii(x, of_x, k), _radii(y, of_y, k)
    # real balls around each sample, and whether each real point is recalled and covered
    balls = torch.zeros(len(parts), len(y), dtype=torch.float64)
    recalled, covered = (torch.zeros(len(parts), len(x), dtype=torch.float64) for _ in range(2))
    for start, distances in _distances(x, y):
        for part, (in_x, in_y) in enumerate(parts):
            rows = _rows_of(in_x, start, len(distances))
            some = distances[rows - start][:, in_y]
            is_inside = some <= radii_x[part, rows, None]
            balls[part, in_y] += is_inside.sum(dim=0)
            covered[part, rows] = is_inside.any(dim=1).double()
            recalled[part, rows] = (some <= radii_y[part, in_y]).any(dim=1).double()
    found = []
    for part, (in_x, in_y) in enumerate(parts):
        around = balls[part, in_y]
        terms = ((around > 0).double(), recalled[part, in_x], around / k, covered[part, in_x])
        found.append(torch.stack([each.mean() for each in terms]))
    return found


def _radii(points: Codes, parts: list[Tensor], k: int) -> Float[Tensor, "parts points"]:
    """Return the distance of each point of a part to its k-th nearest other point of the part."""
    radii = torch.full((len(parts), len(points)), math.nan, dtype=torch.float64)
    for start, distances in _distances(points, points):
        distances[:, start : start + len(distances)].fill_diagonal_(math.inf)
        for part, within in enumerate(parts):
            rows = _rows_of(within, start, len(distances))
            if len(rows):
                some = distances[rows - start][:, within]
                radii[part, rows] = some.topk(k, dim=1, largest=False).values[:, -1]
    return radii


def _rows_of(part: Tensor, start: int, count: int) -> Tensor:
    """Return the indices of a part that lie between `start` and `start + count`."""
    return part[(part >= start) & (part < start + count)]


def _distances(points: Codes, others: OtherCodes) -> Iterator[tuple[int, Tensor]]:
    """Yield rows of the matrix of distances, some points at a time, after the first's index."""
    size = max(1, CHUNK // len(others))
    for start in range(0, len(points), size):
        yield start, torch.cdist(points[start : start + size], others)
