"""Other priors, fitted to the codes of a model as `dpvae fit-prior` does."""

import shlex
import time
from collections.abc import Iterator, Mapping
from typing import Any

from dpvae_cli.diagnosis.groups import share_in_tail
from dpvae_cli.diagnosis.record import CandidatePrior
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.fitting.codes import CodeSplits
from dpvae_cli.fitting.fit import fit_model_prior
from dpvae_cli.foundation.errors import DpvaeError
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.recipe import Fitting
from dpvae_cli.recipe.loading import fit_options
from dpvae_cli.sampling.gallery import IMAGES
from dpvae_cli.sampling.samples import from_codes, prior_samples

QUICK_FIT: dict[str, Any] = {"validate_every": 50, "patience": 5}
CANDIDATE_PRIORS = {
    "decoupled": Fitting(iterations=800, learning_rate=5e-3, **QUICK_FIT),
    "spline": Fitting(iterations=500, learning_rate=1e-2, **QUICK_FIT),
    "{kind: mixture, covariance: full}": Fitting(),
}
"""Priors to fit, each in about the same time; a step of a spline takes longest."""
COMPONENTS, DRAWS = 10_000, 5_000
"""Maximal numbers of codes in q(z), and of draws that shares are computed from."""


def try_priors(
    context: EvaluationContext, priors: Mapping[str, Fitting], *, usual: Fitting, seed: int
) -> Iterator[CandidatePrior | str]:
    """Fit priors to the codes, as the command that is recommended would.

    `priors` are words or sections, as `--prior` takes them, with how each is fitted; `usual` is
    what a command fits with by default.

    Yields:
        For each prior how it does, or why it was not tried.
    """
    for index, (prior, fitting) in enumerate(priors.items()):
        context.progress("diagnosis: priors tried", index, len(priors))
        try:
            yield _fit_and_score(context, prior, fitting, usual=usual, seed=seed)
        except DpvaeError as error:
            yield f"{prior} was not tried: {error}"
    context.progress("diagnosis: priors tried", len(priors), len(priors))


def _fit_and_score(
    context: EvaluationContext, prior: str, fitting: Fitting, *, usual: Fitting, seed: int
) -> CandidatePrior:
    """Fit one prior; its gain is the one that the record of the fit reports."""
    start = time.perf_counter()
    aggregate = context.aggregate
    spec, _ = fit_options(prior, (), latent_dim=aggregate.latent_dim)
    fitted = fit_model_prior(context.model, aggregate, spec, fitting=fitting, seed=seed)
    codes = CodeSplits(aggregate.mean, aggregate.log_variance, held_out=fitting.held_out, seed=seed)
    training = codes.training
    q = AggregatePosterior(training.mean[:COMPONENTS], training.log_variance[:COMPONENTS])
    fresh = codes.test.z[:DRAWS].cpu()
    repaired = context.model.with_prior(fitted.prior)
    drawn = prior_samples(repaired, len(fresh), generator=context.generator("diagnosis", prior))
    z, log_p = drawn.z, from_codes(repaired, drawn.z).log_p.double()
    gain = fitted.record.gain
    settings = [
        f"fitting.{name}={getattr(fitting, name)}"
        for name in Fitting.model_fields
        if getattr(fitting, name) != getattr(usual, name)
    ]
    return CandidatePrior(
        prior=spec.kind,
        gain=gain.value,
        standard_error=gain.standard_error,
        held_out=len(codes.test),
        pocket_share=share_in_tail(q.log_prob(z), of=q.log_prob(fresh)),
        leak_share=share_in_tail(from_codes(repaired, fresh).log_p.double(), of=log_p),
        seconds=time.perf_counter() - start,
        options=" ".join(["--prior", shlex.quote(prior), *settings]),
        has_generation=spec.has_generation,
        samples=z[:IMAGES].double().numpy(),
    )
