"""Disentanglement scores: how codes and known factors of variation correspond.

Codes are posterior means of training examples, as in the papers, which have one set of data. Each
score is measured in z and, through g, in z0. Each repeat draws its own examples, the same for both
spaces, and for every model of the same data.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dpvae_cli.data import GenerativeFactor
from dpvae_cli.evaluation import classifiers
from dpvae_cli.evaluation.codes import (
    in_both_spaces,
    training_means,
    variances_in_both_spaces,
    varying_factors,
)
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.kl import are_active
from dpvae_cli.foundation.errors import DpvaeError
from dpvae_cli.foundation.results import Result
from dpvae_cli.foundation.shapes import Codes, FactorValues
from dpvae_cli.mathematics import disentanglement as scores
from dpvae_cli.mathematics.estimates import error_terms_of_mean, mean_and_error

BINS = 20
ESTIMATORS = {
    "dci": f"random forest of {classifiers.TREES} trees, depth of {classifiers.DEPTHS} "
    "by cross-validation"
}
"""What predicts factors, by metric."""
MIN_SAMPLES = 10
"""Examples that a repeat has to draw."""
VOTES, BATCH = 800, 100
"""Points that factor_score and beta_score are fitted to and tried on; examples of each point."""


@final
@dataclass(frozen=True)
class FactorSample:
    """The examples of one repeat: codes, factor values, and a seed for more draws."""

    codes: Codes
    values: FactorValues
    factors: tuple[GenerativeFactor, ...]
    active: Bool[Tensor, " latent"]
    seed: int


Scores = Mapping[str, Tensor]
"""Scores by name: one number, or one for each factor, whose mean is the score."""
Score = Callable[[FactorSample], Scores]
MetricFunction = Callable[[EvaluationContext], list[Result]]


def _over_repeats(score: Score) -> MetricFunction:
    """Make a metric of the score of one draw: its mean over several draws, in each space."""

    @wraps(score)
    def metric(context: EvaluationContext) -> list[Result]:
        return _score_repeats(context, score.__name__, score)

    return metric


@_over_repeats
def mig(sample: FactorSample) -> Scores:
    """Measure the mutual information gap, from 20 equal-width bins of each dimension.

    Source: Chen et al. 2018, equation (6).
    """
    return {"mig": scores.mutual_information_gap(sample.codes, sample.values, bins=BINS)}


@_over_repeats
def sap(sample: FactorSample) -> Scores:
    """Measure the separated attribute predictability.

    How well each dimension alone predicts each factor: R^2 of a line for factors whose values
    are ordered, the balanced accuracy of cuts for others, 0 for inactive dimensions; the gap
    between the best two, averaged over factors. A factor of K unordered values gives at most
    1 - 1/K.

    Source: Kumar et al. 2018, section 3.
    """
    columns = []
    for factor, values in zip(sample.factors, sample.values.T, strict=True):
        if factor.is_ordered:
            columns.append(scores.squared_correlation(sample.codes, values.double()))
        else:
            codes = (code.contiguous() for code in sample.codes.T)
            accuracies = [classifiers.thresholds_accuracy(code, values) for code in codes]
            columns.append(torch.tensor(accuracies, dtype=torch.float64))
    return {"sap": scores.top_two_gap(torch.stack(columns, dim=1) * sample.active.unsqueeze(1))}


@_over_repeats
def dci(sample: FactorSample) -> Scores:
    """Measure disentanglement, completeness and informativeness by a random forest for each factor.

    Informativeness is the held-out accuracy of the forest, where the paper has an error; half of
    the examples are held out. The depth of trees is cross-validated.

    Source: Eastwood and Williams 2018, section 2.
    """
    half = len(sample.codes) // 2
    fitted = [
        classifiers.forest(
            sample.codes[:half],
            values[:half],
            held_out=sample.codes[half:],
            expected=values[half:],
            seed=sample.seed % 2**32,
        )
        for values in sample.values.T
    ]
    importance = torch.stack([each.importance for each in fitted], dim=1)
    return {
        "dci": scores.disentanglement(importance),
        "dci_completeness": scores.completeness(importance),
        "dci_informativeness": torch.tensor(
            [each.accuracy for each in fitted], dtype=torch.float64
        ),
    }


@_over_repeats
def factor_score(sample: FactorSample) -> Scores:
    """Measure how often the dimension that varies least identifies the factor held fixed.

    A vote: fix a factor, draw examples with one value of it, divide their codes by the deviation of
    all, and take the dimension of least variance. The score is the accuracy of a majority vote on
    other votes than it is made of. Inactive dimensions take no part.

    Source: Kim and Mnih 2018, section 4.
    """
    generator = torch.Generator().manual_seed(sample.seed)
    codes = sample.codes[:, sample.active & (sample.codes.std(dim=0) > 0)]
    if codes.shape[1] == 0:
        return {"factor_score": torch.zeros((), dtype=torch.float64)}
    codes = codes / codes.std(dim=0)
    count = sample.values.shape[1]
    each = -(-VOTES // count)

    def vote() -> Int[Tensor, "votes 2"]:
        """Return (dimension of least variance, factor held fixed), as many for each factor."""
        found = []
        for index, column in enumerate(sample.values.T):
            some = torch.randint(len(codes), (each,), generator=generator)
            same = scores.sample_with_same_value(column, some, size=BATCH, generator=generator)
            least = codes[same].var(dim=1).argmin(dim=1)
            found.append(torch.stack([least, torch.full_like(least, index)], dim=1))
        return torch.cat(found)

    accuracy = scores.majority_vote_accuracy(vote(), vote(), factors=count)
    return {"factor_score": torch.tensor(accuracy, dtype=torch.float64)}


@_over_repeats
def beta_score(sample: FactorSample) -> Scores:
    """Measure how well a linear classifier predicts which factor pairs of examples share.

    A point: fix a factor, draw pairs of examples that share its value, and average the distances of
    their codes in each dimension. The score is the accuracy of a logistic regression on other
    points than it is fitted to; dimensions are divided by their deviation first, for the scale of
    z may be free.

    Source: Higgins et al. 2017, section 3.
    """
    generator = torch.Generator().manual_seed(sample.seed)
    codes, count = sample.codes, sample.values.shape[1]
    if count == 1:  # a single class
        return {"beta_score": torch.ones((), dtype=torch.float64)}
    each = -(-VOTES // count)

    def draw_points() -> Float[Tensor, "points latent"]:
        """Return mean distances in each dimension of pairs that share a factor, by factor."""
        points = []
        for column in sample.values.T:
            one = torch.randint(len(codes), (each * BATCH,), generator=generator)
            other = scores.sample_with_same_value(column, one, size=1, generator=generator)[:, 0]
            distances = (codes[one] - codes[other]).abs()
            points.append(distances.view(each, BATCH, -1).mean(dim=1))
        return torch.cat(points)

    shared = torch.arange(count).repeat_interleave(each)
    right = classifiers.linear(draw_points(), shared, others=draw_points()) == shared
    return {"beta_score": right.double().mean()}


def _score_repeats(context: EvaluationContext, metric: str, score: Score) -> list[Result]:
    """Score several draws of examples in each space; the value is their mean.

    No repeat takes more than half of the examples there are, so that repeats differ; their spread
    is too small an error where they overlap much. A factor takes part in a repeat where it varies
    among the first half of the draw, which dci fits to.

    Raises:
        DpvaeError: there are too few examples, or no factor varies in any draw.
    """
    factors, values = varying_factors(context)
    repeats = context.evaluation.factor_repeats
    samples = min(context.evaluation.factor_samples, len(values) // 2)
    if samples < MIN_SAMPLES:
        raise DpvaeError(
            f"scores of factors draw half of the training examples, {len(values)} here; "
            f"{2 * MIN_SAMPLES} are needed"
        )
    spaces = in_both_spaces(context, training_means(context))
    noise = variances_in_both_spaces(context)
    active = {suffix: are_active(codes, noise[suffix]) for suffix, codes in spaces.items()}
    scores_by_name: dict[str, list[Tensor]] = {}
    present = torch.zeros(repeats, len(factors), dtype=torch.bool)
    for repeat in range(repeats):
        context.progress(metric, repeat, repeats)
        generator = context.generator(metric, repeat)
        rows = torch.randperm(len(values), generator=generator)[:samples]
        seed = int(torch.randint(2**62, (), generator=generator))
        half = values[rows[: samples // 2]]
        present[repeat] = varies = (half != half[0]).any(dim=0)
        if not varies.any():
            continue
        some = tuple(factor for factor, here in zip(factors, varies, strict=True) if here)
        scored: Scores = {}
        for suffix, codes in spaces.items():
            if not scored or codes is not spaces[""]:
                scored = score(
                    FactorSample(codes[rows], values[rows][:, varies], some, active[suffix], seed)
                )
            for name, of_factors in scored.items():
                every = of_factors
                if of_factors.ndim:  # nan for the factors that do not vary
                    every = torch.full(varies.shape, torch.nan, dtype=torch.float64)
                    every[varies] = of_factors
                scores_by_name.setdefault(f"{name}{suffix}", []).append(every)
    context.progress(metric, repeats, repeats)
    if not scores_by_name:
        raise DpvaeError(
            f"no factor varies in any draw of {samples} examples",
            hint="Raise evaluation.factor_samples, or give more training examples.",
        )
    constant = [factor.name for factor in context.dataset.factors if factor not in factors]
    notes = [f"{name} does not vary and is left out" for name in constant]
    for factor, count in zip(factors, present.sum(dim=0).tolist(), strict=True):
        if count < repeats:
            notes.append(
                f"{factor.name} has one value in {repeats - count} of {repeats} draws and is left "
                "out there"
            )
    names = [factor.name for factor in factors]
    results = []
    for name, repeated in scores_by_name.items():
        by_factor, values_by_repeat = None, torch.stack(repeated)
        if values_by_repeat.ndim == 2:
            means = values_by_repeat.nanmean(dim=0).tolist()
            by_factor = dict(zip(names, means, strict=True))
            values_by_repeat = values_by_repeat.nanmean(dim=1)
        mean = mean_and_error(values_by_repeat)
        results.append(
            context.result(
                name,
                mean.value,
                mean.standard_error if len(values_by_repeat) > 1 else None,
                samples=samples,
                split="train",
                error_terms={"value": error_terms_of_mean(values_by_repeat)},
                repeats=values_by_repeat.tolist(),
                factors=names,
                by_factor=by_factor,
                note="; ".join(notes) or None,
                estimator=ESTIMATORS.get(metric),
            )
        )
    return results
