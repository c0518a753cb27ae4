"""The answer in a paragraph, made from the intervals and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from dpvae_cli.evaluation.metrics import Direction, find_metric
from dpvae_cli.studies.statistics import FALSE_DISCOVERY_RATE, MIN_SEEDS, Comparison, Verdict

MANY = 2
"""Comparisons from which on it matters how many there are."""


@final
@dataclass(frozen=True)
class PairedDifference:
    """A metric of an experiment: one prior minus the baseline.

    `adjusted_p` is the p-value of Student's test, adjusted for all comparisons of the report.
    """

    experiment: str
    metric: str
    prior: str
    baseline: str
    found: Comparison
    adjusted_p: float | None


def conclude(differences: Sequence[PairedDifference], baseline: str) -> list[str]:
    """Return the answer in sentences: for each prior what was compared, then a line a metric."""
    priors = list(dict.fromkeys(each.prior for each in differences))
    if not priors:
        return [
            "No run has a twin: nothing is compared. A pair is the same recipe and seed with the "
            f"{display_name(baseline)} prior and with another."
        ]
    sentences = []
    for prior in priors:
        mine = [each for each in differences if each.prior == prior]
        recipes = len({each.experiment for each in mine})
        pairs = len({(each.experiment, seed) for each in mine for seed in each.found.differences})
        sentences.append(
            f"The {display_name(prior)} prior is compared with the {display_name(baseline)} one in "
            f"{_count(pairs, 'pair')} of runs that differ in nothing else, "
            f"of {_count(recipes, 'recipe')}."
        )
        judged = [d for d in mine if find_metric(d.metric).better is not Direction.NEITHER]
        headline = [d for d in judged if find_metric(d.metric).is_headline] or judged
        for metric in dict.fromkeys(each.metric for each in headline):
            sentences.append(_of_metric(metric, [d for d in headline if d.metric == metric]))
        if all(each.found.verdict is Verdict.TOO_FEW for each in mine):
            sentences.append(
                f"With fewer than {MIN_SEEDS} seeds a recipe these are observations, and no "
                f"verdict: train seeds 0 to {MIN_SEEDS - 1} at least."
            )
    return sentences


def _of_metric(metric: str, differences: Sequence[PairedDifference]) -> str:
    known = find_metric(metric)
    wins, pairs = sum(d.found.wins or 0 for d in differences), sum(d.found.n for d in differences)
    text = f"It has the {known.better.value} (better) {known.title} in {wins} of {pairs} pairs"
    decided = [each for each in differences if each.found.verdict is not Verdict.TOO_FEW]
    if decided:
        agreeing = sum(each.found.is_better for each in decided) or "none"
        recipes = _count(len(decided), "recipe")
        text += f"; the 95 % interval says so for {agreeing} of {recipes}"
    if against := [each.experiment for each in decided if each.found.is_worse]:
        text += f" and the opposite for {', '.join(against)}"
    return f"{text}."


def false_discovery_note(differences: Sequence[PairedDifference]) -> list[str]:
    """Return what is left of the intervals that exclude zero when all comparisons are counted."""
    tested = [each.found for each in differences if each.found.t_test_p is not None]
    if len(tested) < MANY:
        return []
    excluding = sum(each.verdict is not Verdict.UNCLEAR for each in tested)
    adjusted = [each.adjusted_p for each in differences if each.adjusted_p is not None]
    left = sum(p <= FALSE_DISCOVERY_RATE for p in adjusted)
    return [
        f"Of {len(tested)} comparisons in this report the intervals of {excluding} exclude zero; "
        f"{left} of them hold at a false discovery rate of {100 * FALSE_DISCOVERY_RATE:g} %."
    ]


def display_name(prior: str) -> str:
    """Return a prior's name in words."""
    return prior.replace("_", " ")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
