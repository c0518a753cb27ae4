"""Fit a prior to the aggregate posterior of a trained VAE."""

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
from dpvae_cli.fitting.codes import CodeSplits, validate_codes, validate_labels
from dpvae_cli.fitting.expectation_maximisation import best_components, fit_gaussian, fit_mixtures
from dpvae_cli.fitting.prior_file import FitRecord
from dpvae_cli.foundation.devices import check_model_memory
from dpvae_cli.foundation.errors import DivergedError, UsageError
from dpvae_cli.foundation.memory import oom_context
from dpvae_cli.foundation.progress import report_progress
from dpvae_cli.foundation.randomness import fork_rng, stream
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.mathematics.estimates import mean_and_error
from dpvae_cli.model import VAE
from dpvae_cli.priors import (
    ClassConditionalPrior,
    Mixture,
    Prior,
    StandardizedPrior,
    StandardNormal,
    StandardNormalPrior,
)
from dpvae_cli.priors.base import PriorSpec
from dpvae_cli.recipe import Fitting
from dpvae_cli.recipe.validation import spec_by_name

PROGRESS_EVERY = 20
MAX_GRADIENT_NORM = 100.0
"""One draw far outside must not undo the rest."""


@final
@dataclass(frozen=True)
class FittedPrior:
    """A prior fitted to codes, and the record of the fit.

    Example:
        >>> import torch
        >>> import dpvae_cli as dpvae
        >>> fitted = dpvae.fit_prior(torch.randn(500, 2), prior=dpvae.Mixture(components=2))
        >>> fitted.save("prior.pt")
        >>> z = dpvae.load_prior("prior.pt").sample(4)
    """

    prior: Prior
    record: FitRecord

    @property
    def dtype(self) -> torch.dtype:
        """Return the type of the prior's parameters, and so of its codes."""
        return next(self.prior.parameters()).dtype

    def given(self, label: int) -> "FittedPrior":
        """Return p(z | label) of a prior that was fitted given labels.

        Raises:
            UsageError: the prior knows no such label.
        """
        return FittedPrior(self.prior.given(label), self.record)

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
            UsageError: the prior needs an encoder, or the file cannot be written.
        """
        prior_file.write_prior(Path(path), self.prior, self.record)


def load_prior(path: Path | str) -> FittedPrior:
    """Return the prior of a file that `FittedPrior.save` or `dpvae fit-prior --codes` wrote.

    Raises:
        CheckpointError: missing, corrupt, of another format or newer.

    Example:
        >>> import torch
        >>> import dpvae_cli as dpvae
        >>> fitted = dpvae.fit_prior(torch.randn(500, 2), prior=dpvae.Mixture(components=2))
        >>> fitted.save("prior.pt")
        >>> dpvae.load_prior("prior.pt").sample(4).shape
        torch.Size([4, 2])
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
    labels: Any | None = None,
) -> FittedPrior:
    """Fit a prior to the codes of a trained VAE by maximum likelihood; the VAE stays as it is.

    Maximises E_{q(z)}[log p(z)] over the prior's parameters, q(z) = 1/N sum over n of q(z|x_n),
    which minimises KL[q(z), p(z)]. Codes are standardised first, so the fit does not depend on
    their units; only a vamp prior keeps the units of its encoder. Each step of Adam takes fresh
    draws of q(z); a mixture is fitted by EM. A share of the codes is held out: one half chooses
    the prior with the lowest -E[log p(z)], the record reports the other half.

    Source: the objective is the prior's part of the ELBO (paper, equation (12)), with q(z|x) fixed.

    Args:
        mean: encoder means, one a row, `(examples, latent)`: a tensor or an array. The prior has
            its type and device.
        log_variance: log of the variances, of the same shape; None for codes that are points.
        prior: a spec such as `dpvae.Spline(blocks=6)`, or its word in a recipe.
        fitting: iterations, learning rate, held-out share.
        seed: of initial weights, of the split and of all draws.
        baseline: what the fitted prior is compared with in the record; N(0, I) by default.
        encoder: for `vamp`, the encoder of the codes; it is not changed.
        example_shape: for `vamp`, the shape of what it encodes.
        labels: one whole number for each code; with them the prior is fitted given the label, and
            `fitted.given(3)` is p(z | 3).

    Returns:
        The prior, in evaluation mode, with a record of the fit.

    Raises:
        UsageError: the codes are not finite matrices, or the prior does not fit them.
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
    latent_dim = mean.shape[1]
    if problem := spec.validation_error(latent_dim):
        raise UsageError(f"prior: {problem}")
    if isinstance(spec, StandardNormal):
        raise UsageError(
            f"a {spec.kind} prior has nothing to fit", hint="Name another: --prior decoupled."
        )
    if labels is not None:
        labels = validate_labels(labels, len(mean)).to(mean.device)
    elif fitting.given is not None:
        raise UsageError("fitting.given=label needs the labels of the codes, and there are none")
    codes = CodeSplits(mean, log_variance, held_out=fitting.held_out, seed=seed, labels=labels)

    def build() -> Prior:
        if labels is None:
            return spec.build(latent_dim, encoder, example_shape)
        known, weights = codes.label_weights()
        flow = spec.build(latent_dim, encoder, example_shape, context=len(known))
        return ClassConditionalPrior(flow, known, weights.cpu())

    check_model_memory(f"the {spec.kind} prior", lambda: [build()])
    with _frozen(encoder), oom_context("while fitting", hint="Lower fitting.batch_size."):
        if isinstance(spec, Mixture) and labels is None:
            fits = fit_mixtures(spec, codes, iterations=fitting.iterations, seed=seed)
            best = fits[best_components(fits)]
            learned: Prior = best.prior
            facts: dict[str, Any] = {
                "iterations": best.iterations,
                "best_iteration": best.iterations,
                "curve": tuple((components, fit.nll) for components, fit in fits.items()),
                "is_improving": not best.has_converged,
            }
        else:
            with fork_rng(seed, "fit", "weights"):
                built = build().to(mean)
            needs_units = not spec.needs_encoder
            learned = StandardizedPrior(built, *codes.standardization()) if needs_units else built
            curve = _train(learned, codes, fitting)
            best_iteration = min(curve, key=lambda point: point[1])[0]
            facts = {
                "iterations": curve[-1][0],
                "best_iteration": best_iteration,
                "curve": curve,
                "is_improving": best_iteration == curve[-1][0],
            }
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
        given=None if labels is None else "label",
        loss=spec.fitting_loss,
        **facts,
    )
    return FittedPrior(learned, record)


def fit_model_prior(
    model: VAE,
    aggregate: AggregatePosterior,
    spec: PriorSpec,
    *,
    fitting: Fitting,
    seed: int,
    labels: Tensor | None = None,
) -> FittedPrior:
    """Fit a prior to a model's codes and compare it with the model's own prior."""
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
        labels=labels,
    )


@contextmanager
def _frozen(encoder: nn.Module | None) -> Iterator[None]:
    """Compute no gradients of an encoder inside the block."""
    parameters = [] if encoder is None else [p for p in encoder.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def _train(prior: Prior, codes: CodeSplits, fitting: Fitting) -> tuple[tuple[int, float], ...]:
    """Train the prior, restore its best state, and return (iteration, validation loss).

    Raises:
        DivergedError: a likelihood is not finite.
    """
    task, total = f"fitting the {_kind(prior)} prior", fitting.iterations
    optimizer = torch.optim.Adam(prior.parameters(), lr=fitting.learning_rate)
    curve = [(0, _validation_loss(prior, codes, 0))]
    best = copy.deepcopy(prior.state_dict())
    without_gain = 0
    for iteration in range(1, total + 1):
        for group in optimizer.param_groups:
            cosine = 0.5 * (1 + math.cos(math.pi * ((iteration - 1) / total)))
            group["lr"] = fitting.learning_rate * cosine
        prior.train()
        optimizer.zero_grad()
        z, labels = codes.batch(iteration, fitting.batch_size)
        loss = prior.fitting_loss(z, labels=labels, generator=codes.noise(iteration))
        loss.mean().backward()
        nn.utils.clip_grad_norm_(prior.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        if iteration % PROGRESS_EVERY == 0 or iteration == total:
            report_progress(task, iteration, total)
        if iteration % fitting.validate_every and iteration < total:
            continue
        held_out_loss = _validation_loss(prior, codes, iteration)
        if held_out_loss < min(value for _, value in curve):
            best, without_gain = copy.deepcopy(prior.state_dict()), 0
        else:
            without_gain += 1
        curve.append((iteration, held_out_loss))
        if without_gain == fitting.patience:
            report_progress(task, total, total)
            break
    prior.load_state_dict(best)
    prior.eval()
    return tuple(curve)


def _validation_loss(prior: Prior, codes: CodeSplits, iteration: int) -> float:
    """Return the prior's loss on the validation codes; before the first step it may be inf."""
    loss = codes.validation.loss(prior.eval())
    if not math.isfinite(loss) and (iteration or math.isnan(loss)):
        raise DivergedError(
            f"the fit of the {_kind(prior)} prior diverged: after {iteration} iterations the "
            f"validation loss is {loss}",
            hint="Lower fitting.learning_rate, or take another prior.",
        )
    return loss


def _kind(prior: Prior) -> str:
    if prior.spec is None:
        is_plain = isinstance(prior, StandardNormalPrior)
        return "standard_normal" if is_plain else type(prior).__name__
    return prior.spec.kind
