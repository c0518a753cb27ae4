"""Format-independent content of a report; its answer is made from the intervals alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from dpvae_cli.evaluation.metrics import (
    Direction,
    Metric,
    find_metric,
    is_requested,
    sort_metrics,
)
from dpvae_cli.foundation.text import sanitize_line
from dpvae_cli.studies import published as published_tables
from dpvae_cli.studies.deviations import deviation_notes, matches_published_settings
from dpvae_cli.studies.grouping import Experiment, group_runs
from dpvae_cli.studies.published import PublishedTable
from dpvae_cli.studies.records import ReportInputs, RunRecord
from dpvae_cli.studies.statistics import (
    FALSE_DISCOVERY_RATE,
    MIN_SEEDS,
    Comparison,
    Summary,
    Verdict,
    adjust_p_values,
)

MANY = 2
"""Comparisons from which on it matters how many there are."""

CELEBA_TERMS = (
    "This report shows pictures of CelebA or of models trained on it. CelebA is for non-commercial "
    "research only; neither its images nor parts or derived data of it may be copied, published or "
    "passed on. Do not commit, publish or redistribute this file."
)


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


@final
@dataclass(frozen=True)
class MetricCell:
    """A metric of one prior over its seeds, and the published number beside it.

    `own_error` is the metric's own, of one seed alone; `without_leak` counts the seeds in which no
    draw lies below a leakage score's threshold, which are 0.
    """

    summary: Summary | None
    is_best: bool
    published: float | None
    own_error: float | None = None
    without_leak: int = 0


@final
@dataclass(frozen=True)
class ResultRow:
    """A line of the tables: an experiment with one prior, its cells by metric."""

    experiment: str
    prior: str
    seeds: tuple[int, ...]
    cells: Mapping[str, MetricCell]


@final
@dataclass(frozen=True)
class Content:
    """All that a report says; `experiments` hold the runs that pictures and recipes come from."""

    title: str
    question: str | None
    baseline: str
    answer: tuple[str, ...]
    notices: tuple[str, ...]
    terms: tuple[str, ...]
    metrics: tuple[str, ...]
    units: Mapping[str, str]
    lines: tuple[ResultRow, ...]
    differences: tuple[PairedDifference, ...]
    published: PublishedTable | None
    experiments: tuple[Experiment, ...]
    runs: tuple[RunRecord, ...]
    figures: tuple[Path, ...]

    @property
    def facts(self) -> dict[str, Metric]:
        """Return what is known of the metrics shown."""
        return {metric: find_metric(metric) for metric in self.metrics}

    @property
    def headline(self) -> tuple[str, ...]:
        """Return the metrics of the first table; all, where none of them is a headline."""
        found = tuple(metric for metric in self.metrics if find_metric(metric).is_headline)
        return found or self.metrics

    @property
    def further(self) -> tuple[str, ...]:
        """Return the metrics of the second table."""
        return tuple(metric for metric in self.metrics if metric not in self.headline)

    @property
    def with_published(self) -> tuple[str, ...]:
        """Return the metrics beside which a published number stands."""
        return tuple(
            metric
            for metric in self.metrics
            if any(line.cells[metric].published is not None for line in self.lines)
        )

    @property
    def comparisons(self) -> int:
        """Return how many comparisons have an interval."""
        return sum(each.found.t_test_p is not None for each in self.differences)

    @property
    def unfinished_runs(self) -> tuple[RunRecord, ...]:
        """Return the runs whose numbers are in no table."""
        return tuple(run for run in self.runs if not run.counts)


def compose_report(records: Sequence[RunRecord], inputs: ReportInputs) -> Content:
    """Return what a report of these runs says."""
    experiments, left_out = group_runs(records)
    counted = []
    for each in experiments:
        measured = {
            prior: {seed: run for seed, run in by_seed.items() if run.counts}
            for prior, by_seed in each.runs.items()
        }
        if kept := {prior: by_seed for prior, by_seed in measured.items() if by_seed}:
            counted.append(Experiment(each.label, each.recipe, kept))
    table = published_tables.read_published(inputs.published) if inputs.published else None
    found = {metric for experiment in counted for metric in experiment.comparable}
    wanted = inputs.metrics
    if wanted is not None:
        found = {m for m in found if m in wanted or is_requested(m, wanted)} or found
    shown = sort_metrics(found)
    compared = [
        (experiment.label, metric, prior, inputs.baseline, comparison)
        for metric in shown
        for experiment in counted
        if inputs.baseline in experiment.runs
        for prior in experiment.priors
        if prior != inputs.baseline
        and (comparison := experiment.compare(metric, prior, baseline=inputs.baseline)) is not None
    ]
    adjusted = adjust_p_values([comparison.t_test_p for *_, comparison in compared])
    differences = tuple(PairedDifference(*c, p) for c, p in zip(compared, adjusted, strict=True))
    shows_faces = any(r.recipe is not None and r.recipe.data.kind == "celeba" for r in records)
    return Content(
        title=sanitize_line(inputs.title),
        question=sanitize_line(inputs.question) if inputs.question else None,
        baseline=inputs.baseline,
        answer=(*conclude(differences, inputs.baseline), *false_discovery_note(differences)),
        notices=tuple(
            dict.fromkeys([*map(sanitize_line, inputs.notes), *deviation_notes(counted), *left_out])
        ),
        terms=(CELEBA_TERMS,) if shows_faces else (),
        metrics=tuple(shown),
        units={m: next(filter(None, (e.unit(m) for e in counted)), "") for m in shown},
        lines=tuple(_lines(counted, shown, table)),
        differences=differences,
        published=table,
        experiments=tuple(experiments),
        runs=tuple(records),
        figures=inputs.figures,
    )


def _lines(
    experiments: Sequence[Experiment], metrics: Sequence[str], table: PublishedTable | None
) -> Iterator[ResultRow]:
    for experiment in experiments:
        data, regularizer = experiment.recipe.data.kind, experiment.recipe.regularizer.kind
        for prior in experiment.priors:
            cells = {
                metric: MetricCell(
                    experiment.summary(metric, prior),
                    experiment.is_best(metric, prior),
                    table.value(metric, data=data, regularizer=regularizer, prior=prior)
                    if table is not None and matches_published_settings(experiment, metric, prior)
                    else None,
                    experiment.own_error(metric, prior),
                    experiment.without_leak(metric, prior),
                )
                for metric in metrics
            }
            yield ResultRow(experiment.label, prior, tuple(sorted(experiment.runs[prior])), cells)


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
