"""The answer in a paragraph, made from the intervals and nothing else."""

from collections.abc import Iterator, Sequence

from dpvae_cli.evaluation.metrics import Direction, find_metric
from dpvae_cli.studies.statistics import FALSE_DISCOVERY_RATE, MIN_SEEDS, Comparison, Verdict

MANY = 2
"""Comparisons from which on it matters how many there are."""
Comparisons = tuple[str, str, str, Comparison]
"""Experiment, metric, prior, comparison with the baseline."""


def conclude(found: Sequence[Comparisons], baseline: str) -> list[str]:
    """Return the answer in sentences: for each prior what was compared, then a line a metric."""
    priors = list(dict.fromkeys(prior for _, _, prior, _ in found))
    if not priors:
        return [
            "No run has a twin: nothing is compared. A pair is the same recipe and seed with the "
            f"{display_name(baseline)} prior and with another."
        ]
    return [sentence for prior in priors for sentence in _of_prior(prior, found, baseline)]


def _of_prior(prior: str, found: Sequence[Comparisons], baseline: str) -> Iterator[str]:
    mine = [
        (experiment, metric, each) for experiment, metric, other, each in found if other == prior
    ]
    experiments = list(dict.fromkeys(experiment for experiment, _, _ in mine))
    pairs = {(experiment, seed) for experiment, _, each in mine for seed in each.differences}
    yield (
        f"The {display_name(prior)} prior is compared with the {display_name(baseline)} one in "
        f"{_count(len(pairs), 'pair')} of runs that differ in nothing else, "
        f"of {_count(len(experiments), 'recipe')}."
    )
    metrics = list(dict.fromkeys(metric for _, metric, _ in mine))
    judged = [metric for metric in metrics if find_metric(metric).better is not Direction.NEITHER]
    headline = [metric for metric in judged if find_metric(metric).is_headline] or judged
    for metric in headline:
        yield _of_metric(
            metric, [(experiment, each) for experiment, m, each in mine if m == metric]
        )
    if all(each.verdict is Verdict.TOO_FEW for _, _, each in mine):
        yield (
            f"With fewer than {MIN_SEEDS} seeds a recipe these are observations, and no verdict: "
            f"train seeds 0 to {MIN_SEEDS - 1} at least."
        )


def _of_metric(metric: str, found: Sequence[tuple[str, Comparison]]) -> str:
    known = find_metric(metric)
    wins, pairs = sum(each.wins or 0 for _, each in found), sum(each.n for _, each in found)
    text = f"It has the {known.better.value} (better) {known.title} in {wins} of {pairs} pairs"
    decided = [(s, each) for s, each in found if each.verdict is not Verdict.TOO_FEW]
    if decided:
        agreeing = sum(each.is_better for _, each in decided) or "none"
        recipes = _count(len(decided), "recipe")
        text += f"; the 95 % interval says so for {agreeing} of {recipes}"
    if against := [experiment for experiment, each in decided if each.is_worse]:
        text += f" and the opposite for {', '.join(against)}"
    return f"{text}."


def false_discovery_note(
    adjusted: Sequence[float | None], found: Sequence[Comparison]
) -> list[str]:
    """Return what is left of the intervals that exclude zero when all comparisons are counted."""
    tested = [each for each in found if each.t_test_p is not None]
    if len(tested) < MANY:
        return []
    excluding = sum(each.verdict is not Verdict.UNCLEAR for each in tested)
    left = sum(p is not None and p <= FALSE_DISCOVERY_RATE for p in adjusted)
    return [
        f"Of {len(tested)} comparisons in this report the intervals of {excluding} exclude zero; "
        f"{left} of them hold at a false discovery rate of {100 * FALSE_DISCOVERY_RATE:g} %."
    ]


def display_name(prior: str) -> str:
    """Return a prior's name in words."""
    return prior.replace("_", " ")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
