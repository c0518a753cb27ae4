"""Fit a prior to the aggregate posterior of a VAE that is trained already."""

import copy
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from dpvae_cli.fitting import prior_file
from dpvae_cli.fitting.codes import Codes, validate_codes
from dpvae_cli.fitting.expectation_maximisation import best_components, fit_gaussian, fit_mixtures
from dpvae_cli.fitting.record import FitRecord
from dpvae_cli.foundation.allocation import check_model_memory
from dpvae_cli.foundation.errors import DivergedError, UsageError
from dpvae_cli.foundation.memory import oom_context
from dpvae_cli.foundation.progress import report_progress
from dpvae_cli.foundation.randomness import seeded, stream
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.mathematics.estimates import mean_and_error
from dpvae_cli.model import VAE
from dpvae_cli.priors import (
    Mixture,
    Prior,
    StandardizedPrior,
    StandardNormal,
    StandardNormalPrior,
)
from dpvae_cli.priors.base import PriorSpec
from dpvae_cli.recipe import Fitting
from dpvae_cli.recipe.sections import spec_by_name

TOLD_EVERY = 20
LARGEST_GRADIENT = 100.0
"""Norm that gradients of a step are scaled down to: one draw far outside must not undo the rest."""


@final
@dataclass(frozen=True)
class FittedPrior:
    """A prior fitted to codes, and how that went."""

    prior: Prior
    record: FitRecord

    @property
    def dtype(self) -> torch.dtype:
        """Return the type of the prior's parameters, and so of its codes."""
        return next(self.prior.parameters()).dtype

    def sample(self, n: int, *, seed: int = 0) -> Tensor:
        """Draw n codes of p(z), `(n, latent)`, for a decoder; without gradients."""
        with torch.no_grad():
            return self.prior.sample(n, generator=stream(seed, "sample", "prior"))

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log p(z) of codes, one a row, in nats; without gradients."""
        with torch.no_grad():
            return self.prior.log_prob(z)

    def save(self, path: Path | str) -> None:
        """Write a prior file, which `dpvae.load_prior` and `dpvae sample` read.

        Raises:
            UsageError: the prior cannot be without its encoder, or the file cannot be written.
        """
        prior_file.write_prior(Path(path), self.prior, self.record)


def load_prior(path: Path | str) -> FittedPrior:
    """Return the prior of a file that `FittedPrior.save` or `dpvae fit-prior --codes` wrote.

    Raises:
        CheckpointError: missing, damaged, foreign or newer.
    """
    return FittedPrior(*prior_file.read_prior(Path(path)))


def fit_prior(
    mean: Any,
    log_variance: Any | None = None,
    prior: PriorSpec | str = "decoupled",
    *,
    fitting: Fitting | None = None,
    seed: int = 0,
    baseline: Prior | None = None,
    encoder: nn.Module | None = None,
    example_shape: tuple[int, ...] | None = None,
) -> FittedPrior:
    """Fit a prior to the codes of a trained VAE by maximum likelihood; the VAE stays as it is.

    Maximises E_{q(z)}[log p(z)] over the prior's parameters, q(z) = 1/N sum over n of q(z|x_n),
    which minimises KL[q(z), p(z)]. Codes are standardised first, so the fit does not depend on
    their units; a vamp prior alone lives in those of its encoder. Every step of Adam is on fresh
    draws of q(z), a mixture is fitted by EM. A share of the codes is held out: the prior with the
    lowest -E[log p(z)] on one half of them is returned, the other half is what is reported.

    Source: the objective is the prior's part of the ELBO (paper, equation (12)), with q(z|x) fixed.

    Args:
        mean: encoder means, one a row, `(examples, latent)`: a tensor or an array. The prior has
            its type and device.
        log_variance: log of the variances, of the same shape; None for codes that are points.
        prior: a spec such as `dpvae.Spline(blocks=6)`, or its word in a recipe.
        fitting: how long, how fast, what is held out.
        seed: of initial weights, of the deal and of all draws.
        baseline: what the fitted prior is compared with in the record; N(0, I) by default.
        encoder: for `vamp`, the encoder of the codes; it is left as it is.
        example_shape: for `vamp`, the shape of what it encodes.

    Returns:
        The prior, in evaluation mode, with a record of the fit.

    Raises:
        UsageError: the codes are no finite matrices, or the prior does not fit them.
        DivergedError: the likelihood is no longer finite.

    Example:
        >>> import torch, dpvae_cli as dpvae
        >>> mean = torch.randn(500, 2)
        >>> quick = dpvae.Fitting(iterations=20)
        >>> fitted = dpvae.fit_prior(mean, torch.zeros_like(mean), "spline", fitting=quick)
        >>> fitted.sample(4).shape
        torch.Size([4, 2])
    """
    start = time.perf_counter()
    fitting = fitting or Fitting()
    mean, log_variance = validate_codes(mean, log_variance)
    spec = spec_by_name("fit_prior", prior) if isinstance(prior, str) else prior
    _check(spec, mean.shape[1], encoder, example_shape)
    codes = Codes(mean, log_variance, held_out=fitting.held_out, seed=seed)
    with _frozen(encoder), oom_context("while fitting", hint="Lower fitting.batch_size."):
        if isinstance(spec, Mixture):
            learned, facts = _by_expectation_maximisation(spec, codes, fitting, seed=seed)
        else:
            learned = _untrained(spec, codes, mean, encoder, example_shape, seed=seed)
            facts = _by_gradient(learned, codes, fitting)
    assert learned.spec is not None
    compared = copy.deepcopy(baseline or StandardNormalPrior(mean.shape[1])).to(mean).eval()
    before, by_moments, after = map(codes.test.nll, (compared, fit_gaussian(codes), learned))
    record = FitRecord(
        prior=spec.kind,
        seed=seed,
        components=len(mean),
        held_out=len(codes.validation) + len(codes.test),
        nll=mean_and_error(after),
        baseline=_kind(compared),
        baseline_nll=mean_and_error(before),
        gain=mean_and_error(before - after),
        seconds=time.perf_counter() - start,
        spec=learned.spec.model_dump(mode="json", by_alias=True),
        reported=len(codes.test),
        gaussian_nll=mean_and_error(by_moments),
        gaussian_gain=mean_and_error(by_moments - after),
        **facts,
    )
    return FittedPrior(learned, record)


def fit_model_prior(
    model: VAE, aggregate: AggregatePosterior, spec: PriorSpec, *, fitting: Fitting, seed: int
) -> FittedPrior:
    """Fit a prior to a model's codes and compare it with the one that the model has.

    Args:
        model: it stays as it is.
        aggregate: q(z) over the codes of its training examples.
        spec: of the prior to fit.
        fitting: how long, how fast, what is held out.
        seed: of the fit.
    """
    like = next(model.parameters())
    return fit_prior(
        aggregate.mean.to(like),
        aggregate.log_variance.to(like),
        spec,
        fitting=fitting,
        seed=seed,
        baseline=model.prior,
        encoder=model.encoder,
        example_shape=model.example_shape,
    )


def _check(
    spec: PriorSpec,
    latent_dim: int,
    encoder: nn.Module | None,
    example_shape: tuple[int, ...] | None,
) -> None:
    """Refuse a prior that cannot be built, or has nothing to fit.

    Raises:
        UsageError: it is such.
    """
    if complaint := spec.validation_error(latent_dim):
        raise UsageError(f"prior: {complaint}")

    if isinstance(spec, StandardNormal):
        raise UsageError(
            f"a {spec.kind} prior has nothing to fit", hint="Name another: --prior decoupled."
        )
    check_model_memory(
        f"the {spec.kind} prior", lambda: [spec.build(latent_dim, encoder, example_shape)]
    )


def _untrained(
    spec: PriorSpec,
    codes: Codes,
    like: Tensor,
    encoder: nn.Module | None,
    example_shape: tuple[int, ...] | None,
    *,
    seed: int,
) -> Prior:
    """Return the untrained prior, standardised, of the codes' type and on their device."""
    with seeded(seed, "fit", "weights"):
        built = spec.build(like.shape[1], encoder, example_shape).to(like)
    return built if spec.needs_encoder else StandardizedPrior(built, *codes.standardization())


