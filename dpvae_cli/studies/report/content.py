"""Format-independent content of a report."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from dpvae_cli.evaluation.metrics import Metric, find_metric, is_requested, sort_metrics
from dpvae_cli.foundation.text import sanitize_line
from dpvae_cli.studies import published as published_tables
from dpvae_cli.studies.deviations import deviation_notes, matches_published_settings
from dpvae_cli.studies.grouping import Experiment, group_runs
from dpvae_cli.studies.published import PublishedTable
from dpvae_cli.studies.records import RunRecord
from dpvae_cli.studies.report.conclusion import (
    PairedDifference,
    conclude,
    false_discovery_note,
)
from dpvae_cli.studies.report_inputs import ReportInputs
from dpvae_cli.studies.statistics import Summary, adjust_p_values

CELEBA_TERMS = (
    "This report shows pictures of CelebA or of models trained on it. CelebA is for non-commercial "
    "research only; neither its images nor parts or derived data of it may be copied, published or "
    "passed on. Do not commit, publish or redistribute this file."
)


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
