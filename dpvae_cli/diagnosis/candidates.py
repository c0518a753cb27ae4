"""Other priors, fitted to a model's codes as `dpvae fit-prior` does: what each would mend."""

import shlex
import time
from collections.abc import Iterator, Mapping
from typing import Any

from dpvae_cli.diagnosis.densities import from_prior
from dpvae_cli.diagnosis.quantities import share_in_tail
from dpvae_cli.diagnosis.record import CandidatePrior
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.fitting.codes import Codes
from dpvae_cli.fitting.fit import fit_model_prior
from dpvae_cli.foundation.errors import DpvaeError
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.recipe import Fitting
from dpvae_cli.recipe.loading import fit_options
from dpvae_cli.sampling.gallery import IMAGES

QUICK_FIT: dict[str, Any] = {"validate_every": 50, "patience": 5}
CANDIDATE_PRIORS = {
    "decoupled": Fitting(iterations=800, learning_rate=5e-3, **QUICK_FIT),
    "spline": Fitting(iterations=500, learning_rate=1e-2, **QUICK_FIT),
    "{kind: mixture, covariance: full}": Fitting(),
}
"""Priors to try, each for about as many seconds; a step of a spline takes longest."""
COMPONENTS, DRAWS = 10_000, 5_000
"""The most codes that log q(z) is of, and the most draws of either side that shares are of."""


def try_priors(
    context: EvaluationContext, priors: Mapping[str, Fitting], *, usual: Fitting, seed: int
) -> Iterator[CandidatePrior | str]:
    """Fit priors to the codes, as the command that is recommended would.

    Args:
        context: the model with its codes.
        priors: words or sections, as `--prior` takes them, and how each is fitted.
        usual: how a command fits that says nothing of it.
        seed: of the fit.

    Yields:
        A repair for each prior, or why it is none.
    """
    for index, (prior, fitting) in enumerate(priors.items()):
        context.progress("diagnosis: priors tried", index, len(priors))
        try:
            yield _try(context, prior, fitting, usual=usual, seed=seed)
        except DpvaeError as error:
            yield f"{prior} was not tried: {error}"
    context.progress("diagnosis: priors tried", len(priors), len(priors))


def _try(
    context: EvaluationContext, prior: str, fitting: Fitting, *, usual: Fitting, seed: int
) -> CandidatePrior:
    """Fit one prior; its gain is the one that the fit's own record reports."""
    start = time.perf_counter()
    aggregate = context.aggregate
    spec, _ = fit_options(prior, (), latent_dim=aggregate.latent_dim)
    fitted = fit_model_prior(context.model, aggregate, spec, fitting=fitting, seed=seed)
    codes = Codes(aggregate.mean, aggregate.log_variance, held_out=fitting.held_out, seed=seed)
    training = codes.training
    q = AggregatePosterior(training.mean[:COMPONENTS], training.log_variance[:COMPONENTS])
    fresh = codes.test.z[:DRAWS].cpu()
    side = from_prior(fitted.prior)
    z = side.draw(len(fresh), context.generator("diagnosis", prior))
    record = fitted.record
    return CandidatePrior(
        prior=spec.kind,
        gain=record.gain.value,
        standard_error=record.gain.standard_error,
        held_out=len(codes.test),
        pocket_share=share_in_tail(q.log_prob(z), of=q.log_prob(fresh)),
        leak_share=share_in_tail(side.log_prob(fresh), of=side.log_prob(z)),
        seconds=time.perf_counter() - start,
        options=_options(prior, fitting, usual),
        has_generation=spec.has_generation,
        samples=z[:IMAGES].double().numpy(),
    )


def _options(prior: str, fitting: Fitting, usual: Fitting) -> str:
    """Return what `dpvae fit-prior` is told so that it fits this very prior in this very way."""
    settings = [
        f"fitting.{name}={getattr(fitting, name)}"
        for name in Fitting.model_fields
        if getattr(fitting, name) != getattr(usual, name)
    ]
    return " ".join(["--prior", shlex.quote(prior), *settings])