def _by_expectation_maximisation(
    spec: Mixture, codes: Codes, fitting: Fitting, *, seed: int
) -> tuple[Prior, dict[str, Any]]:
    """Return the mixture that the codes which choose like best, and what the record says of it."""
    fits = fit_mixtures(spec, codes, iterations=fitting.iterations, seed=seed)
    best = fits[best_components(fits)]
    return best.prior, {
        "iterations": best.iterations,
        "best_iteration": best.iterations,
        "curve": tuple((components, fit.nll) for components, fit in fits.items()),
        "is_improving": not best.has_converged,
    }


def _by_gradient(prior: Prior, codes: Codes, fitting: Fitting) -> dict[str, Any]:
    """Train the prior; leave it as it was at its best, and return what the record says of it."""
    curve = _maximise(prior, codes, fitting)
    best_iteration = min(curve, key=lambda point: point[1])[0]
    return {
        "iterations": curve[-1][0],
        "best_iteration": best_iteration,
        "curve": curve,
        "is_improving": best_iteration == curve[-1][0],
    }


@contextmanager
def _frozen(encoder: nn.Module | None) -> Iterator[None]:
    """Ask for no gradients of an encoder inside the block."""
    asked = [] if encoder is None else [p for p in encoder.parameters() if p.requires_grad]
    for parameter in asked:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asked:
            parameter.requires_grad_(True)


