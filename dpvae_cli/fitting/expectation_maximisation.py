"""Mixtures of Gaussians fitted to codes by expectation maximisation (EM)."""

import warnings
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from dpvae_cli.fitting.codes import CodeSplits
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.progress import report_progress
from dpvae_cli.foundation.randomness import derive_seed, fork_rng, stream
from dpvae_cli.priors.mixture import Mixture, MixturePrior
from dpvae_cli.priors.standardized import StandardizedPrior

CANDIDATES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Numbers of components to choose from."""
DRAWS = 20_000
"""Draws of q(z) that EM is fitted to, where codes are not points."""
DRAWS_PER_COMPONENT = 20
"""Candidates with fewer draws for each component are not tried."""
PATIENCE = 2
"""Candidates in a row without a gain that end the search."""
MIN_VARIANCE = 1e-6
"""Added to the variances, so that no component shrinks to a point."""


@final
class MixtureFit(NamedTuple):
    """A mixture fitted by EM.

    Args:
        prior: the mixture, standardised.
        nll: -E[log p(z)] on the validation codes.
        iterations: number of EM iterations.
        has_converged: whether EM converged before its last iteration.
    """

    prior: StandardizedPrior
    nll: float
    iterations: int
    has_converged: bool


def fit_mixtures(
    spec: Mixture, codes: CodeSplits, *, iterations: int, seed: int
) -> dict[int, MixtureFit]:
    """Fit mixtures to draws of q(z) by EM in standardised units; keys are numbers of components.

    Without `spec.components` increasing numbers of components are tried, until the likelihood of
    the validation codes gains no more.

    Source: Dempster, Laird and Rubin 1977; scikit-learn's GaussianMixture.

    Raises:
        UsageError: there are fewer codes than components.
    """
    mean, deviation = (part.cpu().double() for part in codes.standardization())
    z = codes.draws(DRAWS, stream(seed, "fit", "EM"))
    standardized = ((z - mean) / deviation).numpy()
    asked = (spec.components,) if spec.components else CANDIDATES
    if asked[0] > len(z):
        raise UsageError(f"prior: {len(z)} codes are too few for {asked[0]} components")
    candidates = [k for k in asked if k == asked[0] or k * DRAWS_PER_COMPONENT <= len(z)]
    fits: dict[int, MixtureFit] = {}
    for index, components in enumerate(candidates):
        report_progress("fitting the mixture prior", index, len(candidates))
        exact = spec.model_copy(update={"components": components})
        weights, means, factors, done, has_converged = _fit_em(
            standardized, exact, iterations=iterations, seed=derive_seed(seed, "fit", components)
        )
        prior = _mixture(exact, codes, weights, means, factors)
        nll = float(codes.validation.nll(prior).mean())
        fits[components] = MixtureFit(prior, nll, done, has_converged)
        if index - list(fits).index(best_components(fits)) == PATIENCE:
            break
    report_progress("fitting the mixture prior", len(candidates), len(candidates))
    return fits


def best_components(fits: dict[int, MixtureFit]) -> int:
    """Return the number of components with the lowest -E[log p(z)] on the validation codes."""
    return min(fits, key=lambda components: fits[components].nll)


def fit_gaussian(codes: CodeSplits) -> StandardizedPrior:
    """Return the Gaussian with the mean and covariance of q(z) over the training codes."""
    covariance = codes.training.moments()[1]
    size = len(covariance)
    scale = codes.standardization()[1].cpu().double()
    identity = torch.eye(size, dtype=torch.float64)
    factor = torch.linalg.cholesky(covariance / torch.outer(scale, scale) + MIN_VARIANCE * identity)
    return _mixture(
        Mixture(components=1, covariance="full"),
        codes,
        torch.ones(1),
        torch.zeros(1, size),
        torch.linalg.solve_triangular(factor, identity, upper=False)[None],
    )


def _mixture(
    spec: Mixture, codes: CodeSplits, weights: Tensor, means: Tensor, factors: Tensor
) -> StandardizedPrior:
    """Return a mixture of these components in standardised units."""
    mean, deviation = codes.standardization()
    with fork_rng(0, "fit", "mixture"):  # the initial weights are overwritten
        prior = spec.build(len(mean)).to(mean)
    assert isinstance(prior, MixturePrior)
    prior.set_components(weights, means, factors)
    return StandardizedPrior(prior, mean, deviation).eval()


def _fit_em(
    z: np.ndarray, spec: Mixture, *, iterations: int, seed: int
) -> tuple[Tensor, Tensor, Tensor, int, bool]:
    """Return weights, means and factors after EM, its iterations, and whether it converged."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - slow to import
    from sklearn.mixture import GaussianMixture  # noqa: PLC0415

    em = GaussianMixture(
        spec.components,
        covariance_type="full" if spec.covariance == "full" else "diag",
        reg_covar=MIN_VARIANCE,
        max_iter=iterations,
        random_state=seed % 2**32,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the record reports it
        em.fit(z)
    cholesky = torch.from_numpy(em.precisions_cholesky_)
    factors = cholesky.mT if spec.covariance == "full" else torch.diag_embed(cholesky)
    weights, means = torch.from_numpy(em.weights_), torch.from_numpy(em.means_)
    return weights, means, factors, em.n_iter_, em.converged_
