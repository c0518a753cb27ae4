"""Probes: how well simple classifiers predict the labels of held-out examples from their codes."""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from dpvae_cli.evaluation import classifiers
from dpvae_cli.evaluation.codes import in_both_spaces, training_means
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.results import Result
from dpvae_cli.foundation.shapes import Codes, OtherCodes
from dpvae_cli.sampling.samples import encode

NEIGHBOURS = 5

LabelColumns = Int[Tensor, "batch labels"]
Classifier = Callable[[Codes, Int[Tensor, " batch"], OtherCodes], Int[Tensor, " others"]]
CLASSIFIERS: dict[str, Classifier] = {
    "probe": lambda codes, labels, others: classifiers.linear(codes, labels, others=others),
    "probe_knn": lambda codes, labels, others: classifiers.nearest(
        codes, labels, others=others, neighbours=NEIGHBOURS
    ),
}


def probe(context: EvaluationContext) -> list[Result]:
    """Measure the held-out accuracy of a logistic regression and of nearest neighbours on codes.

    Both are fitted to posterior means of training examples and tested on those of held-out ones, in
    z and in z0. With several labels an example (attributes) the accuracy is averaged over them.
    """
    evaluation, dataset = context.evaluation, context.dataset
    held_out = dataset.split(evaluation.split)
    label_columns: list[LabelColumns] = []
    for split in (dataset.train, held_out):
        if split.labels is None:
            raise UsageError(
                f"data {dataset.name} has no labels to probe codes for",
                hint="probe is for data.kind=moons, digits, sprites, dsprites, mnist and svhn, and "
                "for celeba with its attributes and arrays with labels.",
            )
        if split.labels.is_floating_point():
            raise UsageError(
                f"the labels of data {dataset.name} are fractional numbers, not classes",
                hint="Save them as integers.",
            )
        label_columns.append(split.labels.long().reshape(len(split), -1))
    known, expected = label_columns
    rows = torch.randperm(len(known), generator=context.generator("probe"))
    rows = rows[: evaluation.probe_samples]
    labels = known[rows]
    codes = in_both_spaces(context, training_means(context)[rows])
    others = in_both_spaces(context, encode(context.model, held_out).mean)
    results = []
    for space in codes:
        for name, classifier in CLASSIFIERS.items():
            columns = [
                classifier(codes[space], column, others[space])
                if bool((column != column[0]).any())
                else column[0].expand(len(expected))  # a label that is constant stays so
                for column in labels.T
            ]
            predicted = torch.stack(columns, dim=1)
            result = context.mean_result(
                f"{name}{space}",
                (predicted == expected).double().mean(dim=1),
                split=evaluation.split,
                training_examples=len(labels),
                labels=labels.shape[1],
                commonest=float((expected == labels.mode(dim=0).values).double().mean()),
                neighbours=NEIGHBOURS if "knn" in name else None,
            )
            if len(expected) == 1:
                result = replace(result, standard_error=None)
            results.append(result)
            context.progress("probe", len(results), len(codes) * len(CLASSIFIERS))
    return results
