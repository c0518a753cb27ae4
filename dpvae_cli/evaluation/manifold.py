"""Distance of decoded samples to the noiseless data manifold, where the data knows one (moons)."""

import math

import torch

from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.foundation.errors import DpvaeError
from dpvae_cli.foundation.results import Result
from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.mathematics.estimates import EstimateWithTerms, error_terms_of_mean
from dpvae_cli.sampling.samples import decode, lowest, prior_samples


def manifold(context: EvaluationContext) -> list[Result]:
    """Measure the mean distance of prior samples' decoded means to the manifold, in units of x."""
    count = context.evaluation.manifold_samples
    samples = prior_samples(context.model, count, generator=context.generator("manifold"))
    return [context.mean_result("manifold", _distances(context, samples.z))]


def manifold_lp(context: EvaluationContext) -> list[Result]:
    """Measure the same for low-posterior samples: the lowest log q(z) of a pool of prior samples.

    The lowest of a pool differ from random ones even where q(z) = p(z), so `details.null` has the
    same selection by log p(z) from the same pool.
    """
    evaluation = context.evaluation
    count, pool = evaluation.manifold_samples, evaluation.pool * evaluation.manifold_samples
    samples = prior_samples(context.model, pool, generator=context.generator("manifold_lp"))
    log_q = context.aggregate.log_prob(samples.z)
    null = _mean_of_lowest(context, samples.z, samples.log_p, count)
    mean = _mean_of_lowest(context, samples.z, log_q, count)
    details = {"pool": pool, "null": null.to_dict()}
    return [context.estimate_result("manifold_lp", mean, samples=count, **details)]


def _mean_of_lowest(
    context: EvaluationContext, z: Codes, score: PerExample, count: int
) -> EstimateWithTerms:
    """Return the mean distance of the `count` samples with the lowest score.

    Another pool has its edge elsewhere, which swaps samples for others near the edge. To first
    order a pool of N samples estimates mean(1{kept} (d - e)) N / count + e with the mean distance e
    at the edge, taken from the ranks that the edge of another pool may have.
    """
    pool = len(z)
    reach = math.ceil(math.sqrt(count * (1 - count / pool)))
    near = lowest(score, count + reach)
    distances = _distances(context, z[near]).double()
    kept = distances[:count]
    edge = distances[max(0, count - reach) :].mean()
    contributions = torch.zeros(pool, dtype=torch.float64)
    contributions[near[:count]] = (kept - edge) * pool / count
    return EstimateWithTerms(float(kept.mean()), error_terms_of_mean(contributions))


def _distances(context: EvaluationContext, z: Codes) -> PerExample:
    distance = context.dataset.distance_to_manifold
    if distance is None:
        raise DpvaeError(
            f"data {context.dataset.name} has no known manifold to measure distances to",
            hint="manifold and manifold_lp are for data.kind=moons.",
        )
    return distance(decode(context.model, z))
