"""Precision, recall, density and coverage: whether samples lie where examples do, and back.

Decoded means of prior samples are compared with training examples, images by the features that
`fid` compares, other examples as they are. Precision and density fall where samples lie where no
example is: they see pockets. Recall and coverage fall where examples lie where no sample is: they
see leaks.
"""

from typing import Any

import torch
from torch import Tensor

from dpvae_cli.evaluation import feature_statistics, fid
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.features import FeatureMetric
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.foundation.results import Result
from dpvae_cli.foundation.shapes import Codes
from dpvae_cli.mathematics.estimates import EstimateWithTerms
from dpvae_cli.mathematics.support import Support, compare_support
from dpvae_cli.sampling.samples import decode, lowest, prior_samples


def precision(context: EvaluationContext) -> list[Result]:
    """Measure the share of samples that lie where examples do."""
    return [_result(context, "precision", _of_samples(context).precision)]


def recall(context: EvaluationContext) -> list[Result]:
    """Measure the share of examples that lie where samples do."""
    return [_result(context, "recall", _of_samples(context).recall)]


def density(context: EvaluationContext) -> list[Result]:
    """Measure how many balls of examples a sample lies in, 1 on average where all is well."""
    return [_result(context, "density", _of_samples(context).density)]


def coverage(context: EvaluationContext) -> list[Result]:
    """Measure the share of examples that have a sample near them."""
    return [_result(context, "coverage", _of_samples(context).coverage)]


def precision_lp(context: EvaluationContext) -> list[Result]:
    """Measure precision of low-posterior samples: the lowest log q(z) of a pool of prior samples.

    The lowest of a pool differ from random ones even where q(z) = p(z), so `details.null` has the
    same selection by log p(z) from the same pool.
    """
    real = _real(context, "precision_lp")
    pool = context.evaluation.pool * len(real)
    drawn = prior_samples(context.model, pool, generator=context.generator("precision_lp"))
    log_q = context.aggregate.log_prob(drawn.z)
    found, null = (
        _compare(
            context,
            real,
            _features(context, "precision_lp", drawn.z[lowest(score, len(real))]),
        )
        for score in (log_q, drawn.log_p)
    )
    details = {"pool": pool, "null": null.precision.to_dict()}
    return [_result(context, "precision_lp", found.precision, **details)]


def _result(
    context: EvaluationContext, metric: FeatureMetric, estimate: EstimateWithTerms, **details: Any
) -> Result:
    looks = is_image(context.model.example_shape)
    extractor = context.extractor if looks else None
    real, reference = _real(context, metric), context.features.reference if looks else None
    unseen: EstimateWithTerms | None = None
    if (held_out := _of_held_out(context)) is not None:
        unseen = getattr(held_out[0], metric.removesuffix("_lp"))
    return context.estimate_result(
        metric if extractor is None else extractor.result_name(metric),
        estimate,
        samples=len(real),
        split="train" if reference is None else None,
        weights=None if extractor is None else extractor.label,
        dimensions=real.shape[1],
        neighbours=context.evaluation.support_neighbours,
        reference=None if reference is None else reference.name,
        held_out=None
        if unseen is None or held_out is None
        else unseen.to_dict() | {"samples": held_out[1]},
        **details,
    )


def _of_samples(context: EvaluationContext) -> Support:
    """Return the comparison of as many prior samples as real examples, made once."""
    if "samples" not in context.support:
        real = _real(context, "precision")
        if is_image(context.model.example_shape) and len(real) == context.evaluation.fid_samples:
            rows = fid.prior_sets(context, "precision")[0].rows
            assert rows is not None
            samples: Tensor = rows[: len(real)]
        else:
            generator = context.generator("fid", 0)
            drawn = prior_samples(context.model, len(real), generator=generator)
            samples = _features(context, "precision", drawn.z)
        context.support["samples"] = _compare(context, real, samples), len(real)
    return context.support["samples"][0]


def _of_held_out(context: EvaluationContext) -> tuple[Support, int] | None:
    """Return the comparison of held-out with as many real examples, made once; None if too few."""
    if "held_out" not in context.support:
        evaluation, real = context.evaluation, _real(context, "precision")
        split = context.dataset.split(evaluation.split)
        count = min(len(real), len(split))
        if count <= evaluation.support_neighbours:
            return None
        if is_image(context.model.example_shape):
            rows = feature_statistics.of_images(
                context.dataset,
                context.extractor,
                count,
                lambda done, total: context.progress("held-out images", done, total),
                split=evaluation.split,
                group=context.group,
            ).rows
            assert rows is not None
            unseen: Tensor = rows[:count]
        else:
            order = torch.randperm(len(split), generator=context.generator("support", "held out"))
            unseen = split.examples(order[:count]).flatten(1)
        context.support["held_out"] = _compare(context, real[:count], unseen[: len(real)]), count
    return context.support["held_out"]


def _compare(context: EvaluationContext, real: Codes, samples: Tensor) -> Support:
    return compare_support(real, samples, neighbours=context.evaluation.support_neighbours)


def _real(context: EvaluationContext, metric: FeatureMetric) -> Codes:
    """Return features of real images, or else training examples as they are, `(real, features)`.

    Raises:
        DpvaeError: the images do not compare, or only their moments are known.
    """
    count = context.evaluation.support_samples
    if is_image(context.model.example_shape):
        fid.check_comparable(context, metric)
        return fid.reference_rows(context, metric)[:count]
    train = context.dataset.train
    order = torch.randperm(len(train), generator=context.generator("support", "real"))
    return train.examples(order[:count]).flatten(1)


def _features(context: EvaluationContext, metric: FeatureMetric, z: Codes) -> Tensor:
    """Return the features of decoded codes, or the decoded means as they are."""
    if not is_image(context.model.example_shape):
        return decode(context.model, z).flatten(1)
    rows = fid.extract(context, metric, z).rows
    assert rows is not None
    return rows
