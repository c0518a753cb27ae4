"""Probes: how well simple classifiers tell the labels of held-out examples from their codes."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor

from dpvae_cli.data import Split
from dpvae_cli.evaluation import classifiers
from dpvae_cli.evaluation.codes import in_both_spaces, training_means
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.results import Result
from dpvae_cli.foundation.shapes import Codes, OtherCodes
from dpvae_cli.mathematics.estimates import error_terms_of_mean, mean_and_error
from dpvae_cli.sampling.encodings import encode

NEIGHBOURS = 5

Labels = Int[Tensor, "batch labels"]
Tell = Callable[[Codes, Int[Tensor, " batch"], OtherCodes], Int[Tensor, " others"]]


def _linear(codes: Codes, labels: Int[Tensor, " batch"], others: OtherCodes) -> Tensor:
    return classifiers.linear(codes, labels, others=others)


def _nearest(codes: Codes, labels: Int[Tensor, " batch"], others: OtherCodes) -> Tensor:
    return classifiers.nearest(codes, labels, others=others, neighbours=NEIGHBOURS)


PROBES: dict[str, Tell] = {"probe": _linear, "probe_knn": _nearest}


def probe(context: EvaluationContext) -> list[Result]:
    """Measure the held-out accuracy of a logistic regression and of nearest neighbours on codes.

    Both are fitted to posterior means of training examples and tried on those of held-out ones, in
    z and in z0. With several labels an example (attributes) the accuracy is averaged over them.
    """
    evaluation, dataset = context.evaluation, context.dataset
    held_out = dataset.split(evaluation.split)
    known, expected = (_labels(part, dataset.name) for part in (dataset.train, held_out))
    rows = torch.randperm(len(known), generator=context.generator("probe"))
    rows = rows[: evaluation.probe_samples]
    codes = in_both_spaces(context, training_means(context)[rows])
    others = in_both_spaces(context, encode(context.model, held_out).mean)
    results = []
    for space in codes:
        for name, tell in PROBES.items():
            said = _told(tell, codes[space], known[rows], others[space])
            right = (said == expected).double().mean(dim=1)
            results.append(_result(context, f"{name}{space}", right, known[rows], expected))
            context.progress("probe", len(results), len(codes) * len(PROBES))
    return results


def _labels(split: Split, name: str) -> Labels:
    """Return labels as columns.

    Raises:
        UsageError: there are none, or they are not classes.
    """
    if split.labels is None:
        raise UsageError(
            f"data {name} has no labels to probe codes for",
            hint="probe is for data.kind=moons, digits, sprites, dsprites, mnist and svhn, and for "
            "celeba with its attributes and arrays with labels.",
        )
    if split.labels.is_floating_point():
        raise UsageError(
            f"the labels of data {name} are numbers with a fraction, no classes",
            hint="Save them as integers.",
        )
    return split.labels.long().reshape(len(split), -1)


def _told(
    tell: Tell, codes: Codes, labels: Labels, others: OtherCodes
) -> Int[Tensor, "others labels"]:
    """Return what a probe says of each label; of one that never varies that it never does."""
    columns = [
        tell(codes, column, others)
        if bool((column != column[0]).any())
        else column[0].expand(len(others))
        for column in labels.T
    ]
    return torch.stack(columns, dim=1)


def _result(
    context: EvaluationContext, metric: str, right: Tensor, known: Labels, expected: Tensor
) -> Result:
    mean = mean_and_error(right)
    commonest = known.mode(dim=0).values
    details = {
        "training_examples": len(known),
        "labels": known.shape[1],
        "commonest": float((expected == commonest).double().mean()),
        "neighbours": NEIGHBOURS if "knn" in metric else None,
    }
    return Result(
        metric=metric,
        value=mean.value,
        standard_error=None if math.isnan(mean.standard_error) else mean.standard_error,
        unit="no unit",
        samples=len(right),
        seed=context.seed,
        split=context.evaluation.split,
        details=details,
        error_terms={"value": error_terms_of_mean(right)},
    )
