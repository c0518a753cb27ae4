"""FID, FID of low-posterior samples, and KID: decoded samples beside training images (5.1).

Decoded means of prior samples and training images go through one network, and their features'
distributions are compared: `fid` takes both for Gaussians, `kid` compares them with a kernel and is
unbiased at any number of samples. `fid_lp` asks it of samples where q(z) has pockets.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dpvae_cli.evaluation.feature_statistics import FeatureStatistics, feature_statistics
from dpvae_cli.evaluation.features import Metric, are_images
from dpvae_cli.evaluation.reference import check_pixels, unit_interval
from dpvae_cli.evaluation.subject import Subject
from dpvae_cli.foundation.errors import DpvaeError, UsageError
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


def fid(subject: Subject) -> list[Result]:
    """Measure the Frechet distance of prior samples' features to training images' features."""
    _prepare(subject, "fid")
    distances = [_distance(subject, drawn) for drawn in _prior_sets(subject, "fid")]
    return [_frechet_result(subject, "fid", distances, {})]


def fid_lp(subject: Subject) -> list[Result]:
    """Measure the same for low-posterior samples: the lowest log q(z) of a pool of prior samples.

    The lowest of a pool differ from random ones even where q(z) = p(z), so `details.null` has the
    same selection by log p(z) from the same pools.
    """
    _prepare(subject, "fid_lp")
    count = subject.evaluation.fid_samples
    pool = subject.evaluation.pool * count
    by_q: list[float] = []
    by_p: list[float] = []
    for repeat in range(subject.features.repeats):
        generator = subject.generator("fid_lp", repeat)
        drawn = prior_samples(subject.model, pool, generator=generator)
        log_q = subject.aggregate.log_prob(drawn.z)
        for score, distances in ((log_q, by_q), (drawn.log_p, by_p)):
            z = drawn.z[lowest(score, count)]
            distances.append(_distance(subject, _extracted(subject, "fid_lp", z)))
    null = _mean(by_p)._asdict()
    return [_frechet_result(subject, "fid_lp", by_q, {"pool": pool, "null": null})]


def kid(subject: Subject) -> list[Result]:
    """Measure the kernel distance of the same features, unbiased, over subsets without overlap.

    With repeats, each subset of training images meets one of every sample set.
    """
    _prepare(subject, "kid")
    reference = subject.reference.rows
    if reference is None:
        raise DpvaeError(
            f"{subject.features.reference} has a mean and a covariance, but no features for kid",
            hint="Leave out --reference once and keep the statistics with --save-reference.",
        )
    drawn = [_rows(statistics) for statistics in _prior_sets(subject, "kid")]
    size = subset_size(min(len(drawn[0]), len(reference)))
    values = [mmd_of_subsets(rows, reference, size=size) for rows in drawn]
    by_subset = torch.stack(values).mean(dim=0)
    found = mean_over_subsets(by_subset, size=size)
    details = {"subset_size": found.subset_size, "subsets": found.subsets}
    return [
        _result(subject, "kid", found.value, found.standard_error, by_subset, "no unit", details)
    ]


def _prepare(subject: Subject, metric: Metric) -> None:
    """Refuse what cannot be compared before anything slow is done."""
    shape = subject.model.example_shape
    if not are_images(shape):
        raise DpvaeError(
            f"{metric} compares grey or RGB images; examples of this model have shape {shape}",
            hint="Images are (1, height, width) or (3, height, width).",
        )
    check_pixels(subject.units)
    known = subject.extractor.dimensions
    _refuse_others(subject, subject.reference.dimensions if known is None else known)


def _refuse_others(subject: Subject, dimensions: int) -> None:
    """Refuse statistics, which a file may hold, of other dimensions than the extractor's."""
    found = subject.reference.dimensions
    if found != dimensions:
        raise UsageError(
            f"{subject.features.reference} is of {found} dimensions, "
            f"{subject.extractor.label} gives {dimensions}",
            hint="--reference must come from the same network with the same --fid-dimensions.",
        )


def _prior_sets(subject: Subject, metric: Metric) -> list[FeatureStatistics]:
    """Return the features of each set of prior samples; fid and kid look at the same ones."""
    for repeat in range(len(subject.prior_features), subject.features.repeats):
        generator = subject.generator("fid", repeat)
        drawn = prior_samples(subject.model, subject.evaluation.fid_samples, generator=generator)
        subject.prior_features.append(_extracted(subject, metric, drawn.z))
    return subject.prior_features


def _extracted(subject: Subject, metric: Metric, z: Codes) -> FeatureStatistics:
    """Decode codes and extract their features, batch by batch."""
    found = feature_statistics(
        subject.extractor,
        lambda codes: unit_interval(subject.units, decode(subject.model, codes)),
        z,
        lambda done: subject.progress(f"{metric}: samples", done, len(z)),
        group=subject.group,
    )
    _refuse_others(subject, found.dimensions)
    return found


def _rows(drawn: FeatureStatistics) -> Tensor:
    assert drawn.rows is not None
    return drawn.rows


def _distance(subject: Subject, drawn: FeatureStatistics) -> float:
    reference = subject.reference
    return frechet_distance(drawn.mean, drawn.covariance, reference.mean, reference.covariance)


def _mean(distances: list[float]) -> Estimate:
    """Return the mean over sample sets; one set alone has no standard error."""
    if len(distances) == 1:
        return Estimate(distances[0], None)
    return Estimate(*mean_and_error(torch.tensor(distances, dtype=torch.float64)))


def _frechet_result(
    subject: Subject, metric: Metric, distances: list[float], details: dict[str, Any]
) -> Result:
    details = {"repeats": distances, "note": _bias(subject), **details}
    values = torch.tensor(distances, dtype=torch.float64)
    return _result(subject, metric, *_mean(distances), values, "squared feature units", details)


def _bias(subject: Subject) -> str | None:
    """Return a warning where there are fewer images on either side than dimensions."""
    samples, reference = subject.evaluation.fid_samples, subject.reference
    fewest = min(samples, reference.count or samples)
    if fewest >= reference.dimensions:
        return None
    return (
        f"{fewest:,} images for {reference.dimensions:,} dimensions: the covariance is singular "
        "and the distance biased upwards; kid is not"
    )


def _result(
    subject: Subject,
    metric: Metric,
    value: float,
    error: float | None,
    repeated: Float[Tensor, " terms"],
    unit: str,
    details: dict[str, Any],
) -> Result:
    options, from_training = subject.features, subject.features.reference is None
    common = {
        "dimensions": subject.reference.dimensions,
        "images": subject.reference.count,
        "images_in_split": len(subject.dataset.train) if from_training else None,
        "reference": None if options.reference is None else options.reference.name,
    }
    return Result(
        metric=subject.extractor.result_name(metric),
        value=value,
        standard_error=error,
        unit=unit,
        samples=subject.evaluation.fid_samples,
        seed=subject.seed,
        split="train" if from_training else None,
        weights=subject.extractor.label,
        details=common | details,
        error_terms={} if error is None else {"value": error_terms_of_mean(repeated)},
    )
