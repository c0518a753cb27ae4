"""A classifier two-sample test (c2st): whether samples of the prior can be told from codes."""

import math

import torch

from dpvae_cli.evaluation import classifiers
from dpvae_cli.evaluation.codes import GENERATION, in_both_spaces
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.results import Result
from dpvae_cli.foundation.shapes import Codes
from dpvae_cli.mathematics.estimates import EstimateWithTerms, error_terms_of_mean
from dpvae_cli.mathematics.gaussian import DiagonalGaussian
from dpvae_cli.sampling.samples import prior_samples

MIN_SAMPLES = 10
CORRECTION = math.sqrt(1 + classifiers.TEST_FOLDS / (classifiers.TEST_FOLDS - 1))
"""Of standard errors, for the classifiers of all folds share most of their training points."""
ESTIMATOR = f"gradient-boosted trees, {classifiers.TEST_FOLDS}-fold cross-validation"


def c2st(context: EvaluationContext) -> list[Result]:
    """Measure the accuracy of a classifier of p(z) against q(z), in z and, through g, in z0.

    Each code is drawn from another training example, so none repeats. `details.null` is the same
    for codes against codes of other examples. The accuracy is cross-validated and 0.5 on average
    where both sides have one distribution; a pair of a sample and a code is a term of its error.

    Source: Lopez-Paz and Oquab 2017, section 3. The error: Nadeau and Bengio 2003, corrected for
    training sets that overlap.

    Raises:
        UsageError: there are too few codes.
    """
    aggregate, generator = context.aggregate, context.generator("c2st")
    codes = len(aggregate)
    samples = min(context.evaluation.c2st_samples, codes)
    if min(samples, codes // 2) < MIN_SAMPLES:
        raise UsageError(
            f"c2st needs {2 * MIN_SAMPLES} codes or more, there are {codes}",
            hint="Encode more training examples.",
        )
    prior = prior_samples(context.model, samples, generator=generator)
    order = torch.randperm(codes, generator=generator)[: 2 * samples].to(aggregate.mean.device)
    posterior = DiagonalGaussian(aggregate.mean[order].cpu(), aggregate.log_variance[order].cpu())
    drawn = in_both_spaces(context, posterior.sample(generator=generator))
    of_prior = {"": prior.z, GENERATION: prior.z0}
    results: list[Result] = []
    for index, (space, q) in enumerate(drawn.items()):
        context.progress("c2st", index, len(drawn))
        p = of_prior[space]
        assert p is not None
        if not results or q is not drawn[""]:
            accuracy = _accuracy(p.double(), q[:samples], context.seed)
            half = len(q) // 2
            null = _accuracy(q[:half], q[half : 2 * half], context.seed)
        details = {"null": null.to_dict(), "estimator": ESTIMATOR}
        results.append(
            context.estimate_result(
                f"c2st{space}", accuracy, samples=samples, split="train", **details
            )
        )
    context.progress("c2st", len(drawn), len(drawn))
    return results


def _accuracy(first: Codes, second: Codes, seed: int) -> EstimateWithTerms:
    """Return the mean over pairs of rows of which share of both is told rightly."""
    right = classifiers.are_told_apart(first, second, seed=seed).double().mean(dim=0)
    return EstimateWithTerms(float(right.mean()), CORRECTION * error_terms_of_mean(right))