def _maximise(prior: Prior, codes: Codes, fitting: Fitting) -> tuple[tuple[int, float], ...]:
    """Train the prior; leave it as it was at its best, and return (iteration, held-out nats).

    Raises:
        DivergedError: a likelihood is not finite.
    """
    optimizer = torch.optim.Adam(prior.parameters(), lr=fitting.learning_rate)
    curve = [(0, _judged(prior, codes, 0))]
    best = copy.deepcopy(prior.state_dict())
    waited, total = 0, fitting.iterations
    for iteration in range(1, total + 1):
        for group in optimizer.param_groups:
            group["lr"] = fitting.learning_rate * _cosine((iteration - 1) / total)
        _step(prior, optimizer, codes.batch(iteration, fitting.batch_size))
        if iteration % TOLD_EVERY == 0 or iteration == total:
            report_progress(f"fitting the {_kind(prior)} prior", iteration, total)
        if iteration % fitting.validate_every and iteration < total:
            continue
        nll = _judged(prior, codes, iteration)
        if nll < min(value for _, value in curve):
            best, waited = copy.deepcopy(prior.state_dict()), 0
        else:
            waited += 1
        curve.append((iteration, nll))
        if waited == fitting.patience:
            report_progress(f"fitting the {_kind(prior)} prior", total, total)
            break
    prior.load_state_dict(best)
    prior.eval()
    return tuple(curve)


def _step(prior: Prior, optimizer: torch.optim.Optimizer, z: Tensor) -> None:
    prior.train()
    optimizer.zero_grad()
    (-prior.log_prob(z).mean()).backward()
    nn.utils.clip_grad_norm_(prior.parameters(), LARGEST_GRADIENT)
    optimizer.step()


def _judged(prior: Prior, codes: Codes, iteration: int) -> float:
    """Return the held-out -E[log p(z)] in nats; before the first step it may be infinite."""
    nll = float(codes.validation.nll(prior.eval()).mean())
    if not math.isfinite(nll) and (iteration or math.isnan(nll)):
        raise DivergedError(
            f"the fit of the {_kind(prior)} prior diverged: after {iteration} iterations the "
            f"held-out likelihood is {nll}",
            hint="Lower fitting.learning_rate, or take another prior.",
        )
    return nll


def _cosine(share: float) -> float:
    """Return what the step size is multiplied with when so much of the fit is done."""
    return 0.5 * (1 + math.cos(math.pi * share))


def _kind(prior: Prior) -> str:
    if prior.spec is None:
        is_plain = isinstance(prior, StandardNormalPrior)
        return "standard_normal" if is_plain else type(prior).__name__
    return prior.spec.kind
