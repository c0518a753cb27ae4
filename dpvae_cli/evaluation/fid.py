"""FID, FID of low-posterior samples, and KID: decoded samples beside training images (5.1).

Decoded means of prior samples and training images go through one network, and their features'
distributions are compared: `fid` takes both for Gaussians, `kid` compares them with a kernel and is
unbiased at any number of samples. `fid_lp` asks it of samples where q(z) has pockets.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.feature_statistics import FeatureStatistics, feature_statistics
from dpvae_cli.evaluation.features import Metric
from dpvae_cli.evaluation.reference import check_pixels, unit_interval
from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.foundation.results import Result
from dpvae_cli.foundation.shapes import Codes
from dpvae_cli.mathematics.estimates import error_terms_of_mean, mean_and_error
from dpvae_cli.mathematics.frechet import frechet_distance
from dpvae_cli.mathematics.kernel_distance import mean_over_subsets, mmd_of_subsets, subset_size
from dpvae_cli.sampling.encodings import decode
from dpvae_cli.sampling.samples import lowest, prior_samples


class Estimate(NamedTuple):
    """A mean and its standard error, where there is one."""

    value: float
    standard_error: float | None


def fid(context: EvaluationContext) -> list[Result]:
    """Measure the Frechet distance of prior samples' features to training images' features."""
    _prepare(context, "fid")
    distances = [_distance(context, drawn) for drawn in _prior_sets(context, "fid")]
    return [_frechet_result(context, "fid", distances, {})]


def fid_lp(context: EvaluationContext) -> list[Result]:
    """Measure the same for low-posterior samples: the lowest log q(z) of a pool of prior samples.

    The lowest of a pool differ from random ones even where q(z) = p(z), so `details.null` has the
    same selection by log p(z) from the same pools.
    """
    _prepare(context, "fid_lp")
    count = context.evaluation.fid_samples
    pool = context.evaluation.pool * count
    by_q: list[float] = []
    by_p: list[float] = []
    for repeat in range(context.features.repeats):
        generator = context.generator("fid_lp", repeat)
        drawn = prior_samples(context.model, pool, generator=generator)
        log_q = context.aggregate.log_prob(drawn.z)
        for score, distances in ((log_q, by_q), (drawn.log_p, by_p)):
            z = drawn.z[lowest(score, count)]
            distances.append(_distance(context, _extracted(context, "fid_lp", z)))
    null = _mean(by_p)._asdict()
    return [_frechet_result(context, "fid_lp", by_q, {"pool": pool, "null": null})]


def kid(context: EvaluationContext) -> list[Result]:
    """Measure the kernel distance of the same features, unbiased, over subsets without overlap.

    With repeats, each subset of training images meets one of every sample set.
    """
    _prepare(context, "kid")
    reference = context.reference.rows
    if reference is None:
        raise DpvaeError(
            f"{context.features.reference} has a mean and a covariance, but no features for kid",
            hint="Leave out --reference once and keep the statistics with --save-reference.",
        )
    drawn = [_rows(statistics) for statistics in _prior_sets(context, "kid")]
    size = subset_size(min(len(drawn[0]), len(reference)))
    values = [mmd_of_subsets(rows, reference, size=size) for rows in drawn]
    by_subset = torch.stack(values).mean(dim=0)
    found = mean_over_subsets(by_subset, size=size)
    details = {"subset_size": found.subset_size, "subsets": found.subsets}
    return [
        _result(context, "kid", found.value, found.standard_error, by_subset, "no unit", details)
    ]


def _prepare(context: EvaluationContext, metric: Metric) -> None:
    """Refuse what cannot be compared before anything slow is done."""
    shape = context.model.example_shape
    if not is_image(shape):
        raise DpvaeError(
            f"{metric} compares grey or RGB images; examples of this model have shape {shape}",
            hint="Images are (1, height, width) or (3, height, width).",
        )
    check_pixels(context.units)
    known = context.extractor.dimensions
    _check_dimensions(context, context.reference.dimensions if known is None else known)


def _check_dimensions(context: EvaluationContext, dimensions: int) -> None:
    """Refuse statistics, which a file may hold, of other dimensions than the extractor's."""
    found = context.reference.dimensions
    if found != dimensions:
        raise UsageError(
            f"{context.features.reference} is of {found} dimensions, "
            f"{context.extractor.label} gives {dimensions}",
            hint="--reference must come from the same network with the same --fid-dimensions.",
        )


def _prior_sets(context: EvaluationContext, metric: Metric) -> list[FeatureStatistics]:
    """Return the features of each set of prior samples; fid and kid look at the same ones."""
    for repeat in range(len(context.prior_features), context.features.repeats):
        generator = context.generator("fid", repeat)
        drawn = prior_samples(context.model, context.evaluation.fid_samples, generator=generator)
        context.prior_features.append(_extracted(context, metric, drawn.z))
    return context.prior_features


def _extracted(context: EvaluationContext, metric: Metric, z: Codes) -> FeatureStatistics:
    """Decode codes and extract their features, batch by batch."""
    found = feature_statistics(
        context.extractor,
        lambda codes: unit_interval(context.units, decode(context.model, codes)),
        z,
        lambda done: context.progress(f"{metric}: samples", done, len(z)),
        group=context.group,
    )
    _check_dimensions(context, found.dimensions)
    return found


def _rows(drawn: FeatureStatistics) -> Tensor:
    assert drawn.rows is not None
    return drawn.rows


def _distance(context: EvaluationContext, drawn: FeatureStatistics) -> float:
    reference = context.reference
    return frechet_distance(drawn.mean, drawn.covariance, reference.mean, reference.covariance)


def _mean(distances: list[float]) -> Estimate:
    """Return the mean over sample sets; one set alone has no standard error."""
    if len(distances) == 1:
        return Estimate(distances[0], None)
    return Estimate(*mean_and_error(torch.tensor(distances, dtype=torch.float64)))


def _frechet_result(
    context: EvaluationContext, metric: Metric, distances: list[float], details: dict[str, Any]
) -> Result:
    details = {"repeats": distances, "note": _bias(context), **details}
    values = torch.tensor(distances, dtype=torch.float64)
    return _result(context, metric, *_mean(distances), values, "squared feature units", details)


def _bias(context: EvaluationContext) -> str | None:
    """Return a warning where there are fewer images on either side than dimensions."""
    samples, reference = context.evaluation.fid_samples, context.reference
    fewest = min(samples, reference.count or samples)
    if fewest >= reference.dimensions:
        return None
    return (
        f"{fewest:,} images for {reference.dimensions:,} dimensions: the covariance is singular "
        "and the distance biased upwards; kid is not"
    )


def _result(
    context: EvaluationContext,
    metric: Metric,
    value: float,
    error: float | None,
    repeated: Float[Tensor, " terms"],
    unit: str,
    details: dict[str, Any],
) -> Result:
    options, from_training = context.features, context.features.reference is None
    common = {
        "dimensions": context.reference.dimensions,
        "images": context.reference.count,
        "images_in_split": len(context.dataset.train) if from_training else None,
        "reference": None if options.reference is None else options.reference.name,
    }
    return Result(
        metric=context.extractor.result_name(metric),
        value=value,
        standard_error=error,
        unit=unit,
        samples=context.evaluation.fid_samples,
        seed=context.seed,
        split="train" if from_training else None,
        weights=context.extractor.label,
        details=common | details,
        error_terms={} if error is None else {"value": error_terms_of_mean(repeated)},
    )
