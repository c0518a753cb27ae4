"""sKL: the symmetric KL divergence between prior and aggregate posterior (paper, section 5.1).

sKL = KL[p(z), q(z)] + KL[q(z), p(z)]. `skl` averages exact log-densities over samples of either
side; `skl_knn` is the nearest-neighbour estimate of the released code, in z, and in z0 too.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.results import Result
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.mathematics.divergences import kl_nearest_neighbours
from dpvae_cli.mathematics.estimates import (
    ErrorTerms,
    Estimate,
    error_terms_of_mean,
    mean_and_error,
    standard_error,
)
from dpvae_cli.model import VAE
from dpvae_cli.sampling.samples import LatentSamples, from_codes, prior_samples


class SymmetricKl(NamedTuple):
    """sKL in nats with its halves: what pockets cost (forward) and what leaks cost (reverse)."""

    value: float
    standard_error: float
    prior_to_posterior: Estimate
    posterior_to_prior: Estimate
    error_terms: ErrorTerms


def symmetric_kl(
    model: VAE, aggregate: AggregatePosterior, *, samples: int, generator: torch.Generator
) -> SymmetricKl:
    """Estimate the sKL in nats from `samples` draws a side, log p and log q exact."""
    from_prior = prior_samples(model, samples, generator=generator).with_log_q(aggregate)
    from_q = from_codes(model, aggregate.sample(samples, generator=generator))
    from_q = from_q.with_log_q(aggregate)
    terms = -_log_ratio(from_prior), _log_ratio(from_q)
    forward, reverse = map(mean_and_error, terms)
    error_terms = torch.cat([error_terms_of_mean(each) for each in terms])
    error = standard_error(error_terms)
    return SymmetricKl(forward.value + reverse.value, error, forward, reverse, error_terms)


def _log_ratio(samples: LatentSamples) -> Tensor:
    """Return log q(z) - log p(z)."""
    assert samples.log_q is not None
    return samples.log_q - samples.log_p.double()


def skl(context: EvaluationContext) -> list[Result]:
    """Measure the sKL from exact densities."""
    estimate = symmetric_kl(
        context.model,
        context.aggregate,
        samples=context.evaluation.samples,
        generator=context.generator("skl"),
    )
    result = context.result(
        "skl",
        estimate.value,
        estimate.standard_error,
        split="train",
        error_terms={"value": estimate.error_terms},
        kl_prior_to_posterior=estimate.prior_to_posterior._asdict(),
        kl_posterior_to_prior=estimate.posterior_to_prior._asdict(),
        components=len(context.aggregate),
    )
    return [result]


def skl_by_label(context: EvaluationContext) -> list[Result]:
    """Measure the sKL between p(z | label) and q(z | label), for each label of the prior.

    The value is the mean over labels; `details` has the sKL of each.
    """
    prior, labels = context.model.prior, context.dataset.class_labels()
    if not prior.labels:
        raise UsageError(
            "skl_by_label is for priors that are given a label",
            hint="Fit one: dpvae fit-prior --given label.",
        )
    aggregate, found = context.aggregate, []
    known = [label for label in prior.labels if bool((labels == label).any())]
    for label in known:
        rows = (labels == label).to(aggregate.mean.device)
        q = AggregatePosterior(aggregate.mean[rows], aggregate.log_variance[rows])
        estimate = symmetric_kl(
            context.model.with_prior(prior.given(label)),
            q,
            samples=context.evaluation.samples,
            generator=context.generator(f"skl_by_label/{label}"),
        )
        found.append(estimate)
        context.progress("skl_by_label", len(found), len(known))
    if not found:
        raise UsageError("none of the prior's labels is in the training data")
    error_terms = torch.cat([each.error_terms for each in found]) / len(found)
    result = context.result(
        "skl_by_label",
        sum(each.value for each in found) / len(found),
        standard_error(error_terms),
        split="train",
        error_terms={"value": error_terms},
        labels=known,
        values=[each.value for each in found],
        standard_errors=[each.standard_error for each in found],
    )
    return [result]


def skl_knn(context: EvaluationContext) -> list[Result]:
    """Estimate the sKL by nearest neighbours, in z and, where the prior has one, in z0.

    The true divergence is the same in both spaces, the estimate is not.
    """
    samples = context.evaluation.samples
    generator = context.generator("skl_knn")
    p = prior_samples(context.model, samples, generator=generator)
    codes = context.aggregate.sample(samples, generator=generator)
    q = from_codes(context.model, codes)
    results = [_nearest_neighbours(context, "skl_knn", p.z, q.z)]
    if p.z0 is not None and q.z0 is not None:
        results.append(_nearest_neighbours(context, "skl_knn_generation", p.z0, q.z0))
    return results


def _nearest_neighbours(context: EvaluationContext, name: str, p: Tensor, q: Tensor) -> Result:
    k = context.evaluation.neighbours
    points = p.double().numpy(), q.double().numpy()
    forward = kl_nearest_neighbours(*points, k=k)
    reverse = kl_nearest_neighbours(*reversed(points), k=k)
    error_terms = forward.error_terms + reverse.error_terms
    return context.result(
        name,
        forward.value + reverse.value,
        standard_error(error_terms),
        split="train",
        error_terms={"value": error_terms},
        neighbours=k,
        coinciding=forward.num_duplicates + reverse.num_duplicates,
        kl_prior_to_posterior=forward.value,
        kl_posterior_to_prior=reverse.value,
        standard_error_note="from halves of the samples; says nothing of the bias",
    )
