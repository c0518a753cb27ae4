"""Two sets of samples compared: MMD, nearest-neighbour KL, and the distances of marginals."""

import math
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.shapes import Codes, OtherCodes, Scalar
from dpvae_cli.mathematics.estimates import EstimateWithTerms

HALVINGS = 50
"""Random halvings of the samples that the error of a nearest-neighbour estimate is taken from."""
SPARE = 20
"""Neighbours looked at beside the nearest 2 k, about k of which lie in a point's own half."""
CHUNK = 1_000
"""Points whose neighbours are found at a time."""


def mmd_squared(x: Codes, y: OtherCodes, *, bandwidth: float) -> Scalar:
    """Return the unbiased estimate of MMD^2 with the kernel k(a, b) = exp(-|a - b|^2 / bandwidth).

    Means over distinct pairs within x and within y, minus twice the mean over cross pairs. It has
    no unit, mean zero where both sets come from one distribution, and may be negative.

    Source: Gretton et al. 2012, lemma 6; kernel of the paper's released code.
    """

    def within(a: Codes) -> Scalar:
        count = a.shape[0]
        total = torch.exp(-_squared_distances(a, a) / bandwidth).sum() - count
        return total / (count * (count - 1))

    across = torch.exp(-_squared_distances(x, y) / bandwidth).mean()
    return within(x) + within(y) - 2 * across


def _squared_distances(a: Codes, b: OtherCodes) -> torch.Tensor:
    """Return |a_i - b_j|^2 by subtraction, so that a point is at distance exactly 0 from itself."""
    return (a.unsqueeze(1) - b.unsqueeze(0)).square().sum(dim=-1)


@final
@dataclass(frozen=True)
class KnnEstimate(EstimateWithTerms):
    """A nearest-neighbour KL in nats, its error terms, and how many points coincided."""

    num_duplicates: int


def kl_nearest_neighbours(p: np.ndarray, q: np.ndarray, *, k: int = 1) -> KnnEstimate:
    """Estimate KL[p || q] in nats from samples: L/n sum log(nu_k / rho_k) + log(m / (n - 1)).

    rho_k is the distance from a point of p to its k-th neighbour in the rest of p, nu_k to its
    k-th neighbour in q; distances are exact. A point that coincides with its neighbour has
    log 0 and is left out and counted.

    Neighbours share points, so the terms are not independent, and a bootstrap would make points
    coincide. The standard error compares the estimates from the two halves of the samples over
    `HALVINGS` random halvings: (T_a - T_b)^2 / 4 has the variance of the whole estimate as its
    mean, as far as that falls with 1/n. Samples of one size are always halved alike, so the error
    terms of KL[p || q] and KL[q || p], or of two models on the same draws, may be added and
    subtracted. The error is NaN where a half has no k-th neighbour.

    Source: Wang, Kulkarni and Verdu 2009; Perez-Cruz 2008 (k = 1). The error: Politis and Romano
    1994 (subsampling).

    Raises:
        UsageError: there are too few points for a k-th neighbour.
        DpvaeError: fewer than two points are left.
    """
    (n, latent_dim), m = p.shape, q.shape[0]
    if k >= n or k > m:
        raise UsageError(f"{n} and {m} points have no {k}-th neighbour each; lower k")
    sides_p, sides_q = _halvings(n), _halvings(m)
    rho, rho_half = _neighbour_distances(p, p, k, sides_p, sides_p)
    nu, nu_half = _neighbour_distances(p, q, k, sides_p, sides_q)
    usable = (rho > 0) & (nu > 0)
    if usable.sum() < 2:
        raise DpvaeError(f"{n - usable.sum()} of {n} points coincide with a neighbour")
    value = latent_dim * np.log(nu[usable] / rho[usable]).mean() + np.log(m / (n - 1))
    terms = latent_dim * np.log(nu_half[:, usable] / rho_half[:, usable])
    side = sides_p[:, usable]
    difference = _mean_over(terms, side) - _mean_over(terms, ~side)
    if min(n, m) >= 4:  # halves of an odd number of points differ in the constant too
        difference += np.log((m // 2) / (n // 2 - 1) / ((m - m // 2) / (n - n // 2 - 1)))
    error_terms = torch.from_numpy(difference / (2 * math.sqrt(HALVINGS)))
    return KnnEstimate(float(value), error_terms, int((~usable).sum()))


def kolmogorov_distance(first: Codes, second: OtherCodes) -> Float[Tensor, " latent"]:
    """Return sup over t of |F(t) - G(t)| in each dimension, float64 and between 0 and 1.

    F and G are the shares of `first` and of `second` that are at most t. The distance does not
    change where a dimension is bent by an increasing function: it has no scale.

    Example:
        >>> import torch
        >>> kolmogorov_distance(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.5], [2.0]]))
        tensor([0.5000], dtype=torch.float64)
    """
    steps = torch.cat([first, second]).T.contiguous()
    shares = []
    for sample in (first, second):
        ordered = sample.T.to(steps.dtype).contiguous().sort(dim=1).values
        shares.append(torch.searchsorted(ordered, steps, right=True).double() / sample.shape[0])
    return torch.sub(*shares).abs().amax(dim=1)


def _halvings(count: int) -> Bool[np.ndarray, "halvings {count}"]:
    """Return random halvings of this many points: True marks the first half, of count // 2."""
    first = np.broadcast_to(np.arange(count) < count // 2, (HALVINGS, count))
    return np.random.default_rng(count).permuted(first, axis=1)


def _mean_over(terms: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.asarray(np.where(rows, terms, 0).sum(axis=1) / rows.sum(axis=1))


def _neighbour_distances(
    points: np.ndarray,
    others: np.ndarray,
    k: int,
    sides: Bool[np.ndarray, "halvings points"],
    other_sides: Bool[np.ndarray, "halvings others"],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance of each point to its k-th nearest among `others`, itself left out.

    Returns:
        `(points,)` among all others, and `(halvings, points)` among those of the point's own half.
        Of these a few neighbours more than twice k are looked at; the rare point with fewer than k
        of them in its half gets the last one's distance.
    """
    from scipy.spatial import KDTree  # noqa: PLC0415 - slow, and only this needs it

    tree, is_same = KDTree(others), others is points
    most = min(2 * k + SPARE, len(others))
    has_halves = len(others) // 2 >= k + is_same

    def some(rows: slice) -> np.ndarray:
        distances, indices = tree.query(points[rows], k=np.arange(1, most + 1))
        is_other = indices != np.arange(len(points))[rows, None] if is_same else indices >= 0
        found = [_kth(distances, is_other, k)]
        for side, other_side in zip(sides, other_sides, strict=True):
            in_half = is_other & (other_side[indices] == side[rows, None])
            found.append(
                _kth(distances, in_half, k) if has_halves else np.full(len(indices), math.nan)
            )
        return np.stack(found)

    parts = [some(slice(start, start + CHUNK)) for start in range(0, len(points), CHUNK)]
    whole, *halves = np.concatenate(parts, axis=1)
    return whole, np.stack(halves)


def _kth(distances: np.ndarray, counts: np.ndarray, k: int) -> np.ndarray:
    """Return each row's k-th distance among those that count, the last where there are fewer."""
    is_reached = np.cumsum(counts, axis=1) >= k
    is_reached[:, -1] = True
    return np.asarray(distances[np.arange(len(distances)), is_reached.argmax(axis=1)])
