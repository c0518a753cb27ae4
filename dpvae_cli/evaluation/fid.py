"""FID, FID of low-posterior samples, and KID: decoded samples beside training images (5.1).

Decoded means of prior samples and training images go through one network, and their features'
distributions are compared: `fid` takes both for Gaussians, `kid` compares them with a kernel and is
unbiased at any number of samples. `fid_lp` asks it of samples where q(z) has pockets.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.feature_statistics import (
    FeatureStatistics,
    check_pixels,
    feature_statistics,
    unit_interval,
)
from dpvae_cli.evaluation.features import FeatureMetric
from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.foundation.results import Result
from dpvae_cli.foundation.shapes import Codes
from dpvae_cli.mathematics.estimates import error_terms_of_mean, mean_and_error
from dpvae_cli.mathematics.frechet import frechet_distance
from dpvae_cli.mathematics.kernel_distance import mean_over_subsets, mmd_of_subsets, subset_size
from dpvae_cli.sampling.samples import decode, lowest, prior_samples


def fid(context: EvaluationContext) -> list[Result]:
    """Measure the Frechet distance of prior samples' features to training images' features."""
    check_comparable(context, "fid")
    distances = [_distance(context, samples) for samples in prior_sets(context, "fid")]
    return [_frechet_result(context, "fid", distances)]


def fid_lp(context: EvaluationContext) -> list[Result]:
    """Measure the same for low-posterior samples: the lowest log q(z) of a pool of prior samples.

    The lowest of a pool differ from random ones even where q(z) = p(z), so `details.null` has the
    same selection by log p(z) from the same pools.
    """
    check_comparable(context, "fid_lp")
    count = context.evaluation.fid_samples
    pool = context.evaluation.pool * count
    by_q: list[float] = []
    by_p: list[float] = []
    for repeat in range(context.features.repeats):
        generator = context.generator("fid_lp", repeat)
        samples = prior_samples(context.model, pool, generator=generator)
        log_q = context.aggregate.log_prob(samples.z)
        for score, distances in ((log_q, by_q), (samples.log_p, by_p)):
            z = samples.z[lowest(score, count)]
            distances.append(_distance(context, extract(context, "fid_lp", z)))
    value, error = _mean(by_p)
    null = {"value": value, "standard_error": error}
    return [_frechet_result(context, "fid_lp", by_q, pool=pool, null=null)]


def kid(context: EvaluationContext) -> list[Result]:
    """Measure the kernel distance of the same features, unbiased, over subsets without overlap.

    With repeats, each subset of training images meets one of every sample set.
    """
    check_comparable(context, "kid")
    reference = reference_rows(context, "kid")
    sets = [samples.rows for samples in prior_sets(context, "kid") if samples.rows is not None]
    size = subset_size(min(len(sets[0]), len(reference)))
    by_subset = torch.stack([mmd_of_subsets(rows, reference, size=size) for rows in sets]).mean(
        dim=0
    )
    distance = mean_over_subsets(by_subset, size=size)
    details = {"subset_size": distance.subset_size, "subsets": distance.subsets}
    return [_result(context, "kid", distance.value, distance.standard_error, by_subset, **details)]


def check_comparable(context: EvaluationContext, metric: FeatureMetric) -> None:
    """Check what is to be compared before anything slow is done."""
    shape = context.model.example_shape
    if not is_image(shape):
        raise DpvaeError(
            f"{metric} compares grey or RGB images; examples of this model have shape {shape}",
            hint="Images are (1, height, width) or (3, height, width).",
        )
    check_pixels(context.units)
    known = context.extractor.dimensions
    _check_dimensions(context, context.reference.dimensions if known is None else known)


def reference_rows(context: EvaluationContext, metric: FeatureMetric) -> Codes:
    """Return the features that samples are compared with one by one.

    Raises:
        DpvaeError: only their moments are known.
    """
    if (rows := context.reference.rows) is None:
        raise DpvaeError(
            f"{context.features.reference} has a mean and a covariance, but no features for "
            f"{metric}",
            hint="Leave out --reference once and keep the statistics with --save-reference.",
        )
    return rows


def _check_dimensions(context: EvaluationContext, dimensions: int) -> None:
    """Check that the statistics, which a file may hold, are of the extractor's dimensions."""
    if (expected := context.reference.dimensions) != dimensions:
        raise UsageError(
            f"{context.features.reference} is of {expected} dimensions, "
            f"{context.extractor.label} gives {dimensions}",
            hint="--reference must come from the same network with the same --fid-dimensions.",
        )


def prior_sets(context: EvaluationContext, metric: FeatureMetric) -> list[FeatureStatistics]:
    """Return the features of each set of prior samples; fid and others share them."""
    for repeat in range(len(context.prior_features), context.features.repeats):
        generator = context.generator("fid", repeat)
        samples = prior_samples(context.model, context.evaluation.fid_samples, generator=generator)
        context.prior_features.append(extract(context, metric, samples.z))
    return context.prior_features


def extract(context: EvaluationContext, metric: FeatureMetric, z: Codes) -> FeatureStatistics:
    """Decode codes and extract their features, batch by batch."""
    statistics = feature_statistics(
        context.extractor,
        lambda codes: unit_interval(context.units, decode(context.model, codes)),
        z,
        lambda done: context.progress(f"{metric}: samples", done, len(z)),
        group=context.group,
    )
    _check_dimensions(context, statistics.dimensions)
    return statistics


def _distance(context: EvaluationContext, samples: FeatureStatistics) -> float:
    reference = context.reference
    return frechet_distance(samples.mean, samples.covariance, reference.mean, reference.covariance)


def _mean(distances: list[float]) -> tuple[float, float | None]:
    """Return the mean over sample sets and its standard error, None for a single set."""
    mean, error = mean_and_error(torch.tensor(distances, dtype=torch.float64))
    return mean, error if len(distances) > 1 else None


def _frechet_result(
    context: EvaluationContext, metric: FeatureMetric, distances: list[float], **details: Any
) -> Result:
    samples, reference = context.evaluation.fid_samples, context.reference
    fewest, note = min(samples, reference.count or samples), None
    if fewest < reference.dimensions:
        note = (
            f"{fewest:,} images for {reference.dimensions:,} dimensions: the covariance is "
            "singular and the distance biased upwards; kid is not"
        )
    values = torch.tensor(distances, dtype=torch.float64)
    details = {"repeats": distances, "note": note, **details}
    return _result(context, metric, *_mean(distances), values, **details)


def _result(
    context: EvaluationContext,
    metric: FeatureMetric,
    value: float,
    error: float | None,
    repeated: Float[Tensor, " terms"],
    **details: Any,
) -> Result:
    options = context.features
    from_training = options.reference is None
    return context.result(
        context.extractor.result_name(metric),
        value,
        error,
        samples=context.evaluation.fid_samples,
        split="train" if from_training else None,
        weights=context.extractor.label,
        error_terms={} if error is None else {"value": error_terms_of_mean(repeated)},
        dimensions=context.reference.dimensions,
        images=context.reference.count,
        images_in_split=len(context.dataset.train) if from_training else None,
        reference=None if options.reference is None else options.reference.name,
        **details,
    )
