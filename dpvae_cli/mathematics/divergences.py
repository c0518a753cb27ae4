"""Divergences between two sets of samples: maximum mean discrepancy and nearest-neighbour KL."""

from typing import NamedTuple

import numpy as np
import torch

from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.memory import in_parts
from dpvae_cli.foundation.shapes import Codes, OtherCodes, Scalar


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


class NeighbourEstimate(NamedTuple):
    """A nearest-neighbour KL in nats, an approximate standard error, how many points coincided."""

    value: float
    standard_error: float
    coinciding: int


def kl_nearest_neighbours(p: np.ndarray, q: np.ndarray, *, k: int = 1) -> NeighbourEstimate:
    """Estimate KL[p || q] in nats from samples: L/n sum log(nu_k / rho_k) + log(m / (n - 1)).

    rho_k is the distance from a point of p to its k-th neighbour in the rest of p, nu_k to its
    k-th neighbour in q; distances are exact. A point that coincides with its neighbour has
    log 0 and is left out and counted. The standard error treats the terms as independent.

    Source: Wang, Kulkarni and Verdu 2009; Perez-Cruz 2008 (k = 1).

    Args:
        p: `(n, latent)`.
        q: `(m, latent)`.
        k: which neighbour.

    Raises:
        UsageError: there are too few points for a k-th neighbour.
        DpvaeError: fewer than two points are left.
    """
    (n, latent_dim), m = p.shape, q.shape[0]
    if k >= n or k > m:
        raise UsageError(f"{n} and {m} points have no {k}-th neighbour each; lower neighbours")
    rho, nu = _neighbour_distance(p, p, k=k + 1), _neighbour_distance(p, q, k=k)
    usable = (rho > 0) & (nu > 0)
    if usable.sum() < 2:
        raise DpvaeError(f"{n - usable.sum()} of {n} points coincide with a neighbour")
    terms = latent_dim * np.log(nu[usable] / rho[usable])
    value = float(terms.mean()) + float(np.log(m / (n - 1)))
    error = float(terms.std(ddof=1) / np.sqrt(len(terms)))
    return NeighbourEstimate(value, error, int((~usable).sum()))


def _neighbour_distance(points: np.ndarray, others: np.ndarray, *, k: int) -> np.ndarray:
    """Return the distance of each point to its k-th nearest among `others`, `(points,)`."""
    from scipy.spatial import KDTree  # noqa: PLC0415 - slow, and only this needs it

    tree = KDTree(others)
    parts = in_parts(
        lambda rows: np.asarray(tree.query(points[rows], k=[k])[0])[:, 0],
        len(points),
        size=len(points),
        what="distances to neighbours",
    )
    return np.concatenate(list(parts))
